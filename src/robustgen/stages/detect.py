"""Fit detectors on one attack's validation images and score natural and attacked test images with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustgen import models
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.io import load_arrays, save_arrays
from robustgen.stages.compute import Compute, check_data, prepare

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustgen.defenses.detectors import Detector


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    model: Path  # the classifier behind the detectors
    arch: str | None = None  # architecture the model file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them
    adversarial: Path  # folder of adversarial sets, one npz an attack
    fit: tuple[str, ...]  # attacks on whose validation images detectors and thresholds are fitted, in turn
    attacks: tuple[str, ...]  # attacks whose test images are scored
    detectors: tuple[str, ...] = ("energy", "energy-released", "kd-bu", "lid")  # which detectors
    kd_bandwidth: float = 1.2  # of KD+BU's kernel, in units of the penultimate features (Feinman et al. 2017: MNIST)
    out: Path  # scores, thresholds and logits to write, npz
    batch: int = 128  # images computed together; scores do not depend on it


def run(options: Options) -> None:
    import torch

    from robustgen.defenses.detectors import DETECTORS, fit_threshold

    device = prepare(options)
    unknown = sorted(set(options.detectors) - set(DETECTORS))
    if unknown:
        raise UserError(f"unknown detector {', '.join(unknown)}; known are {', '.join(DETECTORS)}")
    model = models.load(options.model, device, options.arch)
    train, validation, test = (load_split(options.data, split) for split in ("train", "validation", "test"))
    check_data(model, train, options.data)
    sets = {name: load_arrays(options.adversarial / f"{name}.npz") for name in {*options.fit, *options.attacks}}
    arrays: dict[str, np.ndarray] = {}
    attacked: dict[str, Tensor] = {}
    for name in options.attacks:
        rows = sets[name]["test_indices"]
        attacked[name] = torch.from_numpy(sets[name]["test_adversarial"])
        arrays[f"labels.{name}"] = test.labels[rows].numpy()
        arrays[f"natural-logits.{name}"] = logits(model, test.images[rows], options.batch)
        arrays[f"changed.{name}"] = (attacked[name] != test.images[rows]).flatten(1).any(1).numpy()
        arrays[f"logits.{name}"] = logits(model, attacked[name], options.batch)
        arrays |= {f"{key}.{name}": sets[name][key] for key in sorted(sets[name]) if key in KEPT}
    for fit in options.fit:
        rows, adversarial = _validation(sets, fit, options)
        for kind in options.detectors:
            extra = {"bandwidth": options.kd_bandwidth} if kind == "kd-bu" else {}
            detector = DETECTORS[kind](batch_size=options.batch, **extra)
            detector.fit(model, train, validation.images[rows], adversarial)
            threshold = fit_threshold(
                detector.score(validation.images[rows]), detector.score(adversarial), DETECTORS[kind].threshold_rule
            )
            arrays[f"threshold.{kind}.{fit}"] = np.array(threshold)
            arrays[f"temperature.{kind}.{fit}"] = np.array(getattr(detector, "temperature", 1.0))
            arrays |= score_sets(detector, f"{kind}.{fit}", test.images, attacked, sets)
    save_arrays(options.out, arrays)


KEPT = ("config", "trace_energy", "trace_correct")  # of an adversarial set, passed on to who draws the figures


def logits(model: nn.Module, images: Tensor, batch: int) -> np.ndarray:
    """(N, K) logits of images (N, C, H, W) in [0, 1]."""
    import torch

    device = next(model.parameters()).device
    with torch.no_grad():
        parts = [model(x.to(device, memory_format=torch.channels_last)).cpu() for x in images.split(batch)]
    return torch.cat(parts).numpy()


def score_sets(
    detector: Detector, name: str, images: Tensor, attacked: dict[str, Tensor], sets: dict[str, dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Scores of every attack's test images, and of the natural images they were made from."""
    count = max(int(sets[attack]["test_indices"].max()) + 1 for attack in attacked)
    natural = detector.score(images[:count]).numpy()
    found = {}
    for attack, adversarial in attacked.items():
        found[f"natural-score.{name}.{attack}"] = natural[sets[attack]["test_indices"]]
        found[f"score.{name}.{attack}"] = detector.score(adversarial).numpy()
    return found


def _validation(sets: dict[str, dict[str, np.ndarray]], fit: str, options: Options) -> tuple[np.ndarray, Tensor]:
    import torch

    if "validation_adversarial" not in sets[fit]:
        raise UserError(
            f"{options.adversarial / fit}.npz holds no validation images, so no detector can be fitted on it; "
            "give its attack run a `validation` count"
        )
    return sets[fit]["validation_indices"], torch.from_numpy(sets[fit]["validation_adversarial"])
