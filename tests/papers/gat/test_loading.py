"""Reading what the stages wrote of GAT: shards, damaged and missing files, histories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.papers.gat import loading
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.probe import PROBE

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
        ("detection", {"attack": np.array(["other"] * 16)}, "attack other is none of .* make the file again"),
        ("detection", {"rival_robust": np.zeros((1, 400), bool)}, "rival_robust has shape"),
        ("detection", {"validation_detector": np.zeros((20, 3))}, "validation_detector has shape"),
        ("detection", {"detector_logits": np.full((16, 400, 4), np.inf)}, "not finite"),
        ("distortion", {"distance": np.full(400, np.nan)}, "distance holds numbers that are no distances"),
        ("distortion", {"c": np.zeros(3)}, "c has shape"),
        ("synthesis", {"natural": np.zeros((3, 3))}, "natural has shape"),
        ("synthesis", {"generated_judged": np.zeros((3, 3))}, "generated_judged has shape"),
        ("synthesis", {"kind": np.array("softmax")}, "shows a softmax classifier and not detectors"),
        ("density", {"distance": np.zeros((3, 3))}, "distance has shape"),
        ("density", {"estimate": np.zeros((1, 3, 2, 5))}, "estimate has shape"),
        ("density", {"target": np.zeros((1, 5))}, "target has shape"),
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


def test_softmax_classifiers_are_told_from_detectors(right: Measured, tmp_path: Path) -> None:
    softmax, detectors = right.mnist.synthesis_softmax, right.mnist.synthesis
    assert softmax is not None
    assert detectors is not None
    save_arrays(tmp_path / "softmax.npz", softmax.arrays)
    save_arrays(tmp_path / "detectors.npz", detectors.arrays)
    assert loading.load_softmax(tmp_path, "softmax").name == "softmax"
    with pytest.raises(UserError, match=r"detectors\.npz shows detectors and not a softmax classifier; name a study"):
        loading.load_softmax(tmp_path, "detectors")


@pytest.mark.parametrize("name", loading.DENSITY)
def test_every_array_of_a_density_is_needed(name: str, right: Measured, tmp_path: Path) -> None:
    save_arrays(tmp_path / "study.npz", {k: v for k, v in right.densities[0].arrays.items() if k != name})
    with pytest.raises(UserError, match=f"holds no array {name}"):
        loading.load_density(tmp_path, "study")


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
        with pytest.raises(UserError, match=r"is not a (readable )?training history"):
            loading.load_curve(tmp_path, "curve")
    path.write_text(f"{header}\n0,1,nan,0,0,0,0\n")
    with pytest.raises(UserError, match="not finite"):
        loading.load_curve(tmp_path, "curve")
