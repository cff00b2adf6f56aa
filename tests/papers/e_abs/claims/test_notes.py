"""What claims compare, on which images, and what they say about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import Estimate, mcnemar, proportion_difference
from robustgen.papers.e_abs.claims.inference import pairs, pgd_in_both
from robustgen.papers.e_abs.claims.paired import deciding
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy

Variant = Callable[..., Measured]
Decide = Callable[[Measured], dict[str, Claim]]


def test_an_error_of_an_image_itself_is_below_no_bound(right: Measured, changed: Variant, decide: Decide) -> None:
    for natural, count in ((True, 1), (False, 0)):

        def nearer(study: AttackStudy, natural: bool = natural) -> dict[str, Any]:
            right, distance = study.natural.copy(), study.arrays["distance"].copy()
            right[0], distance[:, 0] = natural, 0.1
            robust = study.arrays["robust"] & (np.arange(len(right)) > 0)
            return {"natural_correct": right, "robust": robust, "distance": distance}

        assert decide(changed(right, "mnist", "abs", nearer))["mnist-bound-of-abs-stands"].value == count


def test_a_large_bound_is_the_largest_of_pgd(right: Measured, changed: Variant, decide: Decide) -> None:
    """Larger than the tables', at which E-ABS keeps most of its accuracy here; DeepFool's is larger still."""

    def larger(study: AttackStudy) -> dict[str, Any]:
        first, robust, eps = study.point(attack="pgd", norm="linf"), study.arrays["robust"], study.arrays["eps"]
        found: dict[str, Any] = {"robust": robust.copy(), "eps": np.append(eps, 0.4)}
        found["robust"][first] = study.natural
        found["eps"][study.point(attack="deepfool", norm="linf")] = 0.9
        found["robust"] = np.concatenate([found["robust"], robust[:1] & False])
        names = ("attack", "norm", "steps", "restarts", "draws", "chosen", "seen", "distance")
        return found | {name: np.concatenate([study[name], study[name][[first]]]) for name in names}

    claim = decide(changed(right, "mnist", "e_abs", larger))["mnist-linf-large-bound-e-abs"]
    assert (claim.verdict, claim.value) == ("holds", pytest.approx(0.99))
    assert "PGD, L∞ eps 0.4" in claim.note


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


def test_attacks_that_not_all_models_saw_are_named(
    right: Measured, only: Callable[..., AttackStudy], decide: Decide
) -> None:
    without = only(right.mnist.abs, lambda study: study.arrays["attack"] != "ddn")
    found = replace(right, mnist=replace(right.mnist, abs=without))
    note = decide(found)["mnist-l2-comparable-to-abs"].note
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
    right: Measured, only: Callable[..., AttackStudy], decide: Decide
) -> None:
    assert "under PGD, the strongest single attack" in decide(right)["gradient-free-l2-weaker"].quantity
    without = only(right.gradient_free.study, lambda each: each.arrays["attack"] != "pgd")
    left = decide(replace(right, gradient_free=replace(right.gradient_free, study=without)))
    assert not [name for name in left if name.startswith("gradient-free-")]


def test_attacks_without_gradients_need_a_tenth_of_the_papers_queries(
    right: Measured, variant: Variant, changed: Variant, decide: Decide
) -> None:
    names = ("gradient-free-l2-weaker", "gradient-free-l2-finds-nothing-new")

    def fewer(study: AttackStudy) -> dict[str, Any]:
        return {"steps": np.where(study.arrays["attack"] == "boundary", 9999, study.arrays["steps"])}

    for found, verdict in ((right, "holds"), (variant(boundary=0.3), "fails")):
        before, after = decide(found), decide(changed(found, "gradient_free", "study", fewer))
        for name in names:
            assert (before[name].verdict, after[name].verdict) == (verdict, "not decided")
            assert after[name].value == before[name].value
            assert after[name].note.endswith("9,999 queries where the paper's steps ask 100,000 decide nothing.")
        assert after["gradient-free-linf-weaker"] == before["gradient-free-linf-weaker"]


def test_estimates_from_few_queries_decide_nothing(
    right: Measured, altered: Callable[..., AttackStudy], decide: Decide
) -> None:
    study = right.gradient_free.study
    assert study is not None
    for queries, verdict in ((10, "holds"), (8, "not decided")):
        each = altered(study, {"details": {**study.config["details"], "queries": queries}})
        found = decide(replace(right, gradient_free=replace(right.gradient_free, study=each)))
        claim = found["gradient-free-linf-weaker"]
        assert claim.verdict == verdict
        assert ("400 queries where the paper's steps ask 5,000" in claim.note) == (queries == 8)


def test_recipes_that_differ_besides_the_extensions_are_told(
    right: Measured, altered: Callable[..., AttackStudy], decide: Decide
) -> None:
    names = ("ablation-all-three-needed-clean", "ablation-a-abs-beside-abs", "ablation-dv-abs-beside-d-abs")
    assert not any("recipes of their own" in decide(right)[name].note for name in names)
    trained = {**right.ablation.a.config["trained"], "beta": 0.1, "epochs": 36}
    other = replace(right, ablation=replace(right.ablation, a=altered(right.ablation.a, {"trained": trained})))
    found = [decide(other)[name].note for name in names]
    assert ["recipes of their own, see Sec. 4.3's table: epochs, β." in note for note in found] == [True, True, False]


def test_numbers_of_the_paper_that_miss_its_own_claim_are_told(right: Measured, decide: Decide) -> None:
    """By Table 1, 16.5 % are E-ABS's and 90.3 % those of adversarial training."""
    decided = decide(right)
    assert "16.5 and 90.3 %, Table 1 (L∞ eps 0.3), which miss it too. " in (
        decided["mnist-linf-comparable-to-adversarial-training"].note
    )
    assert "miss it" not in decided["mnist-l2-comparable-to-adversarial-training"].note


def test_of_several_estimates_one_that_fails_decides() -> None:
    """Though the interval of another reaches lower."""
    against = {"wide": Estimate(-0.05, -0.3, 0.2, 9), "sure": Estimate(-0.1, -0.2, -0.01, 9)}
    above = Condition(">", 0)
    assert deciding(against, above)[0] == "sure"
    assert deciding({**against, "sure": Estimate(0.1, 0.02, 0.2, 9)}, above)[0] == "wide"
    holding = {"far": Estimate(0.5, 0.4, 0.6, 9), "near": Estimate(0.2, 0.1, 0.3, 9)}
    assert deciding(holding, above)[0] == "near"
    assert deciding(holding, Condition("<", 0.7))[0] == "far"
    assert deciding(holding, Condition("<", 0.35))[0] == "far"


def test_published_numbers_are_compared_on_the_papers_data_alone(
    variant: Variant, changed: Variant, decide: Decide
) -> None:
    def at_the_papers_radius(study: AttackStudy) -> dict[str, Any]:
        return {"eps": np.where(study.arrays["norm"] == "linf", 8 / 255, 0.2)}

    for accuracy, verdict in ((0.7, "holds"), (0.4, "fails")):
        found = variant(svhn={"e_abs": (0.955, accuracy, accuracy + 0.1)}, dataset="SVHN")
        decided = decide(changed(found, "svhn", "e_abs", at_the_papers_radius))
        assert decided["svhn-state-of-the-art"].verdict == verdict
        assert decided["svhn-state-of-the-art"].condition == "> 0.5559"
        traffic = decide(changed(found, "supertraffic", "e_abs", at_the_papers_radius))
        assert traffic["supertraffic-10-state-of-the-art"].verdict == verdict
        assert "svhn-state-of-the-art" not in decide(found)  # another radius
    other = changed(variant(), "svhn", "e_abs", at_the_papers_radius)
    assert "svhn-state-of-the-art" not in decide(other)  # another data set


def test_pairs_share_all_but_an_option_of_inference(right: Measured, altered: Callable[..., AttackStudy]) -> None:
    few, _, apart, many, _ = right.sensitivity.studies
    assert list(pairs({"many": many, "apart": apart, "few": few}, "draws")) == [(few, many)]
    for config in ({"seed": 1}, {"details": {"step": 1.0}}, {"inference": {**many.config["inference"], "lr": 0.1}}):
        assert list(pairs({"few": few, "many": altered(many, config)}, "draws")) == []
    for config in ({"details": {"searches": 9}}, {"bound": True}, {"attack": ["pgd", "cw"]}, {"shown": 7}):
        other = altered(many, config)
        assert list(pairs({"few": few, "many": other}, "draws")) == [(few, other)]


def test_iterations_are_compared_at_points_that_both_have(right: Measured, decide: Decide) -> None:
    """The first study has PGD of 100 steps, too, which leaves less."""
    few, *_, many = right.sensitivity.studies
    assert few.robust(0).mean() == 0.5
    decided = decide(right)
    for norm in ("linf", "l2"):
        found = pgd_in_both(few, many, norm)
        assert found is not None
        assert few.options(found[0]) == many.options(found[1])
        claim = decided[f"inference-more-iterations-better-{norm}"]
        assert claim.value == pytest.approx(0.65 - 0.55)
        assert "100 steps" not in claim.note


def test_without_a_common_point_no_claim(right: Measured, altered: Callable[..., AttackStudy], decide: Decide) -> None:
    *others, many = right.sensitivity.studies
    apart = altered(many, steps=many.arrays["steps"] + 1)
    section = replace(right.sensitivity, studies=(*others, apart))
    decided = decide(replace(right, sensitivity=section))
    assert [name for name in decided if "iterations" in name] == ["inference-more-iterations-better-clean"]


def test_curves_tell_the_settings_of_all_that_they_average(
    right: Measured, altered: Callable[..., AttackStudy], decide: Decide
) -> None:
    e_abs = right.curve.e_abs
    assert e_abs is not None
    steps = np.where(e_abs.arrays["eps"] == 0.05, 40, 80)
    found = replace(right, curve=replace(right.curve, e_abs=altered(e_abs, steps=steps)))
    claim = decide(found)["curve-linf-e-abs-above-all"]
    assert "PGD: 40 or 80 steps, 5 random starts, 5 EOT samples. Variational inference" in claim.note
    assert "PGD: 80 steps" in decide(found)["curve-linf-all-models-fall"].note
