"""w32-10, the wide residual network of Madry et al. (2018) for CIFAR-10, which GAT's classifiers and detectors share.

Five pre-activation units in each of three stages, of 160, 320 and 640 channels: 45,901,914 parameters for CIFAR-10.
As in the code they released: no biases in convolutions, no parameters in shortcuts, standardisation of each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["madry_resnet"] = "madry_resnet"
    size: int = 32  # side of the square images, pixels; divisible by 4
    channels: int = 3  # image channels
    classes: int = 10  # K; 1 for a detector
    units: int = 5  # residual units in each of the three stages
    widths: tuple[int, ...] = (16, 160, 320, 640)  # channels of the stem and of the stages
    slope: float = 0.1  # of LeakyReLU for negative inputs


class Unit(nn.Module):
    """norm, activation, 3x3 convolution, twice; the shortcut is the input, averaged and padded with zero channels.

    `activated` units take the shortcut after the first norm and activation.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, activated: bool, slope: float) -> None:
        super().__init__()
        self.stride, self.activated, self.slope = stride, activated, slope
        self.below = (outputs - inputs) // 2  # zero channels before the shortcut's own
        self.above = outputs - inputs - self.below
        self.norm1 = normalisation(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1 if stride == 1 else 0, bias=False)
        self.norm2 = normalisation(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.leaky_relu(self.norm1(x), self.slope)
        shortcut = active if self.activated else x
        if self.stride > 1:  # TensorFlow pads an even map below and at the right only
            active, shortcut = F.pad(active, (0, 1, 0, 1)), F.avg_pool2d(shortcut, self.stride)
        if self.below or self.above:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.below, self.above))
        out = F.leaky_relu(self.norm2(self.conv1(active)), self.slope)
        return cast(Tensor, self.conv2(out) + shortcut)


class MadryResNet(nn.Module):
    """images (N, C, size, size) in [0, 1] -> logits (N, K)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.num_classes = config.classes
        widths = config.widths
        self.conv1 = nn.Conv2d(config.channels, widths[0], 3, 1, 1, bias=False)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Unit(
                        widths[i] if n == 0 else widths[i + 1],
                        widths[i + 1],
                        stride=2 if i > 0 and n == 0 else 1,
                        activated=i == n == 0,
                        slope=config.slope,
                    )
                    for n in range(config.units)
                )
            )
            for i in range(3)
        )
        self.norm = normalisation(widths[-1])
        self.fc = nn.Linear(widths[-1], config.classes)
        self.initialise()

    def initialise(self) -> None:
        """As released: normal weights of variance 2 / (9·outputs) in convolutions, uniform ones of 1 / inputs last."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        bound = (3 / self.fc.in_features) ** 0.5
        nn.init.uniform_(self.fc.weight, -bound, bound)
        nn.init.zeros_(self.fc.bias)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after the stem and each stage (N, C_i, H_i, W_i), then the penultimate layer (N, D)."""
        maps = [self.conv1(standardised(x))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        maps[-1] = F.leaky_relu(self.norm(maps[-1]), self.config.slope)
        return [*maps, maps[-1].mean((2, 3))]

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc(self.features(x)[-1]))


def normalisation(width: int) -> nn.BatchNorm2d:
    """Batch norm with TensorFlow's ε and a decay of 0.9."""
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.1)


def standardised(x: Tensor) -> Tensor:
    """Images (N, C, H, W) in [0, 1], each with mean 0 and standard deviation 1 over its D = C·H·W values.

    The deviation is at least 1/√D in units of 1/255, as `tf.image.per_image_standardization` has it, so that an image
    of one colour becomes zero, with zero gradient.
    """
    centred = x - x.mean((1, 2, 3), keepdim=True)
    variance = centred.square().mean((1, 2, 3), keepdim=True)
    least = 1 / (255**2 * x[0].numel())
    return centred * variance.clamp(min=least).rsqrt()


def check(config: Config) -> None:
    """Raise ValueError where there is no such network."""
    if config.size < 4 or config.size % 4:
        raise ValueError(f"size must be divisible by 4, for the two strides, not {config.size}")
    if len(config.widths) != 4 or sorted(config.widths) != list(config.widths):
        raise ValueError(f"widths are those of the stem and three stages and do not fall, not {config.widths}")
    if config.units < 1:
        raise ValueError(f"units must be at least 1, not {config.units}")


Model = MadryResNet
