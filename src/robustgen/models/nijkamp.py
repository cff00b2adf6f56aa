"""The light energy network of Nijkamp et al. (2019), as Hill, Mitchell & Zhu (2021) use it.

693,569 parameters at 3×32×32. What the network computes is the scaled energy (τ²/2) U; see sampling/langevin.py for
the convention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.05  # of the leaky ReLU
CACHED = 2**18  # activations of the first layer that a core's cache holds, numbers


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["nijkamp"] = "nijkamp"
    size: int = 32  # side of the square images, pixels: a power of two, 8 at least (pad MNIST to 32)
    channels: int = 3  # image channels
    width: int = 32  # channels of the first layer; each halving of the map doubles them
    tau: float = 0.01  # τ, Langevin noise in units of v = 2x − 1


class Nijkamp(nn.Module):
    """states v (N, C, size, size) in [−1, 1] -> scaled energies (N,)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.size < 8 or config.size & (config.size - 1):
            raise ValueError(f"size is {config.size}; it must be a power of two from 8 on, so pad the images")
        if not config.tau > 0:
            raise ValueError(f"tau is {config.tau}; it must be positive")
        self.config = config
        self.tau = config.tau
        side, channels = config.size, config.width
        layers = [nn.Conv2d(config.channels, channels, 3, 1, 1)]
        while side > 4:
            layers.append(nn.Conv2d(channels, 2 * channels, 4, 2, 1))
            side, channels = side // 2, 2 * channels
        self.layers = nn.ModuleList(layers)
        self.head = nn.Conv2d(channels, 1, 4, 1, 0)
        self.to(memory_format=torch.channels_last)  # faster, and kernels that round alike in every batch

    @property
    def micro_batch(self) -> int:
        """States to move together on a CPU: as many as keep their activations in cache."""
        return max(16, CACHED // (self.config.width * self.config.size**2))

    def scaled_energy(self, v: Tensor) -> Tensor:
        """(τ²/2) U(v), (N,)."""
        for layer in self.layers:
            v = F.leaky_relu(layer(v), SLOPE)
        return cast(Tensor, self.head(v).flatten())

    forward = scaled_energy

    @torch.no_grad()
    def force(self, v: Tensor) -> Tensor:
        """∇ scaled_energy(v), same shape: the backward pass written out, without a graph and in place where it can."""
        maps = [v]
        for module in self.layers:
            layer = cast(nn.Conv2d, module)
            maps.append(F.leaky_relu_(F.conv2d(maps[-1], layer.weight, layer.bias, layer.stride, layer.padding), SLOPE))
        gradient = self.head.weight.expand(len(v), -1, -1, -1)
        for module, before, after in reversed(list(zip(self.layers, maps[:-1], maps[1:], strict=True))):
            layer = cast(nn.Conv2d, module)
            # a leaky ReLU's output has its input's sign, so the output serves for its derivative
            gradient = torch.ops.aten.leaky_relu_backward(gradient, after, SLOPE, True)
            gradient = _input_gradient(gradient, before, layer)
        return gradient


def _input_gradient(gradient: Tensor, before: Tensor, layer: nn.Conv2d) -> Tensor:
    """The gradient with respect to a convolution's input."""
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient,
        before,
        layer.weight,
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        (0, 0),
        1,
        (True, False, False),
    )
    return found[0]


Model = Nijkamp
