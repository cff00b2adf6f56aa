"""What the stages measured of GAT: thresholds and errors, images, densities, and settings in words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robustgen.errors import UserError
from robustgen.papers.gat.measured import Cifar, Measured
from robustgen.papers.gat.study import GAT, NATURAL, Detection, Synthesis
from robustgen.papers.gat.words import attack_words, radius_words


def told(study: Any, config: str) -> Any:
    return replace(study, arrays={**study.arrays, "config": np.array(config)})


def test_every_study_of_models_says_what_they_were_trained_against(right: Measured) -> None:
    words = "trained with L∞ eps 0.3, Adam on δ, 100 updates of 0.01"
    section = right.mnist
    for study in (section.linf_small, section.detection, section.distortion_small, section.synthesis):
        assert study is not None
        assert study.training["updates"] == 700
        assert study.trained == words
        for nothing in ("{}", '{"trained": [{"labels": [0], "training": null}]}'):
            assert (told(study, nothing).training, told(study, nothing).trained) == ({}, "")
        classifier = '{"trained": [{"training": {"adversary": {"eps": %s, "alpha": 0.1, "steps": 1}}}]}'
        assert told(study, classifier % 0.5).trained == "trained with L∞ eps 0.5, 1 update of 0.1"
        assert told(study, classifier % 0).trained == "trained on natural images"


def defence(**arrays: np.ndarray) -> Detection:
    """Three images of classes 0, 1, 2; one attack."""
    given: dict[str, Any] = {
        "attack": np.array(["detector"]),
        "norm": np.array(["linf"]),
        "eps": np.array([0.3]),
        "steps": np.array([5]),
        "alpha": np.array([0.1]),
        "natural_classifier": np.eye(3),
        "natural_detector": 4 * np.eye(3),
        "classifier_logits": np.array([[[0, 1, 0], [0, 1, 0], [0, 0, 1.0]]]),
        "detector_logits": np.array([[[5.0, 2, 0], [6, 1, 0], [0, 0, 3]]]),
        "validation_classifier": np.tile(np.eye(3), (7, 1))[:20],
        "validation_detector": np.tile(np.eye(3), (7, 1))[:20] * np.arange(1, 21)[:, None],
        "validation_labels": np.arange(20) % 3,
        "labels": np.arange(3),
        "indices": np.arange(3),
        "rival_correct": np.ones(3, bool),
        "rival_eps": np.array([0.3]),
        "rival_robust": np.array([[True, False, True]]),
        "config": np.array('{"rule": "adam", "seed": 1, "restarts": 1, "random_start": true}'),
    }
    return Detection("made", {**given, **arrays})


def test_thresholds_accept_the_share_of_validation_images() -> None:
    study = defence()  # validation logits are 1 to 20
    assert study.threshold("integrated") == 2
    assert study.threshold("generative", 0.5) == 11


def validated(right: int, wrong: int) -> Detection:
    """Validation images of class 0: `right` of them with logits 1, 2, ..., then wrong ones with logit 1000."""
    z = np.zeros((right + wrong, 3))
    z[:right, 0] = 1 + np.arange(right)
    z[right:, 1] = 1000
    arrays = {"validation_classifier": z, "validation_detector": z, "validation_labels": np.zeros(len(z), int)}
    return defence(**arrays)


@pytest.mark.parametrize(("right", "wrong"), [(100, 0), (90, 10), (60, 40), (7, 13)])
def test_a_budget_of_clean_accuracy_is_spent_and_not_overdrawn(right: int, wrong: int) -> None:
    study, n = validated(right, wrong), right + wrong
    threshold = study.budget_threshold("generative", 0.05)
    logits = 1 + np.arange(right)
    kept = (logits >= threshold).sum()
    assert kept >= right - 0.05 * n
    assert (logits > threshold).sum() < right - 0.05 * n  # any larger threshold costs more
    assert study.budget_threshold("generative", 0) == 1
    assert study.budget_threshold("generative", right / n) == np.inf


def test_settings_of_attacks_are_their_own(right: Measured) -> None:
    study = right.mnist.detection
    assert study is not None
    common, multi = study.settings(0.3), study.at(0.3)["multi-generative"]
    assert common == "L∞ eps 0.3, Adam on δ, 100 updates of 0.01, best of 1 random start, seed 3"
    assert {study.method(point) for name, point in study.at(0.3).items() if "multi" not in name} == {common}
    own = common.replace("100 updates", "200 updates")
    assert study.method(multi) == f"{own}, towards every wrong class"
    few = json.loads(str(study.arrays["config"])) | {"targets": 3}
    cut = replace(study, arrays={**study.arrays, "config": np.array(json.dumps(few))})
    assert cut.method(multi) == f"{own}, towards each of the likeliest wrong classes, 3 an image"


def test_an_error_is_wrong_and_accepted() -> None:
    """Image 0: f says 1 with logit 2, the detectors say 0. Image 1: f is right, the detectors say 0 with 6."""
    study = defence()
    assert study.accepted("integrated", 0).tolist() == [2, -np.inf, -np.inf]
    assert study.accepted("generative", 0).tolist() == [-np.inf, 6, -np.inf]
    assert study.passing("integrated", 0.3, "detector").tolist() == [True, False, False]  # at the threshold itself
    assert study.passing("generative", 0.3, "detector").tolist() == [False, True, False]
    assert study.right("generative").tolist() == [4, 4, 4]
    assert study.rival_right.tolist() == [True, True, True]
    assert study.rival_wrong(0.3).tolist() == [False, True, False]


def test_the_strongest_attack_is_never_below_any(right: Measured) -> None:
    study = right.mnist.detection
    assert study is not None
    for eps in study.radii:
        for way in ("integrated", "generative"):
            worst = study.passing(way, eps, None)
            assert all((worst >= study.passing(way, eps, attack)).all() for attack in study.attacks(eps))
            assert worst.mean() == max(study.passing(way, eps, attack).mean() for attack in study.attacks(eps))


def test_a_radius_or_an_attack_that_was_not_made_is_named() -> None:
    with pytest.raises(UserError, match=r"'made' has no attack of radius 0.7; add it to eps .* which has 0.3"):
        defence().strongest("integrated", 0.7)
    with pytest.raises(UserError, match=r"no attack ce of radius 0.3; add it to attacks .* which has detector"):
        defence().passing("integrated", 0.3, "ce")
    with pytest.raises(UserError, match=r"no rival under attack of radius 0.7; make it again"):
        defence().rival_wrong(0.7)
    assert defence().point("detector", 0.4) is None


def test_a_radius_of_0_is_a_control() -> None:
    assert defence(eps=np.array([0.0])).radii == []


def test_what_judges_say(right: Measured) -> None:
    study = right.mnist.synthesis
    assert study is not None
    assert study.alike("shifted_judged").mean() == 0.8
    assert study.alike("generated_nearest").mean() == pytest.approx(0.9, abs=0.03)
    assert study.of_other_classes().shape == (4, 40)
    assert study.of_other_classes().mean() == 0.75
    assert study.shifts[1] == "L2 eps 4, normalised steepest descent, 40 updates of 0.2"
    assert study.generator == "from class Gaussians, L2 eps 30, 60 updates of 0.5"
    without = Synthesis("without", {**study.arrays, "shifted": np.zeros((0, 4, 40, 1, 4, 4))})
    assert study.has("shifted")
    assert not without.has("shifted")


def test_densities_by_dimensions(right: Measured) -> None:
    line, plane = right.density(1), right.density(2)
    assert [study.name for study in (*line, *plane)] == ["line", "plane"]
    assert line[0].distance(GAT, "mixture").tolist() == pytest.approx([0.1, 0.11, 0.12])
    assert plane[0].distance(NATURAL).shape == (2, 3)
    assert line[0].settings == ("eps 0.3, steps 20, alpha 0.05, updates 500, batch 64, hidden 500, layers 5, 3 seeds")


def test_the_fine_model_has_the_coarse_ones_ball(right: Measured) -> None:
    assert right.cifar.fine is right.cifar.large
    assert right.cifar.coarse not in right.cifar.probes.values()
    assert Cifar(small=right.cifar.small, coarse=right.cifar.coarse).fine is None
    assert Cifar(large=right.cifar.large).fine is None


def test_words() -> None:
    assert radius_words("linf", 8 / 255) == "L∞ eps 8/255"
    assert radius_words("l2", 2.5) == "L2 eps 2.5"
    point = {"norm": "linf", "eps": 0.3, "rule": "steepest", "steps": 1, "alpha": 0.01, "restarts": 5}
    expected = "L∞ eps 0.3, normalised steepest descent, 1 update of 0.01"
    assert attack_words({**point, "starts": "random"}) == f"{expected}, best of 5 random starts"
    assert attack_words({**point, "starts": "image"}) == f"{expected}, from the image"
    assert attack_words(point) == expected
