"""Words that all papers share: data sets and pixel lengths as people write them."""

from __future__ import annotations

NAMES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "imagenette": "imagenette",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "digits32": "digits 32×32",
    "digits32-weak": "digits 32×32, half the radius",
    "digits16": "digits 16×16",
    "digits8": "digits 8×8",
}


def named(dataset: str) -> str:
    """A data set as people write it."""
    return NAMES.get(dataset, dataset)


def pixels(value: float) -> str:
    """A length in pixels of [0, 1] as the field writes it: 8/255 for a few whole grey levels, else the decimal."""
    levels = value * 255
    return f"{levels:.0f}/255" if 0 < levels <= 32 and abs(levels - round(levels)) < 1e-6 else f"{value:.4g}"
