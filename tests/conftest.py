"""A small classifier to attack and a small data file, for whoever needs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustgen.io import save_arrays

torch.set_num_threads(1)

CLASSES = 4


class Toy(nn.Module):
    """images (N, 2, 5, 5) -> logits (N, 4); double precision, so that no result hangs on how a batch is summed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(54, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.norm(self.conv(x))))
        return logits


@pytest.fixture
def toy() -> nn.Module:
    """A fixed, untrained classifier with batch-norm statistics of its own, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = Toy().double()
        sample = torch.rand(500, 2, 5, 5, dtype=torch.float64)
        with torch.no_grad():
            model.norm.momentum = None  # the statistics of the sample
            model(sample)
            model.eval()
            model.head[1].weight.mul_(4)
            model.head[1].bias.sub_(model(sample).mean(0))  # every class is predicted somewhere
    return model  # type: ignore[no-any-return]


@pytest.fixture
def images(toy: nn.Module) -> tuple[Tensor, Tensor]:
    """Eleven images with the labels that `toy` gives them."""
    x = torch.rand(11, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x, toy(x).argmax(1).detach()


def labelled(n: int, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (n, 1, size, size) of four classes, told apart by the bright quarter, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    images = random.integers(0, 110, (n, 1, size, size))
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        y, x = divmod(int(label), 2)
        image[:, y * half : (y + 1) * half, x * half : (x + 1) * half] += 90
    return images.astype(np.uint8), labels


@pytest.fixture(scope="session")
def write_data() -> Callable[..., Path]:
    """write(path, train=64, validation=24, test=32, size=8): a data file as `robustgen fetch` writes it."""

    def write(path: Path, train: int = 64, validation: int = 24, test: int = 32, size: int = 8) -> Path:
        arrays: dict[str, np.ndarray] = {"classes": np.array([f"quarter {k}" for k in range(CLASSES)])}
        for seed, (split, n) in enumerate({"train": train, "validation": validation, "test": test}.items()):
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = labelled(n, seed, size)
            arrays[f"{split}_indices"] = np.arange(n) + 1000 * seed
        save_arrays(path, arrays)
        return path

    return write
