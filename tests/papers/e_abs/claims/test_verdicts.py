"""Every claim holds where the paper is right, fails where it is wrong, and is left out where data are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from robustgen.evaluation.rows import Claim
from robustgen.papers.e_abs.claims import claims
from robustgen.papers.e_abs.measured import Ablation, Comparison, GradientFree, Measured, Sensitivity, Sweeps
from robustgen.papers.e_abs.study import AttackStudy

Levels = tuple[float, float, float]  # clean accuracy, under L∞ and under L2 attacks
Variant = Callable[..., Measured]
Decide = Callable[[Measured], dict[str, Claim]]


def simple(**changed: Levels) -> dict[str, Any]:
    return {"mnist": changed}


def complex_(**changed: Levels) -> dict[str, Any]:
    return {"svhn": changed}


def parts(**changed: Levels) -> dict[str, Any]:
    return {"ablation": changed}


class Fewer(NamedTuple):
    """What E-ABS has right with more iterations of inference."""

    clean: float
    linf: float


CONTRADICTED = {  # what the paper says and its own tables do not, or what the made data sets have in common
    "mnist-linf-comparable-to-adversarial-training",
    "fashion-mnist-linf-comparable-to-adversarial-training",
    "supertraffic-10-clean-below-cnn",
}
FEW_RADII = {"radii": {"linf": (0.05, 0.1), "l2": (0.5, 1.5)}}


# For every claim a world in which it is wrong; of MNIST and Fashion-MNIST, and of SuperTraffic-10 and SVHN.
VIOLATED_SIMPLE: dict[str, dict[str, Any]] = {
    "clean-near-cnn": simple(e_abs=(0.9, 0.2, 0.7)),
    "clean-at-least-abs": simple(e_abs=(0.8, 0.2, 0.7)),
    "clean-adv-linf-as-e-abs": simple(adv_linf=(0.9, 0.8, 0.5)),
    "clean-adv-l2-as-e-abs": simple(adv_l2=(0.9, 0.05, 0.6)),
    "linf-above-cnn": simple(cnn=(0.99, 0.5, 0.4)),
    "l2-above-cnn": simple(cnn=(0.99, 0, 0.9)),
    "linf-comparable-to-abs": simple(abs=(0.96, 0.4, 0.6)),
    "l2-comparable-to-abs": simple(abs=(0.96, 0.1, 0.9)),
    "l2-comparable-to-adversarial-training": simple(adv_l2=(0.985, 0.05, 0.9)),
    "linf-adv-linf-above-adv-l2": simple(adv_l2=(0.985, 0.95, 0.6)),
    "l2-adv-l2-above-adv-linf": simple(adv_linf=(0.985, 0.9, 0.8)),
    "bound-of-abs-stands": {"below_bound": 1},
    "bounds-as-of-abs": {"bound": 0.05},
    "linf-attack-is-not-misled": {"unconfirmed": 0.15},
    "l2-attack-is-not-misled": {"unconfirmed": 0.2},
}
VIOLATED_MNIST: dict[str, dict[str, Any]] = {
    "linf-adv-linf-above-e-abs": simple(adv_linf=(0.985, 0.1, 0.5)),
    "linf-e-abs-above-adv-l2": simple(adv_l2=(0.985, 0.5, 0.6)),
    "l2-e-abs-above-adv-linf": simple(adv_linf=(0.985, 0.9, 0.9)),
    "l2-e-abs-above-adv-l2": simple(adv_l2=(0.985, 0.05, 0.9)),
    "linf-large-bound-abs": simple(abs=(0.96, 0.8, 0.6)),
    "linf-large-bound-e-abs": simple(e_abs=(0.99, 0.8, 0.7)),
}
VIOLATED_COMPLEX: dict[str, dict[str, Any]] = {
    "clean-above-abs": complex_(abs=(0.99, 0.1, 0.05)),
    "clean-adv-linf-as-e-abs": complex_(adv_linf=(0.8, 0.4, 0.1)),
    "clean-adv-l2-as-e-abs": complex_(adv_l2=(0.8, 0.25, 0.2)),
    "linf-above-cnn": complex_(cnn=(0.96, 0.9, 0)),
    "l2-above-cnn": complex_(cnn=(0.96, 0, 0.9)),
    "linf-e-abs-above-abs": complex_(abs=(0.9, 0.8, 0.05)),
    "linf-e-abs-above-adv-linf": complex_(adv_linf=(0.95, 0.9, 0.1)),
    "linf-e-abs-above-adv-l2": complex_(adv_l2=(0.95, 0.9, 0.2)),
    "l2-e-abs-above-abs": complex_(abs=(0.9, 0.1, 0.8)),
    "l2-e-abs-above-adv-linf": complex_(adv_linf=(0.95, 0.4, 0.9)),
    "l2-e-abs-above-adv-l2": complex_(adv_l2=(0.95, 0.25, 0.9)),
    "linf-adv-linf-above-adv-l2": complex_(adv_l2=(0.95, 0.6, 0.2)),
    "l2-adv-l2-above-adv-linf": complex_(adv_linf=(0.95, 0.4, 0.4)),
    "bound-of-abs-stands": {"below_bound": 1},
    "bounds-as-of-abs": {"bound": 0.05},
    "linf-attack-is-not-misled": {"unconfirmed": 0.3},
    "l2-attack-is-not-misled": {"unconfirmed": 0.3},
}
VIOLATED_REST: dict[str, dict[str, Any]] = {
    "svhn-clean-near-cnn": complex_(e_abs=(0.8, 0.6, 0.5)),
    "svhn-abs-fails": complex_(abs=(0.9, 0.1, 0.05)),
    "curve-linf-e-abs-above-all": complex_(adv_linf=(0.95, 0.9, 0.1)),
    "curve-l2-e-abs-above-all": complex_(adv_l2=(0.95, 0.25, 0.9)),
    "curve-linf-all-models-fall": FEW_RADII,
    "curve-l2-all-models-fall": FEW_RADII,
    "gradient-free-linf-weaker": {"estimated": 0.3},
    "gradient-free-linf-finds-nothing-new": {"estimated": 0.3},
    "gradient-free-l2-weaker": {"boundary": 0.3},
    "gradient-free-l2-finds-nothing-new": {"boundary": 0.3},
    "ablation-all-three-needed-clean": parts(dv=(0.95, 0.19, 0.14)),
    "ablation-all-three-needed-pgd-linf": parts(av=(0.9, 0.7, 0.08)),
    "ablation-all-three-needed-pgd-l2": parts(d=(0.9, 0.08, 0.6)),
    "ablation-no-single-extension-clean": parts(a=(0.9, 0.06, 0.06)),
    "ablation-no-single-extension-pgd-linf": parts(d=(0.45, 0.3, 0.06)),
    "ablation-no-single-extension-pgd-l2": parts(v=(0.44, 0.03, 0.3)),
    "ablation-av-abs-beside-abs": parts(av=(0.3, 0.11, 0.08)),
    "ablation-dv-abs-beside-abs": parts(dv=(0.3, 0.19, 0.14)),
    "ablation-av-abs-beside-a-abs": parts(a=(0.9, 0.06, 0.06)),
    "ablation-dv-abs-beside-d-abs": parts(d=(0.9, 0.08, 0.06)),
    "ablation-adv-abs-beside-ad-abs": parts(ad=(0.99, 0.02, 0.02)),
    "ablation-v-abs-beside-abs": parts(v=(0.9, 0.03, 0.02)),
    "ablation-a-abs-beside-abs": parts(a=(0.9, 0.06, 0.06)),
    "ablation-ad-abs-beside-abs": parts(ad=(0.9, 0.02, 0.02)),
    "eot-enough": {"eot": {1: 0.8, 5: 0.7, 10: 0.57}},
    "eot-fewer-look-more-robust": {"eot": {1: 0.4, 5: 0.57, 10: 0.57}},
    "restarts-enough": {"restarts": {5: 0.8, 20: 0.7, 50: 0.57}},
    "restarts-fewer-look-more-robust": {"restarts": {5: 0.4, 20: 0.57, 50: 0.57}},
    "steps-enough": {"steps": {10: 0.8, 50: 0.7, 200: 0.57}},
    "steps-fewer-look-more-robust": {"steps": {10: 0.4, 50: 0.57, 200: 0.57}},
    "inference-one-sample-enough": {"sampled": 0.8},
    "inference-more-iterations-better-clean": {"iterated": Fewer(0.8, 0.65)},
    "inference-more-iterations-better-linf": {"iterated": Fewer(0.99, 0.4)},
    "inference-more-iterations-better-l2": {"iterated": Fewer(0.99, 0.4)},
}
BY_WORLD = {
    **{f"{name}-{key}": world for name in ("mnist", "fashion-mnist") for key, world in VIOLATED_SIMPLE.items()},
    **{f"mnist-{key}": world for key, world in VIOLATED_MNIST.items()},
    **{f"{name}-{key}": world for name in ("supertraffic-10", "svhn") for key, world in VIOLATED_COMPLEX.items()},
    **VIOLATED_REST,
}
DATASETS = ("mnist", "fashion-mnist", "supertraffic-10", "svhn")
SECTIONS = dict(zip(DATASETS, ("mnist", "fashion_mnist", "supertraffic", "svhn"), strict=True))
BY_STUDY = {  # what a change of single studies decides
    *(f"{name}-no-errors-by-chance" for name in DATASETS),
    *(f"{name}-errors-recur" for name in DATASETS),
    "ablation-bound-of-ad-abs-stands",
    *(f"{name}-l2-pgd-improves-on-latent-descent" for name in DATASETS),
    "eot-fewer-mislead-the-attack",
}


@pytest.fixture(scope="module")
def decided_in(variant: Variant, decide: Decide) -> Callable[[dict[str, Any]], dict[str, Claim]]:
    """The claims in a world, decided once."""
    known: dict[str, dict[str, Claim]] = {}

    def found(world: dict[str, Any]) -> dict[str, Claim]:
        if str(world) not in known:
            known[str(world)] = decide(variant(**world))
        return known[str(world)]

    return found


def test_claims_hold_where_the_paper_is_right(right: Measured, decide: Decide) -> None:
    decided = decide(right)
    assert set(decided) == {*BY_WORLD, *BY_STUDY, *CONTRADICTED}
    wrong = {name for name, claim in decided.items() if claim.verdict != "holds"}
    assert wrong == CONTRADICTED
    assert all(decided[name].verdict == "fails" for name in CONTRADICTED)


@pytest.mark.parametrize("name", BY_WORLD)
def test_a_claim_fails_where_it_is_wrong(name: str, decided_in: Callable[..., dict[str, Claim]]) -> None:
    assert decided_in(BY_WORLD[name])[name].verdict == "fails"


@pytest.mark.parametrize("name", sorted(CONTRADICTED))
def test_what_the_paper_contradicts_holds_in_another_world(
    name: str, decided_in: Callable[..., dict[str, Claim]]
) -> None:
    other = {**simple(adv_linf=(0.985, 0.2, 0.5)), **complex_(cnn=(0.99, 0, 0), e_abs=(0.9, 0.6, 0.5))}
    assert decided_in(other)[name].verdict == "holds"


@pytest.mark.parametrize("name", DATASETS)
def test_errors_by_chance_are_told(name: str, right: Measured, changed: Variant, decide: Decide) -> None:
    def unsure(study: AttackStudy) -> dict[str, Any]:
        return {"control_correct": study.natural & (np.arange(len(study.labels)) >= 60)}

    claim = decide(changed(right, SECTIONS[name], "e_abs", unsure))[f"{name}-no-errors-by-chance"]
    assert claim.verdict == "fails"
    assert claim.n == getattr(right, SECTIONS[name]).e_abs.natural.sum()
    assert claim.value == pytest.approx(60 / claim.n)


@pytest.mark.parametrize("name", DATASETS)
def test_errors_that_do_not_recur_are_told(name: str, right: Measured, changed: Variant, decide: Decide) -> None:
    def once(study: AttackStudy) -> dict[str, Any]:
        chosen, point = study.arrays["chosen"].copy(), study.main_point("pgd", "l2")
        chosen[point, np.flatnonzero(study.robust(point or 0))[:60]] = True
        return {"chosen": chosen}

    study = getattr(right, SECTIONS[name]).e_abs
    broken = int((study.natural & ~study.robust(study.main_point("pgd", "l2"))).sum())
    claim = decide(changed(right, SECTIONS[name], "e_abs", once))[f"{name}-errors-recur"]
    assert (claim.verdict, claim.n) == ("fails", broken + 60)
    assert claim.value == pytest.approx(60 / (broken + 60))
    assert "L2 eps 1.5" in claim.note


@pytest.mark.parametrize("name", DATASETS)
def test_latent_descent_may_be_the_stronger(name: str, right: Measured, changed: Variant, decide: Decide) -> None:
    def stronger(study: AttackStudy) -> dict[str, Any]:
        robust = study.arrays["robust"].copy()
        robust[study.point(attack="latent-descent", norm="l2")] = False
        return {"robust": robust}

    claim = decide(changed(right, SECTIONS[name], "e_abs", stronger))
    assert claim[f"{name}-l2-pgd-improves-on-latent-descent"].verdict == "fails"
    assert f"{name}-linf-pgd-improves-on-latent-descent" not in claim  # it was not run


@pytest.mark.parametrize("name", DATASETS)
def test_one_error_below_its_bound_is_enough(name: str, right: Measured, changed: Variant, decide: Decide) -> None:
    def nearer(study: AttackStudy) -> dict[str, Any]:
        point, distance = study.point(attack="cw", norm="l2"), study.arrays["distance"].copy()
        assert study.bound is not None
        distance[point, 0] = study.bound[0] / 2  # a search's error counts whatever its radius
        return {"distance": distance}

    key = f"{name}-bound-of-abs-stands"
    claim = decide(changed(right, SECTIONS[name], "abs", nearer))[key]
    assert (claim.verdict, claim.value) == ("fails", 1)
    section = getattr(right, SECTIONS[name])
    assert decide(right)[key].n == (np.nan_to_num(section.abs.bound) > 0).sum()


def test_an_error_below_the_bound_of_the_ablation(right: Measured, changed: Variant, decide: Decide) -> None:
    def nearer(study: AttackStudy) -> dict[str, Any]:
        distance, robust = study.arrays["distance"].copy(), study.arrays["robust"].copy()
        robust[:, 0], distance[:, 0] = False, 0.1
        return {"robust": robust, "distance": distance}

    claim = decide(changed(right, "ablation", "ad", nearer))["ablation-bound-of-ad-abs-stands"]
    assert (claim.verdict, claim.value) == ("fails", 1)


def test_variational_inference_refutes_no_bound(variant: Variant, decide: Decide) -> None:
    assert not [name for name in decide(variant(below_bound=1)) if "bound-of-e-abs" in name]


def test_samples_that_do_not_mislead_are_told(variant: Variant, changed: Variant, decide: Decide) -> None:
    def all_but_one(study: AttackStudy) -> dict[str, Any]:
        seen = np.ones_like(study.arrays["seen"])
        seen[study.point(attack="pgd", norm="linf", draws=1)] = False
        return {"seen": seen}

    other = changed(variant(), "sweeps", "eot", all_but_one)
    assert decide(other)["eot-fewer-mislead-the-attack"].verdict == "fails"


def test_nothing_measured_nothing_claimed(bare: Measured) -> None:
    assert claims(bare) == []


@pytest.mark.parametrize(
    ("section", "empty", "prefixes"),
    [
        ("mnist", Comparison(), ("mnist-",)),
        ("fashion_mnist", Comparison(), ("fashion-mnist-",)),
        ("supertraffic", Comparison(), ("supertraffic-10-",)),
        ("svhn", Comparison(), ("svhn-",)),
        ("ablation", Ablation(), ("ablation-",)),
        ("curve", Comparison(), ("curve-",)),
        ("sweeps", Sweeps(), ("eot-", "restarts-", "steps-")),
        ("gradient_free", GradientFree(), ("gradient-free-",)),
        ("sensitivity", Sensitivity(), ("inference-",)),
    ],
)
def test_a_section_less_leaves_its_claims_out(
    section: str, empty: Any, prefixes: Any, right: Measured, decide: Decide
) -> None:
    whole, left = decide(right), decide(replace(right, **{section: empty}))
    assert left == {name: claim for name, claim in whole.items() if not name.startswith(prefixes)}


@pytest.mark.parametrize("role", ["cnn", "adv_linf", "adv_l2", "abs", "e_abs"])
def test_a_model_less_leaves_its_claims_out(role: str, right: Measured, decide: Decide) -> None:
    whole, left = decide(right), decide(replace(right, svhn=replace(right.svhn, **{role: None})))
    assert set(left) < set(whole)
    for name in set(whole) - set(left):
        assert name.startswith("svhn-")
        text = whole[name].statement + whole[name].quantity
        assert {"cnn": "CNN", "adv_linf": "Adv-L∞", "adv_l2": "Adv-L2", "abs": "ABS", "e_abs": "E-ABS"}[role] in text
    assert all(left[name] == whole[name] for name in left)


def test_an_incomplete_ablation_claims_less(right: Measured, decide: Decide) -> None:
    left = decide(replace(right, ablation=replace(right.ablation, dv=None, d=None)))
    assert not [name for name in left if name.startswith(("ablation-all-three", "ablation-no-single", "ablation-d"))]
    assert "ablation-av-abs-beside-abs" in left
