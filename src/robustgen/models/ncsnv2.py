"""The noise conditional score network of Song & Ermon 2020 (NCSNv2): a RefineNet whose output is divided by σ.

Two functions share the weights. The network itself, s_θ(x), does not know the noise level; trained as below it is
minus the noise in x in units of its standard deviation, so its norm is about √D on any noisy image, and this is what
purification follows (Yoon, Hwang & Lee 2021, Eq. 11). The score at level σ is s_θ(x, σ) = s_θ(x) / σ (their Sec. 3.1);
training and annealed Langevin sampling use it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["ncsnv2"] = "ncsnv2"
    size: int = 32  # height and width of the images in pixels, even
    channels: int = 3  # of the images
    width: int = 128  # feature maps of the first stage; the others have twice as many
    sigma_first: float = 50.0  # σ_1, the largest noise level, pixel units of [0, 1]: the largest distance in the data
    sigma_last: float = 0.01  # σ_L, the smallest
    levels: int = 232  # L, geometric from σ_1 to σ_L


class InstanceNormPlus(nn.Module):
    """Instance normalisation that keeps the channels' means, standardised over channels (Song & Ermon 2019, A)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(channels).normal_(1, 0.02))
        self.gamma = nn.Parameter(torch.empty(channels).normal_(1, 0.02))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        variance = (x - mean).square().mean((2, 3), keepdim=True)
        spread, centre = torch.var_mean(mean, 1, keepdim=True)
        kept = (mean - centre) * torch.rsqrt(spread + 1e-5)
        shape = (1, -1, 1, 1)
        scale = self.gamma.view(shape) * torch.rsqrt(variance + 1e-5)
        shift = self.gamma.view(shape) * self.alpha.view(shape) * kept + self.beta.view(shape) - mean * scale
        return torch.addcmul(shift, x, scale)


class ResidualBlock(nn.Module):
    """norm, ELU, convolution, twice, plus a shortcut. `pool` halves the image; `dilation` widens the view instead."""

    def __init__(self, inputs: int, outputs: int, *, change: bool = False, dilation: int = 1) -> None:
        super().__init__()
        self.pool = change and dilation == 1
        between = inputs if change else outputs
        self.norm1 = InstanceNormPlus(inputs)
        self.conv1 = convolution(inputs, between, dilation)
        self.norm2 = InstanceNormPlus(between)
        self.conv2 = convolution(between, outputs, dilation)
        self.shortcut: nn.Module | None = None
        if change or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1) if dilation == 1 else convolution(inputs, outputs, dilation)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(elu(self.norm2(self.conv1(elu(self.norm1(x))))))
        out = out + (x if self.shortcut is None else self.shortcut(x))
        return F.avg_pool2d(out, 2) if self.pool else out


class ResidualUnits(nn.Module):
    """Pairs of ELU and convolution, each pair with a shortcut (RefineNet's residual convolution units)."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        pairs = ([convolution(width, width, bias=False) for _ in range(2)] for _ in range(units))
        self.units = nn.ModuleList(nn.ModuleList(pair) for pair in pairs)

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            out = x
            for conv in cast(nn.ModuleList, unit):
                out = conv(elu(out))
            x = x + out
        return x


class ChainedPooling(nn.Module):
    """Background over ever wider windows, added to the input (RefineNet)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convolution(width, width, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = elu(x)
        path = x
        for conv in self.convs:
            # rows, then columns: the same maxima for two fifths of the work
            path = conv(F.max_pool2d(F.max_pool2d(path, (5, 1), 1, (2, 0)), (1, 5), 1, (0, 2)))
            x = x + path
        return x


class RefineBlock(nn.Module):
    """Feature maps of several stages, adapted, brought to one size and summed, then pooled and refined."""

    def __init__(self, inputs: Sequence[int], outputs: int, *, last: bool = False) -> None:
        super().__init__()
        self.adapt = nn.ModuleList(ResidualUnits(width, 2) for width in inputs)
        several = len(inputs) > 1
        self.fuse = nn.ModuleList(convolution(width, outputs) for width in inputs) if several else None
        self.pooling = ChainedPooling(outputs)
        self.output = ResidualUnits(outputs, 3 if last else 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        adapted = [unit(x) for unit, x in zip(self.adapt, maps, strict=True)]
        if self.fuse is not None:
            size = maps[0].shape[2:]
            adapted = [resized(conv(x), size) for conv, x in zip(self.fuse, adapted, strict=True)]
        fused = adapted[0]
        for other in adapted[1:]:
            fused = fused + other
        return cast(Tensor, self.output(self.pooling(fused)))


class Elu(torch.autograd.Function):
    """ELU by the exponential: on a CPU torch's own, by way of expm1, takes ten times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(max=0).exp_().sub_(1)
        torch.maximum(x, y, out=y)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        y: Tensor = ctx.saved_tensors[0]
        return gradient * (y.clamp(max=0) + 1)


def elu(x: Tensor) -> Tensor:
    return cast(Tensor, Elu.apply(x))


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[2:] == torch.Size(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def convolution(inputs: int, outputs: int, dilation: int = 1, *, bias: bool = True) -> nn.Conv2d:
    """3x3, keeping the image's size."""
    return nn.Conv2d(inputs, outputs, 3, 1, dilation, dilation, bias=bias)


class NCSNv2(nn.Module):
    """images (N, C, size, size), in [0, 1] or noisy -> s_θ(x), the same shape."""

    sigmas: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        check(config)
        self.config = config
        n = config.width
        self.register_buffer("sigmas", noise_levels(config), persistent=False)
        self.begin = convolution(config.channels, n)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(inputs, outputs, change=change, dilation=dilation),
                ResidualBlock(outputs, outputs, dilation=dilation),
            )
            for inputs, outputs, change, dilation in (
                (n, n, False, 1),
                (n, 2 * n, True, 1),
                (2 * n, 2 * n, True, 2),
                (2 * n, 2 * n, True, 4),
            )
        )
        self.refine = nn.ModuleList(
            [
                RefineBlock([2 * n], 2 * n),
                RefineBlock([2 * n, 2 * n], 2 * n),
                RefineBlock([2 * n, 2 * n], n),
                RefineBlock([n, n], n, last=True),
            ]
        )
        self.norm = InstanceNormPlus(n)
        self.end = convolution(n, config.channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.begin(2 * x - 1)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        out = self.refine[0]([maps[4]])
        for block, skip in zip(self.refine[1:], (maps[3], maps[2], maps[1]), strict=True):
            out = block([skip, out])
        return cast(Tensor, self.end(elu(self.norm(out))))

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """s_θ(x, σ) = s_θ(x) / σ, for one level σ per image (N,): the score of the data blurred by noise σ."""
        return cast(Tensor, self(x)) / sigma.view(-1, 1, 1, 1)


def noise_levels(config: Config) -> Tensor:
    """σ_1 > ... > σ_L (L,), geometric."""
    first, last = math.log(config.sigma_first), math.log(config.sigma_last)
    return torch.linspace(first, last, config.levels, dtype=torch.float64).exp().float()


def check(config: Config) -> None:
    """Raise ValueError where there is no such network."""
    if config.width < 2 or config.channels < 1:  # the norm of a single map is 0 over 0
        raise ValueError(f"width must be at least 2 and channels 1, not {config.width} and {config.channels}")
    if config.size < 8 or config.size % 2:
        raise ValueError(f"size must be even and at least 8, not {config.size}")
    if config.levels < 2 or not config.sigma_first > config.sigma_last > 0:
        raise ValueError("noise levels fall from sigma_first to sigma_last > 0, two at least")


Model = NCSNv2
