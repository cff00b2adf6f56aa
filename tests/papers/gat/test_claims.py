"""Claims: each holds where the paper is right, fails where it is wrong, and waits where a scale lacks its studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from robustgen.errors import UserError
from robustgen.evaluation.rows import Claim
from robustgen.papers.gat.claims import claims
from robustgen.papers.gat.claims.detection import paired_note
from robustgen.papers.gat.measured import Measured

Build = Callable[..., Measured]
UNDECIDED = {  # even where the paper is right
    "imagenet-longer-attacks",  # 100 images of one class cannot show a fall below 0.02
    "mnist-distortion-above-state-of-the-art",  # numbers of MNIST and CIFAR-10
    "cifar-distortion-above-state-of-the-art",
}


def verdicts(found: Measured) -> dict[str, Claim]:
    return {claim.id: claim for claim in claims(found)}


def attacks(**shares: float) -> dict[str, float]:
    """FPRs of all attacks, 0.1 where none is said."""
    names = ("classifier", "detector", "combined16", "combined17", "ce", "cw", "multi_integrated", "multi_generative")
    return {name.replace("_", "-"): shares.get(name, 0.1) for name in names}


def test_every_claim_holds_where_the_paper_is_right(right: Measured) -> None:
    found = verdicts(right)
    assert {name for name, claim in found.items() if claim.verdict != "holds"} == UNDECIDED
    assert len(found) == len(claims(right)) == 52


def test_nothing_is_decided_where_nothing_was_run(bare: Measured, right: Measured) -> None:
    found = verdicts(bare)
    assert found.keys() == verdicts(right).keys()
    assert {claim.verdict for claim in found.values()} == {"not decided"}
    assert all(claim.note.startswith("Not run at this scale: ") for claim in found.values())
    assert all(claim.value is None for claim in found.values())


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"long": 0.8}, ("mnist-longer-attacks", "cifar-longer-attacks", "imagenet-longer-attacks")),
        ({"steepest": 0.9}, ("mnist-normalised-descent",)),
        ({"restarted": 0.9}, ("mnist-restarts", "cifar-restarts")),
        ({"crossed": 0.8}, ("mnist-other-norms", "cifar-other-norms")),
        ({"coarse_finest": 0.99}, ("coarse-training-is-not-robust",)),
        ({"long": 0.6, "coarse_finest": 0.9}, ("fine-training-is-needed",)),
        ({"clean_small": 0.9, "clean_large": 1.0}, ("larger-radius-costs-clean-performance",)),
        (
            {"integrated": attacks(combined16=0.5, combined17=0.2)},
            ("mnist-eq17-stronger-than-eq16", "cifar-eq17-stronger-than-eq16", "mnist-strongest-attack-on-integrated"),
        ),
        ({"integrated": attacks(classifier=0.3)}, ("mnist-classifier-attack-is-detected",)),
        (
            {"generative": attacks(detector=0.8)},
            ("mnist-generative-beats-integrated", "cifar-generative-beats-integrated", "cifar-integrated-errs-more"),
        ),
        (
            {"generative": attacks(multi_generative=0.8)},
            (
                "mnist-generative-beats-integrated-under-all-attacks",
                "mnist-strongest-attack-on-generative",
                "cifar-strongest-attack-on-generative",
                "mnist-generative-below-softmax-trained-radius-under-all-attacks",
                "cifar-integrated-errs-more-under-all-attacks",
            ),
        ),
        ({"generative": attacks(ce=0.4)}, ("mnist-eq14-strongest-loss", "cifar-eq14-strongest-loss")),
        ({"distortion_large": 4.0}, ("mnist-larger-radius-larger-distortion",)),
        (
            {"rival": (0.05, 0.1)},
            (
                "mnist-generative-below-softmax-trained-radius",
                "mnist-generative-below-softmax-larger-radius",
                "mnist-generative-below-softmax-larger-radius-under-all-attacks",
            ),
        ),
        ({"cifar_rival": (0.3, 0.7)}, ("cifar-generative-and-softmax-err-alike",)),
        (
            {"semantic": 0.1, "semantic_softmax": 0.8},
            (
                *(f"mnist-perturbations-are-semantic-{judge}" for judge in ("judged", "nearest")),
                *(f"cifar-perturbations-are-semantic-{judge}" for judge in ("judged", "nearest")),
                "cifar-semantics-come-from-training",
            ),
        ),
        (
            {"generated": 0.1, "generated_softmax": 0.9, "fooled": 3.0},
            (
                *(f"cifar-generated-images-are-recognisable-{judge}" for judge in ("judged", "nearest")),
                "cifar-rubbish-fools-softmax-only",
            ),
        ),
        (
            {"gat": 0.7, "natural": 0.2},
            (
                *(f"density-{d}d-closer-than-ordinary-training" for d in (1, 2)),
                *(f"density-{d}d-recovered" for d in (1, 2)),
            ),
        ),
    ],
)
def test_claims_fail_where_the_paper_is_wrong(
    changes: dict[str, object], failing: tuple[str, ...], build: Build
) -> None:
    found = verdicts(build(**changes))
    for name in failing:
        assert found[name].verdict == "fails", name


def test_the_state_of_the_art_is_compared_on_its_own_data_alone(build: Build) -> None:
    name = "mnist-distortion-above-state-of-the-art"
    elsewhere = verdicts(build())[name]
    assert elsewhere.verdict == "not decided"
    assert elsewhere.value == pytest.approx(5.6, abs=0.05)
    assert "decides nothing on digits 16×16" in elsewhere.note
    assert verdicts(build(dataset="MNIST"))[name].verdict == "holds"
    assert verdicts(build(dataset="MNIST", distortion_large=3.0))[name].verdict == "fails"
    assert "90.0% of 400 images" in elsewhere.note


def test_notes_say_how_and_of_what(right: Measured) -> None:
    found = verdicts(right)
    beats = found["mnist-generative-beats-integrated"]
    assert beats.note.startswith("50.0% against 20.0% of 400 images, McNemar p = ")
    assert "L∞ eps 0.3, Adam on δ, 100 updates of 0.01, best of 1 random start, seed 3" in beats.note
    assert beats.n == 400
    strongest = found["mnist-strongest-attack-on-generative"].note
    assert "detector attack (Eq. 14) 20.0%" in strongest
    assert "multi-targeted attack (Tramèr et al. 2020) on generative 21.0%" in strongest
    assert "The bound is our reading." in found["mnist-longer-attacks"].note
    assert "L2 small" in found["mnist-longer-attacks"].note
    assert "trained with L∞ eps 0.3, Adam on δ, 100 updates of 0.01" in found["cifar-longer-attacks"].note
    expected = "mixture 0.110 (ordinary 0.610, a uniform density 0.700). eps 0.3"
    assert expected in found["density-1d-recovered"].note


def test_attacks_of_larger_radii_of_the_same_norm_do_not_count(right: Measured) -> None:
    note = verdicts(right)["mnist-other-norms"].note
    assert "L∞ large under L∞ small attack" in note
    assert "L∞ small under L2 large attack" in note
    assert "L∞ small under L∞ large attack" not in note


def test_two_ways_of_detection_need_the_same_attacks(right: Measured) -> None:
    study = right.mnist.detection
    assert study is not None
    kept = study.arrays["attack"] != "multi-generative"
    columns = {name: study.arrays[name][kept] for name in ("attack", "norm", "eps", "steps", "alpha")}
    logits = {name: study.arrays[name][kept] for name in ("classifier_logits", "detector_logits")}
    fewer = replace(study, arrays={**study.arrays, **columns, **logits})
    found = verdicts(replace(right, mnist=replace(right.mnist, detection=fewer)))
    assert found["mnist-generative-beats-integrated"].verdict == "holds"
    assert found["mnist-generative-beats-integrated-under-all-attacks"].verdict == "not decided"


def test_perturbations_of_unlike_settings_or_starts_are_not_compared(right: Measured) -> None:
    softmax = right.mnist.synthesis_softmax
    assert softmax is not None
    other = replace(softmax, arrays={**softmax.arrays, "shift_eps": np.array([0.3, 4.0])})
    found = verdicts(replace(right, mnist=replace(right.mnist, synthesis_softmax=other)))
    assert "under the detectors' attack" in found["mnist-perturbations-are-semantic-judged"].note
    for name in ("images", "start"):
        moved = replace(softmax, arrays={**softmax.arrays, name: softmax.arrays[name] + 1})
        with pytest.raises(UserError, match=f"differ in {name}; make both with one seed"):
            claims(replace(right, cifar=replace(right.cifar, synthesis_softmax=moved)))


def test_the_p_value_is_mcnemars() -> None:
    a, b = np.arange(20) < 8, np.arange(20) < 2
    assert "40.0% against 10.0% of 20 images, McNemar p = 0.031. here" in paired_note(a, b, "here")
