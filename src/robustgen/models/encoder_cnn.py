"""E-ABS's encoder and a linear layer: the CNN that Ju & Wagner (2020, Sec. 4.3) compare E-ABS with, and the network
that they train adversarially.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["encoder_cnn"] = "encoder_cnn"
    size: int = 28  # side of the square images, pixels
    channels: int = 1  # image channels
    classes: int = 10  # K
    encoder_channels: tuple[int, ...] = (16, 32, 64, 64)  # output channels of the convolutions
    encoder_kernels: tuple[int, ...] = (5, 5, 5, 4)
    encoder_strides: tuple[int, ...] = (2, 2, 2, 1)
    encoder_paddings: tuple[int, ...] = (2, 2, 2, 1)
    slope: float = 0.2  # of leaky ReLU below 0; the paper names none
    dropout: float = 0.2  # share of units dropped after the last convolution; the paper names none


class Encoder(nn.Module):
    """G convolutional encoders as one, without their last, fully connected layers.

    Each convolution is followed by batch norm and leaky ReLU, the last one by dropout too.
    """

    def __init__(self, config: Any, groups: int) -> None:
        """`config` has `size`, `channels`, `slope`, `dropout` and the fields `encoder_...` of `Config`."""
        super().__init__()
        self.groups, self.slope, self.dropout = groups, config.slope, config.dropout
        self.sizes = encoder_sizes(config)
        self.width = config.encoder_channels[-1] * self.sizes[-1] ** 2  # features of one encoder
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        fan_in = config.channels
        for out, kernel, stride, padding in layers(config, "encoder"):
            self.convolutions.append(
                nn.Conv2d(groups * fan_in, groups * out, kernel, stride=stride, padding=padding, groups=groups)
            )
            self.norms.append(nn.BatchNorm2d(groups * out))
            fan_in = out

    def maps(self, x: Tensor) -> list[Tensor]:
        """Activations (N, G·C_i, S_i, S_i) after each convolution; x (N, C, H, W) for all groups to see the same
        images, or (N, G·C, H, W), group by group.
        """
        found: list[Tensor] = []
        h = x
        for convolution, norm in zip(cast(Any, self.convolutions), self.norms, strict=True):
            weight, groups = convolution.weight, h.shape[1] // convolution.weight.shape[1]
            h = F.conv2d(h, weight, convolution.bias, convolution.stride, convolution.padding, groups=groups)
            h = F.leaky_relu(norm(h), self.slope)
            found.append(h)
        return found

    def features(self, last: Tensor) -> Tensor:
        """The last of the maps, flattened and after dropout, (G, N, D)."""
        dropped: Tensor = F.dropout(last, self.dropout, self.training).unflatten(1, (self.groups, -1))
        return dropped.transpose(0, 1).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """Features (G, N, D) of x as in `maps`."""
        return self.features(self.maps(x)[-1])


class EncoderCNN(nn.Module):
    """images (N, C, S, S) in [0, 1] -> logits (N, K)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_encoder(config)
        self.config = config
        self.num_classes = config.classes
        self.encoder = Encoder(config, groups=1)
        self.fc = nn.Linear(self.encoder.width, config.classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after each convolution (N, C_i, H_i, W_i), then those that the linear layer sees (N, D)."""
        maps = self.encoder.maps(x)
        return [*maps, self.encoder.features(maps[-1])[0]]

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc(self.features(x)[-1]))


Model = EncoderCNN


def layers(config: Any, part: Literal["encoder", "decoder"]) -> list[tuple[int, int, int, int]]:
    """Channels, kernel, stride and padding of each convolution of a part; ValueError where the options disagree."""
    columns: Sequence[tuple[int, ...]] = [
        getattr(config, f"{part}_{name}") for name in ("channels", "kernels", "strides", "paddings")
    ]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(f"{part}_channels, _kernels, _strides and _paddings need one value a layer, not {lengths}")
    if min(map(min, columns[:3])) < 1 or min(columns[3]) < 0:
        raise ValueError(f"the {part} needs channels, kernels and strides >= 1 and paddings >= 0")
    return list(zip(*columns, strict=True))


def encoder_sizes(config: Any) -> list[int]:
    """Sides of the maps, from the image to the last convolution's output; ValueError where one is below 1."""
    sizes = [config.size]
    for _, kernel, stride, padding in layers(config, "encoder"):
        sizes.append((sizes[-1] + 2 * padding - kernel) // stride + 1)
    return positive(sizes, "encoder")


def positive(sizes: list[int], part: str) -> list[int]:
    if min(sizes) < 1:
        raise ValueError(f"the {part}'s maps have sides {sizes}; each must be at least 1")
    return sizes


def check_encoder(config: Any) -> None:
    """Raise ValueError where there is no such encoder."""
    encoder_sizes(config)
    if min(config.channels, config.classes) < 1:
        raise ValueError(f"channels and classes must be at least 1, not {config.channels} and {config.classes}")
    if not 0 <= config.slope < 1 or not 0 <= config.dropout < 1:
        raise ValueError(f"slope and dropout lie in [0, 1), unlike {config.slope} and {config.dropout}")
