"""What claims compare, on which images, and what they say about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import mcnemar, proportion_difference
from robustgen.papers.e_abs.measured import Measured, Sensitivity
from robustgen.papers.e_abs.study import AttackStudy

Variant = Callable[..., Measured]
Decide = Callable[[Measured], dict[str, Claim]]
POINTS = ("attack", "norm", "eps", "steps", "restarts", "draws", "robust", "seen", "distance", "shown_adversarial",
          "shown_predicted")  # fmt: skip


def only(study: AttackStudy, kept: np.ndarray) -> dict[str, Any]:
    """The arrays of some of a study's grid points."""
    return {name: study.arrays[name][kept] for name in POINTS}


def test_an_error_of_an_image_itself_is_below_no_bound(right: Measured, changed: Variant, decide: Decide) -> None:
    def unsure(study: AttackStudy) -> dict[str, Any]:
        control, distance = study.control.copy(), study.arrays["distance"].copy()
        control[0], distance[:, 0] = False, 0
        return {"control_correct": control, "distance": distance}

    found = changed(right, "mnist", "e_abs", unsure)
    assert decide(found)["mnist-bound-of-e-abs-stands"].value == 0


def test_samples_that_mislead_are_counted_among_all_images(right: Measured, decide: Decide) -> None:
    assert right.sweeps.eot is not None
    study = right.sweeps.eot
    false = study.natural & study.robust(study.point(attack="pgd", norm="linf", draws=1))
    assert decide(right)["eot-fewer-mislead-the-attack"].value == pytest.approx(false.mean())


def test_every_claim_says_where_what_and_how(right: Measured, decide: Decide) -> None:
    for claim in decide(right).values():
        assert None not in (claim.value, claim.low, claim.high)
        assert claim.low <= claim.value <= claim.high  # type: ignore[operator]
        assert claim.n
        assert claim.source
        assert claim.note
        assert "  " not in claim.note
        assert claim.note == claim.note.strip()


def test_differences_are_paired_and_tested(right: Measured, decide: Decide) -> None:
    claim = decide(right)["mnist-l2-comparable-to-abs"]
    ours, theirs = (right.mnist.models[name].worst("l2") for name in ("E-ABS", "ABS"))
    expected = proportion_difference(ours, theirs)
    assert (claim.value, claim.low, claim.high, claim.n) == (expected.value, expected.low, expected.high, expected.n)
    assert f"McNemar p = {mcnemar(ours, theirs):.2g}." in claim.note
    assert "E-ABS 70.0%, ABS 60.0% of 400 images" in claim.note
    assert "On digits 16×16 in place of MNIST." in claim.note
    assert "The paper's: 90.4 and 73.7 %, Table 1" in claim.note
    assert "Worst of, at L2 eps 1.5: PGD, DDN, CW, DeepFool, noise." in claim.note
    assert "in place of" not in decide(right)["fashion-mnist-l2-comparable-to-abs"].note


def test_attacks_that_not_all_models_saw_are_named(right: Measured, changed: Variant, decide: Decide) -> None:
    def without_ddn(study: AttackStudy) -> dict[str, Any]:
        return only(study, study.arrays["attack"] != "ddn")

    note = decide(changed(right, "mnist", "abs", without_ddn))["mnist-l2-comparable-to-abs"].note
    assert "on E-ABS: PGD, DDN, CW, DeepFool, noise; on ABS: PGD, CW, DeepFool, noise." in note


def test_images_are_compared_with_themselves(right: Measured, changed: Variant, decide: Decide) -> None:
    def moved(study: AttackStudy) -> dict[str, Any]:
        return {"indices": study.indices + 100}

    claim = decide(changed(right, "mnist", "abs", moved))["mnist-l2-comparable-to-abs"]
    assert claim.n == 300
    assert claim.value == pytest.approx((180 - 240) / 300)  # ours: images 100 to 279; theirs: their first 240


def test_few_images_decide_little(variant: Variant, decide: Decide) -> None:
    decided = decide(variant(n=10))
    assert decided["mnist-clean-near-cnn"].verdict == "not decided"
    assert decided["eot-enough"].verdict == "not decided"


def test_sweeps_without_the_papers_value_take_the_last_but_one(variant: Variant, decide: Decide) -> None:
    claim = decide(variant(steps={2: 0.8, 5: 0.6, 10: 0.6}))["steps-enough"]
    assert claim.quantity.startswith("accuracy under L∞ PGD, 5 − 10 steps")
    assert "here 5" in claim.statement
    assert decide(variant())["steps-enough"].statement == "SVHN: PGD achieves its best results with 50 steps"
    assert "steps-enough" not in decide(variant(steps={50: 0.6}))


def test_a_curve_of_one_radius_has_no_large_one(variant: Variant, decide: Decide) -> None:
    decided = decide(variant(radii={"linf": (0.1,), "l2": (1.5,)}))
    assert "curve-linf-all-models-fall" not in decided
    assert "curve-linf-e-abs-above-all" in decided


def test_the_curve_is_compared_with_its_best_rival(right: Measured, decide: Decide) -> None:
    claim = decide(right)["curve-linf-e-abs-above-all"]
    assert "the difference is to Adv-L∞." in claim.note
    assert right.curve.models["E-ABS"].radii("pgd", "linf") == [0.05, 0.1, 0.2, 0.5]
    means = {
        name: np.mean([study.robust(study.point(attack="pgd", norm="linf", eps=eps)).mean()
                       for eps in (0.05, 0.1, 0.2, 0.5)])
        for name, study in right.curve.models.items()
    }  # fmt: skip
    assert claim.value == pytest.approx(means["E-ABS"] - means["Adv-L∞"])


def test_gradient_free_attacks_are_beside_the_strongest_other(
    right: Measured, changed: Variant, decide: Decide
) -> None:
    assert "under PGD, the strongest single attack" in decide(right)["gradient-free-l2-weaker"].quantity
    left = decide(changed(right, "gradient_free", "study", lambda each: only(each, each.arrays["attack"] != "pgd")))
    assert not [name for name in left if name.startswith("gradient-free-")]


def test_published_numbers_are_compared_on_the_papers_data_alone(
    variant: Variant, changed: Variant, decide: Decide
) -> None:
    def at_the_papers_radius(study: AttackStudy) -> dict[str, Any]:
        return {"eps": np.where(study.arrays["norm"] == "linf", 8 / 255, 0.2)}

    for accuracy, verdict in ((0.7, "holds"), (0.4, "fails")):
        e_abs = SimpleNamespace(clean=0.955, linf=accuracy, l2=accuracy + 0.1)
        found = variant(svhn={"e_abs": e_abs}, dataset="SVHN")
        decided = decide(changed(found, "svhn", "e_abs", at_the_papers_radius))
        assert decided["svhn-state-of-the-art"].verdict == verdict
        assert decided["svhn-state-of-the-art"].condition == "> 0.5559"
        traffic = decide(changed(found, "supertraffic", "e_abs", at_the_papers_radius))
        assert traffic["supertraffic-10-state-of-the-art"].verdict == verdict
        assert "svhn-state-of-the-art" not in decide(found)  # another radius
    other = changed(variant(), "svhn", "e_abs", at_the_papers_radius)
    assert "svhn-state-of-the-art" not in decide(other)  # another data set


def inferring(study: AttackStudy, clean: float, **inference: Any) -> AttackStudy:
    """A study whose inference was set otherwise, and so large a share right, with and without attack."""
    config = {**study.config, "out": f"{inference}.npz", "inference": {**study.config["inference"], **inference}}
    right = np.arange(len(study.labels)) < round(clean * len(study.labels))
    robust = np.broadcast_to(right, study.arrays["robust"].shape)
    arrays = {"natural_correct": right, "robust": robust, "config": np.array(json.dumps(config))}
    return AttackStudy(study.name, {**study.arrays, **arrays})


def sensitive(right: Measured, **studies: AttackStudy) -> Measured:
    section = Sensitivity(dataset="digits 16×16", studies=tuple(studies.values()), labels=tuple(studies))
    return replace(right, sensitivity=section)


@pytest.mark.parametrize(("many", "verdict"), [(0.9, "holds"), (0.8, "fails")])
def test_more_iterations_are_better(many: float, verdict: str, right: Measured, decide: Decide) -> None:
    base = right.sensitivity.studies[0]
    found = sensitive(right, few=inferring(base, 0.85, iterations=5), more=inferring(base, many, iterations=50))
    decided = {name: claim for name, claim in decide(found).items() if name.startswith("inference-")}
    assert set(decided) == {f"inference-more-iterations-better-{kind}" for kind in ("clean", "linf", "l2")}
    for claim in decided.values():
        assert claim.verdict == verdict
        assert claim.value == pytest.approx(many - 0.85)


@pytest.mark.parametrize(("many", "verdict"), [(0.85, "holds"), (0.95, "fails")])
def test_one_sample_is_enough(many: float, verdict: str, right: Measured, decide: Decide) -> None:
    base = right.sensitivity.studies[0]
    found = sensitive(right, one=inferring(base, 0.85, draws=1), five=inferring(base, many, draws=5))
    assert decide(found)["inference-one-sample-enough"].verdict == verdict
    apart = sensitive(right, one=inferring(base, 0.85, draws=1), five=inferring(base, many, draws=5, lr=0.1))
    assert "inference-one-sample-enough" not in decide(apart)  # they differ in more than that
