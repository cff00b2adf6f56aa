import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from robustgen.defenses.threshold import accepting_threshold, fit_threshold
from robustgen.errors import UserError

RULES = {"g-mean": lambda tpr, fpr: np.sqrt(tpr * (1 - fpr)), "youden": lambda tpr, fpr: tpr - fpr}
# Whole numbers make ties; all exact in float64.
sets = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=15).map(np.array)


def quality(rule, natural, adversarial, threshold):
    return RULES[rule]((adversarial <= threshold).mean(), (natural <= threshold).mean())


@pytest.mark.parametrize("rule", RULES)
@given(natural=sets, adversarial=sets)
def test_reaches_the_optimum_of_the_roc_curve(rule, natural, adversarial):
    threshold = fit_threshold(natural, adversarial, rule)
    labels = np.repeat([0, 1], [len(natural), len(adversarial)])
    fpr, tpr, _ = roc_curve(labels, -np.concatenate([natural, adversarial]), drop_intermediate=False)
    assert math.isfinite(threshold)
    assert quality(rule, natural, adversarial, threshold) == pytest.approx(RULES[rule](tpr, fpr).max())


@pytest.mark.parametrize("rule", RULES)
@given(natural=sets, adversarial=sets)
def test_among_equals_flags_fewest_natural_images(rule, natural, adversarial):
    threshold = fit_threshold(natural, adversarial, rule)
    best = quality(rule, natural, adversarial, threshold)
    values = np.unique(np.concatenate([natural, adversarial]))
    equal = [v for v in values if quality(rule, natural, adversarial, v) >= best - 1e-9]
    rates = [(natural <= v).mean() for v in equal]
    assert (natural <= threshold).mean() <= min(rates, default=1.0)


@pytest.mark.parametrize("rule", RULES)
def test_separated_scores_are_split_in_the_middle(rule):
    assert fit_threshold(torch.tensor([2.0, 5.0]), torch.tensor([-3.0, 1.0]), rule) == 1.5


def test_the_rules_differ():
    # Flagging {0} gives TPR .5, FPR 0; flagging {0, 1, 2} gives TPR .9, FPR .4: Youden ties, the G-mean does not.
    adversarial = np.repeat([0.0, 2.0, 9.0], [5, 4, 1])
    natural = np.repeat([1.0, 8.0], [4, 6])
    assert fit_threshold(natural, adversarial, "youden") == 0.5
    assert fit_threshold(natural, adversarial, "g-mean") == 5.0


def test_direction_is_fixed():
    threshold = fit_threshold(np.zeros(4), np.ones(4), "youden")
    assert threshold < 0  # reversed scores: nothing is flagged, the rule is not turned round
    assert math.isfinite(threshold)


def test_neighbouring_floats_are_split():
    low = -15.23
    high = float(np.nextafter(low, 0))
    assert low <= fit_threshold(np.array([high]), np.array([low])) < high


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf]])
def test_unusable_scores(bad):
    for pair in ((np.array(bad), np.ones(2)), (np.ones(2), np.array(bad))):
        with pytest.raises(UserError, match="finite"):
            fit_threshold(*pair)


def test_unknown_rule():
    with pytest.raises(UserError, match="g-mean, youden"):
        fit_threshold(np.ones(2), np.zeros(2), "f1")


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), share=st.sampled_from([0.01, 0.07, 0.5, 0.9, 0.95, 1.0]))
def test_accepting_threshold_is_the_largest_of_its_share(seed, n, share):
    values = np.random.default_rng(seed).integers(-9, 9, n) / 4  # with ties
    threshold = accepting_threshold(values, share)
    assert (values >= threshold).mean() >= share - 1e-12
    above = values[values > threshold]
    if len(above):
        assert (values >= above.min()).mean() < share
    assert threshold in values


def test_accepting_threshold_counts_without_rounding():
    values = np.arange(100, dtype=np.float32)
    assert accepting_threshold(values) == 5
    assert accepting_threshold(torch.from_numpy(values), 0.07) == 93  # though 0.07 · 100 is a little more than 7
    assert accepting_threshold(values, 1) == 0
    fine = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert (fine >= accepting_threshold(fine)).mean() == 0.95  # a float32 logit is met by its double


def test_accepting_threshold_names_what_is_wrong():
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(UserError, match="give a share of images above 0, up to 1"):
            accepting_threshold(np.ones(3), share)
    for scores in (np.zeros(0), np.array([1.0, math.nan])):
        with pytest.raises(UserError, match="needs finite natural scores"):
            accepting_threshold(scores)
