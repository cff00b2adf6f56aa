from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from robustgen.errors import UserError
from robustgen.evaluation.detection import (
    accepted_logits,
    accuracy,
    decide,
    false_positive_rate,
    rates,
    true_positive_rate,
)
from robustgen.evaluation.statistics import auc, proportion

PREDICTED = np.array([0, 1, 2, 0, 1, 2])
LOGIT = np.array([3.0, 2.0, 1.0, 0.0, -1.0, -2.0], np.float32)
LABELS = np.array([0, 1, 0, 1, 1, 0])  # right, right, wrong, wrong, right, wrong


def logits(seed: int, n: int = 50, classes: int = 4) -> np.ndarray:
    """With ties, as float32."""
    return np.random.default_rng(seed).integers(-8, 8, (n, classes)).astype(np.float32) / 2


def test_decisions_by_hand() -> None:
    z_f = np.array([[2.0, 1, 0], [0, 1, 2]], np.float32)
    z_h = np.array([[-1.5, 5, 0.9], [3, -4, -0.7]], np.float32)
    predicted, logit = decide(z_f, z_h)
    assert predicted.tolist() == [0, 2]
    assert logit.dtype == np.float32  # not truncated to whole numbers, as in the released code
    np.testing.assert_array_equal(logit, np.array([-1.5, -0.7], np.float32))
    predicted, logit = decide(z_h, z_h)
    assert predicted.tolist() == [1, 0]
    assert logit.tolist() == [5, 3]


def test_rates_by_hand() -> None:
    assert true_positive_rate(LOGIT, 0.0) == proportion(4, 6)  # at the threshold is accepted
    assert false_positive_rate(PREDICTED, LOGIT, LABELS, 0.0) == proportion(2, 6)  # of all, not of the wrong ones
    assert false_positive_rate(PREDICTED, LOGIT, LABELS, 0.5) == proportion(1, 6)
    assert accuracy(PREDICTED, LOGIT, LABELS, -0.5) == proportion(2, 6)
    assert accepted_logits(PREDICTED, LOGIT, LABELS).tolist() == [-math.inf, -math.inf, 1, 0, -math.inf, -2]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40))
def test_curves_are_the_single_rates(seed: int, n: int) -> None:
    z_h, y = logits(seed, n), np.random.default_rng(seed).integers(0, 4, n)
    predicted, logit = decide(logits(seed + 1, n), z_h)
    thresholds = np.array([5, -9, *np.unique(logit), 0.25, -math.inf, math.inf])
    found = rates(predicted, logit, y, thresholds)
    np.testing.assert_array_equal(found.accepted, [true_positive_rate(logit, t).value for t in thresholds])
    np.testing.assert_array_equal(found.right, [accuracy(predicted, logit, y, t).value for t in thresholds])
    np.testing.assert_array_equal(found.wrong, [false_positive_rate(predicted, logit, y, t).value for t in thresholds])
    np.testing.assert_allclose(found.right + found.wrong, found.accepted)
    breaking = accepted_logits(predicted, logit, y)
    finite = np.isfinite(thresholds)
    np.testing.assert_array_equal((breaking >= thresholds[finite, None]).mean(1), found.wrong[finite])
    order = np.argsort(thresholds)
    assert (np.diff(found.wrong[order]) <= 0).all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), m=st.integers(1, 40))
def test_auc_is_scikit_learn_s_with_ties(seed: int, n: int, m: int) -> None:
    """Positive are the clean images of the class, as in Sec. 4.1."""
    clean, attacked = logits(seed, n)[:, 0] + 1, logits(seed + 1, m)[:, 0]
    truth = np.repeat([1, 0], [n, m])
    expected = roc_auc_score(truth, np.concatenate([clean, attacked]))
    assert auc(clean, attacked).value == pytest.approx(expected, abs=1e-12)


def test_what_the_user_can_mend() -> None:
    with pytest.raises(UserError, match=r"logits must both be \(N, K\), not \(3, 2\) and \(3, 4\)"):
        decide(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(UserError, match=r"logits must both be \(N, K\), not \(3,\) and \(3,\)"):
        decide(np.zeros(3), np.zeros(3))
    with pytest.raises(UserError, match=r"logits are NaN; train their network again, with a smaller --recipe\.lr"):
        decide(np.zeros((1, 2)), np.array([[0, math.nan]]))
    with pytest.raises(UserError, match=r"rates need vectors of one length, at least 1, not \(0,\)"):
        true_positive_rate(np.zeros(0), 0.0)
    with pytest.raises(UserError, match=r"rates need vectors of one length, at least 1, not \(6,\), \(6,\), \(5,\)"):
        false_positive_rate(PREDICTED, LOGIT, LABELS[:5], 0.0)
    with pytest.raises(UserError, match="logits are NaN; train their network again"):
        rates(PREDICTED, LOGIT * np.float32(math.nan), LABELS, np.zeros(1))
