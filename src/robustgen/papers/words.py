"""Words that all papers share: data sets, norms, counts and pixel lengths as people write them."""

from __future__ import annotations

NAMES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "imagenette": "imagenette",
    "mnist": "MNIST",
    "mnist32": "MNIST 32×32",
    "fashion-mnist": "Fashion-MNIST",
    "fashion32": "Fashion-MNIST 32×32",
    "digits32": "digits 32×32",
    "digits32-weak": "digits 32×32, half the radius",
    "digits16": "digits 16×16",
    "digits8": "digits 8×8",
    "restricted-imagenet": "Restricted ImageNet",
    "supertraffic10": "SuperTraffic-10",
    "gtsrb": "GTSRB",
}
NORMS = {"linf": "L∞", "l2": "L2"}


def named(dataset: str) -> str:
    """A data set as people write it."""
    return NAMES.get(dataset, dataset)


def pixels(value: float) -> str:
    """A length in pixels of [0, 1] as the field writes it: 8/255 for a few whole grey levels, else the decimal."""
    levels = value * 255
    return f"{levels:.0f}/255" if 0 < levels <= 32 and abs(levels - round(levels)) < 1e-6 else f"{value:.4g}"


def plural(count: int, word: str) -> str:
    """1 step, 2 steps."""
    return f"{count} {word}" + ("" if count == 1 else "s")
