from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from robustgen.evaluation.rows import Claim
from robustgen.papers.langevin import Defense
from robustgen.papers.stochastic_security.claims import claims
from robustgen.papers.stochastic_security.claims.sampling import (
    difference,
    transition,
    transition_estimate,
    transition_words,
)
from robustgen.papers.stochastic_security.study import Dynamics, Measured

Build = Callable[..., Measured]

# For every claim a world in which it is wrong.
VIOLATED: dict[str, dict[str, Any]] = {
    "base-falls": {"base": 0.3},
    "short-run-does-not-help": {"short_blind": 0.5},
    "long-beats-none-blind": {"base": 0.9},
    "long-beats-short-blind": {"short_blind": 0.9},
    "convergent-beats-twin-natural": {"twin_natural": 0.97},
    "convergent-beats-twin-blind": {"twin_blind": 0.9},
    "jem-gains-little": {"jem_gain": 0.8, "long_blind": 0.3},
    "single-draws-vary": {"steady": True},
    "large-sample-steady": {"outlier": True},
    "long-beats-none": {"undefended": 0.8},
    "long-beats-short": {"short": 0.8},
    "short-run-is-not-robust": {"short": 0.8},
    "saturates-in-steps": {"beyond": 0.8},
    "convergent-beats-twin": {"twin": 0.4, "long": 0.2},
    "adaptive-attack-stronger": {"long_blind": 0.3},
    "no-false-breaks": {"false_breaks": 0.2},
    "stronger-than-adversarial-training": {"trained": 0.7},
    "beats-adversarial-training-medium-linf": {"trained": 0.7},
    "beats-adversarial-training-l2": {"trained_l2": 0.6},
    "full-gradient-no-stronger": {"short": 0.5},
    "breaks-come-early": {"early": 0.2},
    "more-replicates-attack-better": {"least": 0.3},
    "saturates-in-replicates": {"before": 0.7},
    "few-replicates-overstate-breaks": {"hasty": 0.8},
    "sgd-aligns-long-run": {"aligned": 0.8},
    "adversarial-energy-above-natural": {"adversarial_energy": -3.0},
    "adversarial-energy-above-perturbed": {"adversarial_energy": 0.2},
    "chaotic-at-one": {"onset": 1.5},
    "transition-near-one": {"onset": 1.8},
    "fid-grows-less": {"distance": 5.0},
    "faster-than-igebm": {"slowness": 0.5},
    "faster-than-jem": {"slowness": 0.5},
}


def decide(found: Measured) -> dict[str, Claim]:
    decided = claims(found)
    assert len({claim.id for claim in decided}) == len(decided)
    return {claim.id: claim for claim in decided}


def test_every_claim_holds_where_the_paper_is_right(right: Measured) -> None:
    assert {name: claim.verdict for name, claim in decide(right).items()} == dict.fromkeys(VIOLATED, "holds")


@pytest.mark.parametrize("name", VIOLATED)
def test_claim_fails_where_it_is_wrong(name: str, build: Build) -> None:
    assert decide(build(**VIOLATED[name]))[name].verdict == "fails"


def test_few_images_decide_little(build: Build) -> None:
    decided = decide(build(n=12))
    assert decided["base-falls"].value == 0
    assert decided["base-falls"].verdict == "not decided"
    assert decided["no-false-breaks"].verdict == "not decided"


def test_every_claim_has_a_source_and_an_interval_around_its_value(right: Measured) -> None:
    for name, claim in decide(right).items():
        assert claim.value is not None
        assert claim.source
        if name.startswith("faster"):  # one timing
            assert (claim.low, claim.high, claim.n) == (None, None, None)
        else:
            assert claim.low is not None
            assert claim.high is not None
            assert claim.low <= claim.value <= claim.high
            assert claim.n or name == "fid-grows-less"


def test_values_are_paired_differences(right: Measured) -> None:
    decided = decide(right)
    for name, value in {
        "long-beats-short-blind": 0.68,
        "long-beats-short": 0.48,
        "convergent-beats-twin": 0.4,
        "adaptive-attack-stronger": 0.2,
        "stronger-than-adversarial-training": 0.2,
        "beats-adversarial-training-l2": 0.175,  # radii 1.5 and 2: 0.35 and 0.2 against 0.1
        "full-gradient-no-stronger": 0.08,
        "fid-grows-less": 30,
        "faster-than-jem": 20,
    }.items():
        assert decided[name].value == pytest.approx(value), name


def test_studies_are_compared_on_the_images_they_share(right: Measured) -> None:
    assert right.at_linf is not None
    arrays = {**right.at_linf.arrays, "indices": right.at_linf.indices + 200, "labels": right.at_linf.labels}
    compared = decide(replace(right, at_linf=Defense("at", arrays)))["stronger-than-adversarial-training"]
    assert compared.n == 200
    # images 205..404: ours has those below 205 right, so none but the first; theirs the first 120
    assert compared.value == pytest.approx((0 - 120) / 200)


STUDIES = [field.name for field in fields(Measured) if field.default is None]


@pytest.mark.parametrize("name", STUDIES)
def test_what_was_not_measured_is_not_claimed(name: str, right: Measured) -> None:
    left = decide(replace(right, **{name: None}))
    assert set(left) < set(VIOLATED) or name in ("at_l2", "igebm", "replicates")
    assert {claim.verdict for claim in left.values()} == {"holds"}


def test_a_study_of_many_draws_decides_what_single_draws_do(right: Measured) -> None:
    assert right.ours is not None
    kept = decide(right)["single-draws-vary"]
    assert decide(replace(right, replicates=right.ours)) == decide(right)
    steady = replace(right.ours, arrays={**right.ours.arrays, "natural_draws": right.ours.draws.mean(1, keepdims=True)})
    few = decide(replace(right, replicates=steady))
    assert "single-draws-vary" not in few  # one draw says nothing
    assert kept.value


def test_a_twin_that_degenerates_later_is_seen_in_the_longest_run(right: Measured) -> None:
    assert right.ours is not None
    last = {"steps": np.append(right.ours.arrays["steps"], 500)}
    for name in ("natural_logits", "adversarial_logits"):
        kept = right.ours.arrays[name]
        last[name] = np.concatenate([kept, kept[-1:]])
    ours = replace(right.ours, arrays={**right.ours.arrays, **last})
    lost = {name: np.concatenate([array[:-1], -array[-1:]]) for name, array in last.items() if name != "steps"}
    decided = decide(replace(right, ours=ours, twin=replace(ours, arrays={**ours.arrays, **lost})))
    assert "convergent-beats-twin-natural-longest" not in decide(right)
    for name in ("natural", "blind"):
        assert decided[f"convergent-beats-twin-{name}"].value == 0
        assert decided[f"convergent-beats-twin-{name}-longest"].verdict == "holds"
        assert decided[f"convergent-beats-twin-{name}-longest"].note.endswith("added after seeing the sweep.")
        assert "K = 500" in decided[f"convergent-beats-twin-{name}-longest"].quantity


def test_nothing_measured_nothing_claimed(bare: Measured) -> None:
    assert claims(bare) == []


def test_dynamics_in_part(right: Measured, bare: Measured) -> None:
    assert right.dynamics is not None
    for kept, expected in {
        ("energy_natural", "energy_adversarial"): {"adversarial-energy-above-natural"},
        ("etas", "lyapunov"): {"chaotic-at-one", "transition-near-one"},
        ("fid_steps", "fid_convergent", "fid_nonconvergent"): set(),
    }.items():
        part = Dynamics("part", {name: right.dynamics[name] for name in kept})
        assert set(decide(replace(bare, dynamics=part))) == expected


def test_claims_about_chaos_name_the_separation(right: Measured) -> None:
    assert right.dynamics is not None
    decided = decide(right)
    assert "Measured at separation 1 τ√D, since the network is piecewise linear; −0.0005 at separation 0.1 τ√D." in (
        decided["chaotic-at-one"].note
    )
    assert "separation 0.1 τ√D" in decided["transition-near-one"].note
    one = {name: values for name, values in right.dynamics.arrays.items() if not name.startswith("lyapunov_")}
    assert decide(replace(right, dynamics=Dynamics("one", one)))["chaotic-at-one"].note == ""


def test_claims_say_what_is_not_alike(right: Measured) -> None:
    assert right.dynamics is not None
    decided = decide(right)
    assert "at its last iterate with H 16, the adaptive attack at any of its iterates with H_def 16" in (
        decided["adaptive-attack-stronger"].note
    )
    assert "Ours (H 16) gains" in decided["jem-gains-little"].note
    assert "can only confirm it" in decided["full-gradient-no-stronger"].note
    assert "goes from 2 at 0 steps to 10, against 1 between two halves of the data (10 times)" in (
        decided["fid-grows-less"].note
    )
    assert "it falls" not in decided["saturates-in-steps"].note
    assert "(update 300) − at the end of training (update 600)" in decided["sgd-aligns-long-run"].quantity


def test_accuracy_that_falls_in_longer_runs_is_named(build: Build) -> None:
    assert "40.0% against 50.0%: it falls." in decide(build(beyond=0.4))["saturates-in-steps"].note


def test_times_are_compared_like_for_like(right: Measured) -> None:
    assert right.dynamics is not None
    arrays = {**right.dynamics.arrays, "ms_per_step_ours_autograd": np.array(16.0)}
    claim = decide(replace(right, dynamics=Dynamics("x", arrays)))["faster-than-igebm"]
    assert claim.value == 10
    assert "ours 8 ms, ours by plain autograd, as the others 16 ms, IGEBM given one label 160 ms" in claim.note


def test_the_control_is_that_of_the_radii_where_the_tables_study_has_none(
    right: Measured, point: Callable[..., Defense]
) -> None:
    main = point("main", [(100, "linf", 0.1, 4, 16, 0.9, 0.5)], n=400)
    control = point("linf", [(100, "linf", 0.0, 4, 16, 0.9, 0.45), (100, "linf", 0.1, 4, 16, 0.9, 0.5)], n=400)
    assert decide(replace(right, main=main, linf=control))["no-false-breaks"].value == pytest.approx(0.5)
    assert "no-false-breaks" not in decide(replace(right, main=main))


def test_a_long_attack_without_breaks_claims_nothing(right: Measured, point: Callable[..., Defense]) -> None:
    none = point("long", [(100, "linf", 0.1, 4, 16, 0.9, 0.9)], steps=60)
    assert "breaks-come-early" not in decide(replace(right, attack_steps=none))


def test_a_long_attack_as_long_as_the_usual_is_cut_at_a_third(right: Measured) -> None:
    claim = decide(replace(right, main=right.attack_steps))["breaks-come-early"]
    assert "the first 20 of 60 updates" in claim.quantity
    assert "a third of the attack, our reading" in claim.note


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([-1.0, -1.0, 1.0, 2.0], 1.5),
        ([-3.0, -1.0, 3.0, 4.0], 1.25),
        ([1.0, -1.0, 1.0, 2.0], 1.5),  # positive once, but not to stay
    ],
)
def test_transition(means: list[float], expected: float) -> None:
    assert transition(np.arange(4.0), np.array(means)) == pytest.approx(expected)
    assert transition_words(np.arange(4.0), np.array(means)) == f"transition at η = {expected:.3g}"


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ([1.0, 2.0, 3.0, 4.0], "positive at every η tried"),
        ([-1.0, -1.0, -1.0, 0.0], "no transition in [0, 3]"),
        ([-1.0, 1.0, 1.0, -1.0], "no lasting transition in [0, 3]"),
    ],
)
def test_a_transition_beyond_the_strengths_tried_has_no_value(means: list[float], words: str) -> None:
    assert transition(np.arange(4.0), np.array(means)) is None
    assert transition_words(np.arange(4.0), np.array(means)) == words


@pytest.mark.parametrize(("onset", "words"), [(3.0, "No transition in [0, 2]."), (-1.0, "Positive at every η tried.")])
def test_a_transition_not_seen_is_no_estimate(build: Build, onset: float, words: str) -> None:
    claim = decide(build(onset=onset))["transition-near-one"]
    assert (claim.value, claim.low, claim.high, claim.verdict) == (None, None, None, "fails")
    assert claim.note.startswith(words)


def test_transition_is_as_sure_as_the_chains_agree() -> None:
    random = np.random.default_rng(0)
    etas = np.array([1.5, 0.5, 1.0])  # in any order
    agreed, spread = ((etas - 0.9)[:, None] + noise * random.normal(size=(3, 20)) for noise in (1e-3, 1.0))
    narrow, wide = transition_estimate(etas, agreed), transition_estimate(etas, spread)
    assert narrow.low <= 0.9 <= narrow.high
    assert narrow.high - narrow.low < 0.01
    assert wide.high - wide.low > 0.2
    assert transition_estimate(etas, spread) == wide


def test_difference_of_two_estimates() -> None:
    found = difference([10.0, 7.0, 12.0], [4.0, 3.0, 8.0])
    assert found.value == 6
    assert found.low == pytest.approx(6 - 5)  # 3 below the first, 4 above the second
    assert found.high == pytest.approx(6 + 5**0.5)
