"""The convolutional network of Madry et al. (2018) for MNIST, which GAT's classifiers and detectors share.

Two 5x5 convolutions with max-pooling, one hidden layer: 3,274,634 parameters for MNIST's ten classes, 3,265,409 for
a detector with one output. Weights start at PyTorch's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["madry_cnn"] = "madry_cnn"
    size: int = 28  # side of the square images, pixels; divisible by 4
    channels: int = 1  # image channels
    classes: int = 10  # K; 1 for a detector
    widths: tuple[int, ...] = (32, 64)  # channels of the two convolutions
    hidden: int = 1024  # units of the hidden layer
    mean: tuple[float, ...] = (0.0,)  # per channel, subtracted inside the model; the paper's network has none
    std: tuple[float, ...] = (1.0,)  # per channel, divided by inside the model


class MadryCNN(nn.Module):
    """images (N, C, size, size) in [0, 1] -> logits (N, K)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.num_classes = config.classes
        first, second = config.widths
        self.register_buffer("mean", torch.tensor(config.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, -1, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(config.channels, first, 5, padding=2)
        self.conv2 = nn.Conv2d(first, second, 5, padding=2)
        self.hidden = nn.Linear(second * (config.size // 4) ** 2, config.hidden)
        self.fc = nn.Linear(config.hidden, config.classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after both convolutions (N, C_i, H_i, W_i), then of the hidden layer (N, D).

        ReLU follows the pooling: the values are those of the other order, at a quarter of its cost.
        """
        first = F.relu(F.max_pool2d(self.conv1((x - self.mean) / self.std), 2))
        second = F.relu(F.max_pool2d(self.conv2(first), 2))
        return [first, second, F.relu(self.hidden(second.flatten(1)))]

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc(self.features(x)[-1]))


def check(config: Config) -> None:
    """Raise ValueError where there is no such network."""
    if config.size < 4 or config.size % 4:
        raise ValueError(f"size must be divisible by 4, for the two poolings, not {config.size}")
    if len(config.widths) != 2:
        raise ValueError(f"widths are those of two convolutions, not {len(config.widths)}")
    if not len(config.mean) == len(config.std) == config.channels:
        raise ValueError(f"mean and std need {config.channels} values each, one per channel")


Model = MadryCNN
