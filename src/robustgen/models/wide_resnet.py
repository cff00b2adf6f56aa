"""Wide residual networks (Zagoruyko & Komodakis 2016), in their pre-activation form: WRN-`depth`-`widen`.

WRN-28-10 is the natural classifier of Hill et al. (2021) and, without normalisation, the JEM of Grathwohl et al.
(2020). Convolutions have biases, as in the code those two released: 36,489,290 parameters for CIFAR-10 with batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["wide_resnet"] = "wide_resnet"
    size: int = 32  # side of the square images, pixels
    channels: int = 3  # image channels
    classes: int = 10  # K
    depth: int = 28  # convolutions on the longest path, 6n + 4: n blocks in each of three stages
    widen: int = 10  # width of a stage in units of base: base·widen, twice and four times that
    base: int = 16  # channels of the stem
    norm: Literal["batch", "none"] = "batch"  # before every activation
    dropout: float = 0.0  # probability, between the two convolutions of a block
    slope: float = 0.0  # of LeakyReLU for negative inputs; 0 is ReLU, JEM uses 0.2
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # per channel, subtracted inside the model
    std: tuple[float, ...] = (0.5, 0.5, 0.5)  # per channel, divided by inside the model


class Block(nn.Module):
    """norm, activation, 3x3 convolution, twice; the shortcut is the input, or a 1x1 convolution of it activated."""

    def __init__(self, inputs: int, outputs: int, stride: int, config: Config) -> None:
        super().__init__()
        self.slope, self.dropout = config.slope, config.dropout
        self.norm1 = normalisation(config, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm2 = normalisation(config, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.leaky_relu(self.norm1(x), self.slope)
        out = F.leaky_relu(self.norm2(self.conv1(active)), self.slope)
        out = self.conv2(F.dropout(out, self.dropout, self.training))
        return cast(Tensor, out + (x if self.shortcut is None else self.shortcut(active)))


class WideResNet(nn.Module):
    """images (N, C, size, size) in [0, 1] -> logits (N, K)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.num_classes = config.classes
        self.register_buffer("mean", torch.tensor(config.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, -1, 1, 1), persistent=False)
        blocks = (config.depth - 4) // 6
        widths = [config.base, *(config.base * config.widen * k for k in (1, 2, 4))]
        self.conv1 = nn.Conv2d(config.channels, config.base, 3, 1, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Block(widths[i] if n == 0 else widths[i + 1], widths[i + 1], 2 if i > 0 and n == 0 else 1, config)
                    for n in range(blocks)
                )
            )
            for i in range(3)
        )
        self.norm = normalisation(config, widths[-1])
        self.fc = nn.Linear(widths[-1], config.classes)
        self.initialise()

    def initialise(self) -> None:
        """He's normal weights and zero biases.

        Without normalisation the variance would double in every block; the last convolution of each is scaled down by
        the square root of their number, which bounds the growth by e.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, self.config.slope)
                nn.init.zeros_(cast(Tensor, module.bias))
        nn.init.zeros_(self.fc.bias)
        if self.config.norm == "none":
            blocks = [module for module in self.modules() if isinstance(module, Block)]
            with torch.no_grad():
                for block in blocks:
                    block.conv2.weight.div_(len(blocks) ** 0.5)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after the stem and each stage (N, C_i, H_i, W_i), then the penultimate layer (N, D)."""
        maps = [self.conv1((x - self.mean) / self.std)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        maps[-1] = F.leaky_relu(self.norm(maps[-1]), self.config.slope)
        return [*maps, maps[-1].mean((2, 3))]

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc(self.features(x)[-1]))


def normalisation(config: Config, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if config.norm == "batch" else nn.Identity()


def check(config: Config) -> None:
    """Raise ValueError where there is no such network."""
    if config.depth < 10 or (config.depth - 4) % 6:
        raise ValueError(f"depth must be 10, 16, 22, 28, ... (6n + 4), not {config.depth}")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), not {config.dropout}")
    if not len(config.mean) == len(config.std) == config.channels:
        raise ValueError(f"mean and std need {config.channels} values each, one per channel")


Model = WideResNet
