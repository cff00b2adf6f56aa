"""Figures by artifact name; each writes its pictures and, as CSV, the numbers it draws.

A figure whose data a scale does without says so in one line, so that every declared file is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from robustgen.papers.gat.figures import densities, detection, generated, histories, images, logits
from robustgen.papers.gat.measured import Measured

FIGURES: Mapping[str, Callable[[Path, Measured], None]] = {
    "figure3": detection.mnist,
    "figure4": images.mnist,
    "figure5": detection.cifar,
    "figure6": images.cifar,
    "figure7": generated.beside_softmax,
    "figure8": detection.mnist_losses,
    "figure9": logits.perturbed,
    "figure10": detection.cifar_losses,
    "figure11": logits.generated,
    "figure12": histories.training,
    "figure13": images.same_length,
    "figure14": generated.widest,
    "figure15": generated.imagenet_models,
    "figure16": images.imagenet,
    "figure18": generated.imagenet_samples,
    "figure19": generated.noise,
    "figure20": densities.line,
    "figure21": densities.plane,
}
