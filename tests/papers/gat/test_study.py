"""Reading what the stages wrote of GAT: sets and areas, thresholds and errors, shards, damaged files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.papers.gat import loading
from robustgen.papers.gat.measured import Cifar, Measured
from robustgen.papers.gat.probe import PROBE, Probe
from robustgen.papers.gat.study import GAT, NATURAL, Detection, Synthesis
from robustgen.papers.gat.words import attack_words, radius_words

PER_IMAGE = {
    "probes": {"adversarial": 1, "natural": 0, "predicted": 0},
    "detection": {"classifier_logits": 1, "detector_logits": 1, "natural_classifier": 0, "natural_detector": 0,
                  "rival_correct": 0, "rival_robust": 1},
    "distortion": {"distance": 0, "c": 0, "natural_error": 0},
}  # fmt: skip
LOAD: dict[str, Callable[[Path, str], Any]] = {
    "probes": loading.load_probe,
    "detection": loading.load_detection,
    "distortion": loading.load_distortion,
    "synthesis": loading.load_synthesis,
    "density": loading.load_density,
}


def of(found: Measured, kind: str) -> Any:
    """A study of a kind."""
    section = found.mnist
    return {
        "probes": section.linf_small,
        "detection": section.detection,
        "distortion": section.distortion_small,
        "synthesis": section.synthesis,
        "density": found.densities[0],
    }[kind]


def tiny() -> Probe:
    """Two detectors, five images, one attack; image 1 is of class 0 but taken for class 1."""
    natural = np.array([[2.0, -1.0], [0.5, 1.0], [0.0, 3.0], [-1.0, -2.0], [1.5, -3.0]])
    return Probe(
        "tiny",
        {
            **{
                name: np.array([value])
                for name, value in zip(PROBE, ("l2", 0.5, "adam", 3, 0.1, 1, "image"), strict=True)
            },
            "labels": np.array([0, 0, 1, 2, 0]),
            "predicted": np.array([0, 1, 1, 2, 2]),
            "indices": np.arange(5),
            "natural": natural,
            "adversarial": (natural + 1)[None],
            "detectors": np.array([0, 1]),
            "config": np.array('{"seed": 4}'),
        },
    )


def test_the_sets_are_those_of_the_classifiers_predictions() -> None:
    study = tiny()
    assert study.positive(0).tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]  # image 4 is of class 0, but not taken for it
    assert study.negative(0).tolist() == [False, False, True, True, False]  # neither of the class nor taken for it
    assert study.positive(1).tolist() == [False, True, True, False, False]  # image 1 is taken for class 1
    assert study.negative(1).tolist() == [True, False, False, True, True]
    assert study.usable == [0, 1]


def test_the_area_is_of_clean_positives_over_attacked_negatives() -> None:
    study = tiny()
    assert study.area(0, 0).value == 1  # 2 above 1 and 0
    assert study.area(0, 1).value == roc_auc_score([1, 1, 0, 0, 0], [1.0, 3.0, 0.0, -1.0, -2.0])
    raised = replace(study, arrays={**study.arrays, "adversarial": study.arrays["adversarial"] + 1})
    assert raised.area(0, 0).value == 0.75  # 2 above 1, equal to 2
    assert raised.area(None, 0).value == 1
    assert raised.area(0, 0).n == 3


def test_detectors_without_positives_are_left_out() -> None:
    study = tiny()
    predicted = np.array([1, 1, 1, 2, 2])
    assert replace(study, arrays={**study.arrays, "predicted": predicted}).usable == [1]


def test_which_attack_is_which(right: Measured) -> None:
    study = right.mnist.linf_large
    assert study is not None
    assert study.ball == ("linf", 0.5)
    short, long, pair = study.short("adam"), study.long("steepest"), study.restarted()
    assert short is not None
    assert long is not None
    assert pair is not None
    assert study.options(short) == {
        "norm": "linf", "eps": 0.5, "rule": "adam", "steps": 200, "alpha": 0.01, "restarts": 1, "starts": "image"
    }  # fmt: skip
    assert (study.options(long)["steps"], study.options(long)["rule"]) == (2000, "steepest")
    assert [study.options(point)["restarts"] for point in pair] == [50, 1]
    other = study.under("l2", 5.0)
    assert other is not None
    assert study.options(other)["norm"] == "l2"
    assert study.under("l2", 7.0) is None
    assert tiny().long() is None
    assert tiny().restarted() is None


def test_float32_radii_are_found() -> None:
    study = tiny()
    kept = replace(study, arrays={**study.arrays, "eps": np.array([0.1], np.float32)})
    assert kept.matching(eps=0.1, norm="l2") == [0]
    assert kept.matching(eps=0.11) == []


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
        "config": np.array('{"rule": "adam", "seed": 1}'),
    }
    return Detection("made", {**given, **arrays})


def test_thresholds_accept_the_share_of_validation_images() -> None:
    study = defence()  # validation logits are 1 to 20
    assert study.threshold("integrated") == 2
    assert study.threshold("generative", 0.5) == 11


def test_an_error_is_wrong_and_accepted() -> None:
    """Image 0: f says 1 with logit 2, the detectors say 0. Image 1: f is right, the detectors say 0 with 6."""
    study = defence()
    assert study.accepted("integrated", 0).tolist() == [2, -np.inf, -np.inf]
    assert study.accepted("generative", 0).tolist() == [-np.inf, 6, -np.inf]
    assert study.passing("integrated", 0.3, "detector").tolist() == [True, False, False]  # at the threshold itself
    assert study.passing("generative", 0.3, "detector").tolist() == [False, True, False]
    assert study.right("generative").tolist() == [4, 4, 4]
    wrong = study.rival_wrong(0.3)
    assert wrong is not None
    assert wrong.tolist() == [False, True, False]
    assert study.rival_wrong(0.4) is None
    alone = defence(rival_eps=np.zeros(0), rival_robust=np.zeros((0, 3), bool))
    assert alone.rival_right is None


def test_the_strongest_attack_is_never_below_any(right: Measured) -> None:
    study = right.mnist.detection
    assert study is not None
    for eps in study.radii:
        for way in ("integrated", "generative"):
            worst = study.passing(way, eps, None)
            assert all((worst >= study.passing(way, eps, attack)).all() for attack in study.attacks(eps))
            papers = study.strongest(way, eps, papers=True)
            assert (papers <= study.strongest(way, eps)).all()
            assert np.isfinite(papers).sum() < np.isfinite(study.strongest(way, eps)).sum()


def test_a_radius_or_an_attack_that_was_not_made_is_named() -> None:
    with pytest.raises(UserError, match=r"detection study 'made' has no attack of radius 0.7"):
        defence().strongest("integrated", 0.7)
    with pytest.raises(UserError, match=r"has no attack ce of radius 0.3"):
        defence().passing("integrated", 0.3, "ce")
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
    assert line[0].settings == "eps 0.3, steps 20, alpha 0.05, updates 500, 3 seeds"


def test_the_fine_model_has_the_coarse_ones_ball(right: Measured) -> None:
    assert right.cifar.fine is right.cifar.large
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


@pytest.mark.parametrize("kind", LOAD)
def test_files_are_read_as_they_were_written(kind: str, right: Measured, tmp_path: Path) -> None:
    study = of(right, kind)
    save_arrays(tmp_path / "study.npz", {**study.arrays, "something": np.zeros(3)})
    found = LOAD[kind](tmp_path, "study")
    assert found.name == "study"
    for name in found.arrays.keys() & study.arrays.keys():
        np.testing.assert_array_equal(found.arrays[name], study.arrays[name])


@pytest.mark.parametrize("kind", PER_IMAGE)
def test_shards_are_put_together_by_image(kind: str, right: Measured, tmp_path: Path) -> None:
    study = of(right, kind)
    axes = {**PER_IMAGE[kind], "labels": 0, "indices": 0}
    for shard, rows in enumerate((np.arange(200, 400), np.arange(0, 200))):
        part = {name: study.arrays[name].take(rows, axis) for name, axis in axes.items()}
        save_arrays(tmp_path / f"study.{shard:03d}.npz", {**study.arrays, **part})
    found = LOAD[kind](tmp_path, "study")
    for name in found.arrays:
        np.testing.assert_array_equal(found.arrays[name], study.arrays[name], err_msg=name)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("probes", {"adversarial": np.zeros((2, 2, 2))}, r"adversarial has shape \(2, 2, 2\)"),
        ("probes", {"eps": np.zeros(3)}, r"norm has shape"),
        ("probes", {"natural": np.full((400, 4), np.nan)}, "natural holds numbers that are not finite"),
        ("detection", {"attack": np.array(["other"] * 16)}, "attack other is none of"),
        ("detection", {"rival_robust": np.zeros((1, 400), bool)}, "rival_robust has shape"),
        ("detection", {"validation_detector": np.zeros((20, 3))}, "validation_detector has shape"),
        ("detection", {"detector_logits": np.full((16, 400, 4), np.inf)}, "not finite"),
        ("distortion", {"distance": np.full(400, np.nan)}, "distance holds numbers that are no distances"),
        ("distortion", {"c": np.zeros(3)}, "c has shape"),
        ("synthesis", {"natural": np.zeros((3, 3))}, "natural has shape"),
        ("synthesis", {"generated_judged": np.zeros((3, 3))}, "generated_judged has shape"),
        ("density", {"distance": np.zeros((3, 3))}, "distance has shape"),
        ("density", {"distance": np.full((1, 3, 2), np.nan)}, "not finite"),
    ],
)
def test_damaged_files_are_refused(
    kind: str, changes: dict[str, np.ndarray], message: str, right: Measured, tmp_path: Path
) -> None:
    save_arrays(tmp_path / "study.npz", {**of(right, kind).arrays, **changes})
    with pytest.raises(UserError, match=message):
        LOAD[kind](tmp_path, "study")


@pytest.mark.parametrize("kind", LOAD)
def test_missing_files_and_arrays_are_named(kind: str, right: Measured, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"array file not found: .*/study\.npz"):
        LOAD[kind](tmp_path, "study")
    arrays = dict(of(right, kind).arrays)
    del arrays["config"]
    save_arrays(tmp_path / "study.npz", arrays)
    with pytest.raises(UserError, match="holds no array config"):
        LOAD[kind](tmp_path, "study")
    (tmp_path / "study.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="not a readable npz"):
        LOAD[kind](tmp_path, "study")


def test_a_probe_without_attacks_is_refused(right: Measured, tmp_path: Path) -> None:
    arrays = of(right, "probes").arrays
    empty = {name: arrays[name][:0] for name in (*PROBE, "adversarial")}
    save_arrays(tmp_path / "study.npz", {**arrays, **empty})
    with pytest.raises(UserError, match="no attack in it"):
        loading.load_probe(tmp_path, "study")


def test_histories(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    with pytest.raises(UserError, match="training history not found"):
        loading.load_curve(tmp_path, "curve")
    header = ",".join(loading.CURVE)
    path.write_text(f"{header}\n0,1,0.7,0.5,0.5,0.5,0.5\n0,0,0.7,0.5,0.5,0.4,0.5\n100,0,0.2,0.9,0.9,0.9,0.8\n")
    found = loading.load_curve(tmp_path, "curve")
    assert found.detectors == [0, 1]
    updates, areas = found.of(0, "natural_auc")
    assert (updates.tolist(), areas.tolist()) == ([0, 100], [0.4, 0.9])
    for text in ("update,loss\n1,2\n", f"{header}\n0,1,x,0,0,0,0\n", f"{header}\n0,1\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="is not a training history"):
            loading.load_curve(tmp_path, "curve")
    path.write_text(f"{header}\n0,1,nan,0,0,0,0\n")
    with pytest.raises(UserError, match="not finite"):
        loading.load_curve(tmp_path, "curve")
