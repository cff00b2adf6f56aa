from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from robustgen.evaluation.rows import Claim
from robustgen.papers.adp.claims import claims
from robustgen.papers.adp.claims.purification import ratio_of_steps
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import ScoreDefense, Scores

Build = Callable[..., Measured]

PAPERS: dict[str, Any] = {"dataset": "CIFAR-10", "eps": 8 / 255}  # what some of its numbers hold for

# For every claim a world in which it is wrong.
VIOLATED: dict[str, dict[str, Any]] = {
    "dsm-better-at-few-steps": {"ml": (0.0, 0.3, 0.7, 0.7, 0.7)},
    "dsm-far-fewer-steps": {"ml_langevin": (0.0, 0.1, 0.3, 0.3, 0.3)},
    "deterministic-beats-langevin-dsm": {"dsm_langevin": (0.0, 0.1, 0.7, 0.7, 0.7)},
    "deterministic-beats-langevin-ml": {"ml_langevin": (0.0, 0.02, 0.4, 0.4, 0.5)},
    "score-norms-separate": {"lifted": 0.5},
    "one-step-lowers-the-norm": {"lowered": -1.0},
    "raw-falls": {"raw": 0.3},
    "adp-withstands-blind-attacks": {"blind": 0.3},
    "no-false-breaks": {"false_breaks": 0.2},
    "noise-resists-spsa": {"quiet_spsa": 0.9},
    "noise-resists-full": {"quiet_full": 0.9},
    "bpda-is-no-overestimate": {"apgd": 0.4},
    "strongest-attack-leaves-the-papers-accuracy": {"apgd": 0.337},
    "stronger-than-adversarial-training": {"trained": 0.9},
    "worst-case-stronger-than-adversarial-training": {"apgd": 0.1},
    "certified-above-cohen-certify": {"confident": 62},
    "certified-above-cohen-point": {"confident": 58},
    "certified-comparable-to-cohen": {"rival": 0.1},
    "corruptions-above-raw": {"corrupted_raw": 0.9},
    "corruptions-above-adversarial-training": {"corrupted_trained": 0.9},
    "corruptions-noise-hurts": {"corrupted_quiet": 0.6},
    "corruptions-perturbed-training-helps": {"corrupted_both": 0.7},
}


@pytest.fixture(scope="module")
def right(build: Build) -> Measured:
    """The scale in which the paper is right about everything, on its own data set and at its radius."""
    return build(**PAPERS)


def decide(found: Measured) -> dict[str, Claim]:
    decided = claims(found)
    assert len({claim.id for claim in decided}) == len(decided)
    return {claim.id: claim for claim in decided}


def test_every_claim_holds_where_the_paper_is_right(right: Measured) -> None:
    assert {name: claim.verdict for name, claim in decide(right).items()} == dict.fromkeys(VIOLATED, "holds")


@pytest.mark.parametrize("name", VIOLATED)
def test_claim_fails_where_it_is_wrong(name: str, build: Build) -> None:
    assert decide(build(**PAPERS, **VIOLATED[name]))[name].verdict == "fails"


def test_every_claim_has_a_source_and_an_interval_around_its_value(right: Measured) -> None:
    for claim in decide(right).values():
        assert claim.source
        assert claim.value is not None
        assert claim.low is not None
        assert claim.high is not None
        assert claim.low <= claim.value <= claim.high
        assert claim.n


def test_values_are_paired_differences(right: Measured) -> None:
    decided = decide(right)
    for name, value in {
        "dsm-better-at-few-steps": 0.4,
        "dsm-far-fewer-steps": 100,
        "deterministic-beats-langevin-ml": 0.15,
        "noise-resists-full": 0.68,
        "adp-withstands-blind-attacks": 0.85,
        "bpda-is-no-overestimate": -0.01,
        "strongest-attack-leaves-the-papers-accuracy": 0.74,
        "worst-case-stronger-than-adversarial-training": 0.34,
        "stronger-than-adversarial-training": 0.35,
        "one-step-lowers-the-norm": 3.0,
    }.items():
        assert decided[name].value == pytest.approx(value), name


def test_nothing_measured_nothing_decided(bare: Measured) -> None:
    decided = decide(bare)
    assert set(decided) == set(VIOLATED)
    for claim in decided.values():
        assert (claim.verdict, claim.value, claim.low, claim.n) == ("not decided", None, None, None)
        assert claim.note.startswith("Not run at this scale: ")
        assert claim.condition


ROLES = [field.name for field in fields(Measured) if field.default in (None, ())]


@pytest.mark.parametrize("role", ROLES)
def test_a_study_less_leaves_the_other_claims_as_they_are(role: str, right: Measured) -> None:
    empty: Any = () if isinstance(getattr(right, role), tuple) else None
    left = decide(replace(right, **{role: empty}))
    assert set(left) == set(VIOLATED)
    assert {claim.verdict for claim in left.values()} <= {"holds", "not decided"}
    undecided = {name for name, claim in left.items() if claim.verdict == "not decided"}
    if role in ("attacks", "cohen", "certified", "scores", "raw", "trained", "dsm_deterministic", "corrupted"):
        assert undecided
    if role in (
        "eot",
        "released",
        "hill",
        "small",
        "longer",
        "others",
        "control_of",
        "reevaluation",
    ):  # the control is in main too
        assert not undecided


def test_few_images_decide_little(build: Build) -> None:
    decided = decide(build(n=12))
    assert decided["raw-falls"].value == 0
    assert decided["raw-falls"].verdict == "not decided"
    assert decided["no-false-breaks"].verdict == "not decided"


def test_the_worst_case_is_over_the_images_that_all_attacks_saw(
    right: Measured, study: Callable[..., ScoreDefense]
) -> None:
    few = study("few", [("full", 10, 8 / 255, 15, 0.9, 0.0)], n=50)
    claim = decide(replace(right, attacks=(few, *right.attacks)))["bpda-is-no-overestimate"]
    assert (claim.n, claim.value) == (50, -1)  # the first 50 images withstand all others
    assert "Full gradient 0.0%" in claim.note
    assert "BPDA of 100 updates 100.0%" in claim.note
    assert "APGD as Croce et al. 2022 100.0%" in claim.note


def test_spsa_of_fewer_images_stays_out_of_the_worst_case(right: Measured, study: Callable[..., ScoreDefense]) -> None:
    few = study("few", [("spsa", 10, 8 / 255, 15, 0.9, 0.5)], n=50)
    decided = decide(replace(right, attacks=(few, *right.attacks)))
    for name, value in (
        ("bpda-is-no-overestimate", -0.01),
        ("strongest-attack-leaves-the-papers-accuracy", 0.74),
        ("worst-case-stronger-than-adversarial-training", 0.34),
    ):
        assert (decided[name].n, decided[name].value) == (300, pytest.approx(value)), name
        assert "Without SPSA, which saw 50 of these images; with it 50.0% of them." in decided[name].note
    assert "Without SPSA" not in decide(right)["bpda-is-no-overestimate"].note


def test_the_papers_accuracy_decides_on_its_data_set_alone(build: Build) -> None:
    for changes in ({}, {"dataset": "CIFAR-10"}, {"eps": 8 / 255}):
        claim = decide(build(apgd=0.3, **changes))["strongest-attack-leaves-the-papers-accuracy"]
        assert (claim.verdict, claim.value) == ("not decided", pytest.approx(0.3))
        assert "decides nothing on" in claim.note


def test_an_energy_based_model_that_does_not_purify_has_no_steps(build: Build) -> None:
    claim = decide(build(ml_langevin=(0.0, 0.05, 0.05, 0.08, 0.1)))["dsm-far-fewer-steps"]
    assert (claim.verdict, claim.value) == ("not decided", 1000)  # shown all the same
    assert "It is not known to purify" in claim.note
    assert "censored" in claim.note
    held = decide(build(ml_langevin=(0.0, 0.02, 0.05, 0.5, 0.4)))["dsm-far-fewer-steps"]
    assert "The EBM's best is 50.0% at T = 100, +48.0% [" in held.note
    assert "censored" not in held.note


def test_certificates_at_their_cap_decide_nothing(right: Measured) -> None:
    arrays = []
    assert right.certified is not None
    for study in (right.certified, right.cohen[0]):
        votes = 100 * np.eye(4, dtype=np.int64)[study.labels]
        arrays.append(
            {**study.arrays, "sigmas": np.array([0.12]), "counts": votes[None], "selection_counts": votes[None]}
        )
    full = replace(
        right,
        certified=replace(right.certified, arrays=arrays[0]),
        cohen=(replace(right.cohen[0], arrays=arrays[1]),),
    )
    for kind in ("certify", "point"):
        claim = decide(full)[f"certified-above-cohen-{kind}"]
        assert (claim.verdict, claim.value) == ("not decided", 0)
        assert claim.low == pytest.approx(-claim.high)
        assert "100% and 100% of the images reach" in claim.note


def test_step_sizes_that_are_not_tuned_alike_are_told(right: Measured) -> None:
    assert right.dsm_deterministic is not None
    config = right.dsm_deterministic.config
    for step, words in ((0.05, "is not the best of the 3 tried on validation images at T 10, which is α 0.1"),
                        (0.1, "is the best of the 3")):  # fmt: skip
        changed = np.array(json.dumps({**config, "defense": {**config["defense"], "step": step}}))
        study = replace(right.dsm_deterministic, arrays={**right.dsm_deterministic.arrays, "config": changed})
        note = decide(replace(right, dsm_deterministic=study))["dsm-better-at-few-steps"].note
        assert "Step sizes are not tuned alike" in note
        assert words in note


def test_one_attack_has_no_worst_case(right: Measured) -> None:
    assert right.longer is not None
    alone = replace(right, attacks=(right.longer,), blind=None, longer=None, reevaluation=None)
    assert decide(alone)["bpda-is-no-overestimate"].verdict == "not decided"


def test_images_are_compared_with_themselves(right: Measured) -> None:
    assert right.trained is not None
    arrays = {**right.trained.arrays, "indices": right.trained.indices + 100}
    moved = decide(replace(right, trained=replace(right.trained, arrays=arrays)))["stronger-than-adversarial-training"]
    assert moved.n == 200
    assert moved.value == pytest.approx((125 - 120) / 200)  # ours: images 100..224; theirs the first 120


def test_ratio_of_steps_knows_where_a_curve_gets(build: Build) -> None:
    found = build(dsm=(0.0, 0.1, 0.1, 0.1, 0.1))
    assert found.dsm_deterministic is not None
    assert found.ml_langevin is not None
    estimate, reached = ratio_of_steps(found, found.dsm_deterministic, found.ml_langevin)
    assert not reached
    assert estimate.value == 0.5  # 1000 over twice 1000
    claim = decide(found)["dsm-far-fewer-steps"]
    assert claim.verdict == "fails"
    assert "never is as good" in claim.note
    again, _ = ratio_of_steps(found, found.dsm_deterministic, found.ml_langevin)
    assert again == estimate


def test_ratio_of_steps_is_as_sure_as_its_images(build: Build) -> None:
    found = build(dsm=(0.0, 0.4, 0.46, 0.6, 0.6), n=40)  # the bar of 0.45 lies between its first two
    assert found.dsm_deterministic is not None
    assert found.ml_langevin is not None
    estimate, _ = ratio_of_steps(found, found.dsm_deterministic, found.ml_langevin)
    assert estimate.low < estimate.value or estimate.high > estimate.value


def test_a_sweep_without_the_short_run_leaves_it_undecided(right: Measured) -> None:
    decided = decide(replace(right, short=7))
    assert decided["dsm-better-at-few-steps"].verdict == "not decided"
    assert decided["dsm-far-fewer-steps"].verdict == "holds"


def test_norms_without_the_purified_ones(right: Measured) -> None:
    assert right.scores is not None
    kept = {name: values for name, values in right.scores.arrays.items() if "purified" not in name}
    decided = decide(replace(right, scores=Scores("norms", kept)))
    assert decided["score-norms-separate"].verdict == "holds"
    assert decided["one-step-lowers-the-norm"].verdict == "not decided"


def test_certificates_of_one_level_leave_the_larger_undecided(right: Measured) -> None:
    decided = decide(replace(right, cohen=right.cohen[:1]))
    assert decided["certified-above-cohen-certify"].verdict == "holds"
    assert decided["certified-comparable-to-cohen"].verdict == "not decided"


def test_corruption_claims_average_over_corruptions_first(right: Measured) -> None:
    usual = right.corruptions(0.25)
    assert usual is not None
    shares = usual.shares()
    np.testing.assert_allclose(shares, usual.study.arrays["correct"][0].reshape(75, -1).mean(0))
    assert usual.shares("noise").shape == shares.shape
