"""The light energy network of Nijkamp et al. (2019), as Hill, Mitchell & Zhu (2021) use it.

693,569 parameters at 3×32×32. What the network computes is the scaled energy (τ²/2) U; see sampling/langevin.py for
the convention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.05  # of the leaky ReLU
CACHED = 2**18  # activations of the first layer that a core's cache holds, numbers
FEW = 16  # channels up to which forward convolutions are the faster way back


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

    def prepared_force(self, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
        """v -> ∇ scaled_energy(v) for the weights as they are now: the backward pass written out, without a graph.

        With `dtype` bfloat16 convolutions compute in that: about half the time where the processor has it.
        """
        layers = [cast(nn.Conv2d, layer) for layer in self.layers]
        weights = [layer.weight.detach().to(dtype) for layer in layers]
        biases = [cast(Tensor, layer.bias).detach().to(dtype) for layer in layers]
        backward = [_input_gradient(weight, layer.stride) for weight, layer in zip(weights, layers, strict=True)]
        head = self.head.weight.detach().to(dtype)

        @torch.no_grad()
        def gradient(v: Tensor) -> Tensor:
            maps, h = [], v.to(dtype)
            for weight, bias, layer in zip(weights, biases, layers, strict=True):
                h = F.leaky_relu_(F.conv2d(h, weight, bias, layer.stride, layer.padding), SLOPE)
                maps.append(h)
            found = head.expand(len(v), -1, -1, -1)
            for after, step in zip(reversed(maps), reversed(backward), strict=True):
                # a leaky ReLU's output has its input's sign, so the output serves for its derivative
                found = step(torch.ops.aten.leaky_relu_backward(found, after, SLOPE, True))
            return found.to(v.dtype)

        return gradient


def _input_gradient(weight: Tensor, stride: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """The gradient of a convolution's output -> that of its input, by the fastest of equal ways.

    Forward convolutions are faster than transposed ones where channels are few: a transposed 3x3 convolution is one
    with the kernel turned, and one of 4x4 and stride 2 makes the four pixels of a 2x2 cell from 3x3 outputs.
    """
    if stride == (1, 1):
        turned = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return lambda g: F.conv2d(g, turned, padding=1)
    if weight.shape[1] > FEW:
        return lambda g: F.conv_transpose2d(g, weight, stride=2, padding=1)
    cells = _cell_kernel(weight)

    def from_cells(g: Tensor) -> Tensor:
        n, _, height, width = g.shape
        pixels = F.conv2d(g, cells, padding=1).permute(0, 2, 3, 1).reshape(n, height, width, 2, 2, -1)
        return pixels.transpose(2, 3).reshape(n, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)

    return from_cells


def _cell_kernel(weight: Tensor) -> Tensor:
    """(4·inputs, outputs, 3, 3): the pixels of a cell, ordered (row, column, input), from the 3x3 outputs around it."""
    # pixel r of cell q meets output q + d, d = −1, 0, 1, through tap r + 1 − 2d; tap 4 is none
    tap = torch.tensor([[3, 1, 4], [4, 2, 0]], device=weight.device)
    taken = F.pad(weight, (0, 1, 0, 1))[:, :, tap[:, :, None, None], tap]  # outputs, inputs, row, d, column, d
    kernel = taken.permute(2, 4, 1, 0, 3, 5).flatten(0, 2)
    return kernel.contiguous(memory_format=torch.channels_last)


Model = Nijkamp
