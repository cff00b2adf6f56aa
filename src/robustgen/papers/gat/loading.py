"""Reading what the stages wrote of GAT: every array's shape is checked, and shards are put together by image."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from robustgen.errors import UserError
from robustgen.io import PathLike, load_arrays, load_csv
from robustgen.papers.gat.probe import PROBE, Probe
from robustgen.papers.gat.study import DETECTION, Curve, Density, Detection, Distortion, Synthesis
from robustgen.papers.gat.words import ATTACKS
from robustgen.papers.studies import PER_IMAGE, files, finite, merged, same_shape

Model = Literal["detectors", "softmax"]  # whose logits a synthesis raised
MODELS = {"detectors": "detectors", "softmax": "a softmax classifier"}
VALIDATION = ("validation_classifier", "validation_detector", "validation_labels", "rival_eps")
SYNTHESIS = (
    *("model_labels", "natural", *PER_IMAGE, "images", "image_labels"),
    *("shift_norm", "shift_eps", "shift_steps", "shift_alpha", "shifted", "shifted_logits"),
    *("shifted_judged", "shifted_nearest", "start", "generated", "generated_logits"),
    *("start_judged", "generated_judged", "generated_nearest", "noise_steps", "noise", "noise_logits"),
    *("noise_judged", "noise_nearest"),
    *("kind", "config"),
)
DENSITY = (
    *("problems", "seeds", "kinds", "axis", "logits", "target", "estimate", "distance", "uniform_distance"),
    *("positives", "negatives", "config"),
)
CURVE = ("update", "detector", "loss", "train_natural_auc", "train_adversarial_auc", "natural_auc", "adversarial_auc")


def load_probe(folder: PathLike, name: str) -> Probe:
    """The study `name` of a folder of `attack-detectors`, whole or in shards; UserError where it is damaged."""
    shards = [(path, _probe(path)) for path in files(folder, name)]
    axes = dict.fromkeys((*PER_IMAGE, "predicted", "natural"), 0) | {"adversarial": 1}
    return Probe(name, merged(shards, (*PROBE, "detectors"), axes))


def _probe(path: Path) -> dict[str, np.ndarray]:
    arrays = load_arrays(path, *PROBE, "adversarial", "natural", "predicted", *PER_IMAGE, "detectors", "config")
    grid, images, outputs = len(arrays["eps"]), len(arrays["labels"]), len(arrays["detectors"])
    for name in PROBE:
        same_shape(path, name, arrays[name].shape, (grid,))
    same_shape(path, "adversarial", arrays["adversarial"].shape, (grid, images, outputs))
    same_shape(path, "natural", arrays["natural"].shape, (images, outputs))
    same_shape(path, "predicted", arrays["predicted"].shape, (images,))
    if not grid:
        raise UserError(f"{path}: no attack in it; give attack-detectors at least one radius")
    finite(path, arrays)
    return arrays


def load_detection(folder: PathLike, name: str) -> Detection:
    """The study `name` of a folder of `defend-detectors`, whole or in shards; UserError where it is damaged."""
    shards = [(path, _detection(path)) for path in files(folder, name)]
    axes = dict.fromkeys((*PER_IMAGE, "natural_classifier", "natural_detector", "rival_correct"), 0)
    axes |= dict.fromkeys(("classifier_logits", "detector_logits", "rival_robust"), 1)
    return Detection(name, merged(shards, (*DETECTION, *VALIDATION), axes))


def _detection(path: Path) -> dict[str, np.ndarray]:
    names = ("classifier_logits", "detector_logits", "natural_classifier", "natural_detector")
    arrays = load_arrays(path, *DETECTION, *names, *VALIDATION, "rival_correct", "rival_robust", *PER_IMAGE, "config")
    grid, images = len(arrays["eps"]), len(arrays["labels"])
    classes, checked = arrays["natural_detector"].shape[-1], len(arrays["validation_labels"])
    for column in DETECTION:
        same_shape(path, column, arrays[column].shape, (grid,))
    for kind in ("classifier", "detector"):
        same_shape(path, f"{kind}_logits", arrays[f"{kind}_logits"].shape, (grid, images, classes))
        same_shape(path, f"natural_{kind}", arrays[f"natural_{kind}"].shape, (images, classes))
        same_shape(path, f"validation_{kind}", arrays[f"validation_{kind}"].shape, (checked, classes))
    same_shape(path, "rival_robust", arrays["rival_robust"].shape, (len(arrays["rival_eps"]), images))
    unknown = set(arrays["attack"].tolist()) - set(ATTACKS)
    if unknown:
        raise UserError(
            f"{path}: attack {', '.join(sorted(unknown))} is none of {', '.join(ATTACKS)}; take it out of attacks of "
            "the defend-detectors run and make the file again"
        )
    finite(path, arrays)
    return arrays


def load_distortion(folder: PathLike, name: str) -> Distortion:
    """The study `name` of a folder of `distort`, whole or in shards; UserError where it is damaged."""
    shards = [(path, _distortion(path)) for path in files(folder, name)]
    axes = dict.fromkeys((*PER_IMAGE, "distance", "c", "natural_error"), 0)
    return Distortion(name, merged(shards, ("threshold", "validation_share"), axes))


def _distortion(path: Path) -> dict[str, np.ndarray]:
    per_image = ("distance", "c", "natural_error")
    arrays = load_arrays(path, *per_image, "threshold", "validation_share", *PER_IMAGE, "config")
    for name in per_image:
        same_shape(path, name, arrays[name].shape, (len(arrays["labels"]),))
    if np.isnan(arrays["distance"]).any() or (arrays["distance"] < 0).any():
        raise UserError(f"{path}: distance holds numbers that are no distances; delete the file and make it again")
    return arrays


def load_synthesis(folder: PathLike, name: str, kind: Model = "detectors") -> Synthesis:
    """The study `name` of a folder of `synthesize`, of detectors or of a softmax classifier.

    UserError where it is missing, damaged or of the other kind.
    """
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path, *SYNTHESIS)
    found = str(arrays["kind"])
    if found != kind:
        raise UserError(f"{path} shows {MODELS.get(found, found)} and not {MODELS[kind]}; name a study of these")
    outputs, shifts = len(arrays["model_labels"]), len(arrays["shift_eps"])
    same_shape(path, "natural", arrays["natural"].shape, (len(arrays["labels"]), outputs))
    if arrays["shifted"].size:
        same_shape(path, "shifted", arrays["shifted"].shape[:3], (shifts, outputs, len(arrays["images"])))
        same_shape(path, "shifted_judged", arrays["shifted_judged"].shape, arrays["shifted"].shape[:3])
    if arrays["generated"].size:
        same_shape(path, "generated", arrays["generated"].shape[:1], (outputs,))
        same_shape(path, "generated_judged", arrays["generated_judged"].shape, arrays["generated"].shape[:2])
    if arrays["noise"].size:
        same_shape(path, "noise", arrays["noise"].shape[:2], (len(arrays["noise_steps"]), outputs))
        same_shape(path, "noise_judged", arrays["noise_judged"].shape, arrays["noise_logits"].shape)
    finite(path, arrays)
    return Synthesis(name, arrays)


def load_softmax(folder: PathLike, name: str) -> Synthesis:
    """`load_synthesis` of a softmax classifier."""
    return load_synthesis(folder, name, "softmax")


def load_density(folder: PathLike, name: str) -> Density:
    """The study `name` of a folder of `density`; UserError where it is missing or damaged."""
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path, *DENSITY)
    shape = tuple(len(arrays[key]) for key in ("problems", "seeds", "kinds"))
    same_shape(path, "distance", arrays["distance"].shape, shape)
    same_shape(path, "logits", arrays["logits"].shape[:3], shape)
    same_shape(path, "estimate", arrays["estimate"].shape, arrays["logits"].shape)
    same_shape(path, "target", arrays["target"].shape, (shape[0], *arrays["logits"].shape[3:]))
    finite(path, arrays)
    return Density(name, arrays)


def load_curve(folder: PathLike, name: str) -> Curve:
    """The training history `name` of a folder of CSV files of `train-gat`; UserError where it is damaged."""
    path = Path(folder) / f"{name}.csv"
    header, lines = load_csv(path, "training history")
    try:
        columns = {column: np.array([float(line[header.index(column)]) for line in lines]) for column in CURVE}
    except ValueError as error:
        raise UserError(f"{path} is not a training history of train-gat ({error}); make it again") from error
    finite(path, columns)
    return Curve(name, columns)
