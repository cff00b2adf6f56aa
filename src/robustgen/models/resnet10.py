"""ResNet10: one basic block in each of four stages, the classifier of Beadini & Masi (2023).

The paper names the network only; stem, strides and head follow its released code (4,903,242 parameters for
CIFAR-10, 4,918,602 for imagenette at 150x150).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["resnet10"] = "resnet10"
    size: int = 32  # side of the square images, pixels
    channels: int = 3  # image channels
    classes: int = 10  # K
    width: int = 64  # channels of the first stage; the paper's is 64, parameters grow with its square
    stem_stride: int = 1  # 1 for CIFAR-sized images, 2 for imagenette
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # per channel, subtracted inside the model
    std: tuple[float, ...] = (0.229, 0.224, 0.225)  # per channel, divided by inside the model


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm and an identity or 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet10(nn.Module):
    """images (N, C, size, size) in [0, 1] -> logits (N, K)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not len(config.mean) == len(config.std) == config.channels:
            raise ValueError(f"mean and std need {config.channels} values each, one per channel")
        self.config = config
        self.num_classes = config.classes
        w = config.width
        self.register_buffer("mean", torch.tensor(config.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, -1, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(config.channels, w, 3, config.stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(w)
        self.stages = nn.ModuleList(
            [Block(w, w, 1), Block(w, 2 * w, 2), Block(2 * w, 4 * w, 2), Block(4 * w, 8 * w, 2)]
        )
        side = -(-config.size // (8 * config.stem_stride))  # the last stage's map: three halvings, rounded up
        self.pool = min(4, side)
        self.fc = nn.Linear(8 * w * (side // self.pool) ** 2, config.classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after the stem and each stage (N, C_i, H_i, W_i), then the penultimate layer (N, D)."""
        x = F.relu(self.bn1(self.conv1((x - self.mean) / self.std)))
        maps = [x]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return [*maps, F.avg_pool2d(maps[-1], self.pool).flatten(1)]

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc(self.features(x)[-1]))


Model = ResNet10
