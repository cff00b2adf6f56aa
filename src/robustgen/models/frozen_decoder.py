"""E-ABS's decoders for inference: weights that no longer change, gradients for latents only.

Inference optimises latents of every class for every image, and decodes them at each step: it is where E-ABS spends its
time. Batch norm and the fully connected layer join the convolutions' kernels. A transposed convolution of stride s
runs as an ordinary one at its input's resolution, which makes each s x s square of pixels as s² channels; its gradient
is an ordinary convolution anyway. Measured on CPUs, grouped kernels for these two are the fast ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from robustgen.replicates import LEAST


class Shape(NamedTuple):
    """Of one transposed convolution of K decoders; `out` is the side of its output, after cropping by the padding."""

    groups: int
    kernel: int
    stride: int
    padding: int
    out: int


class FrozenDecoder(nn.Module):
    """z (N, K, M) -> images (N, K, C, S, S) in [0, 1], as a `Decoder` in eval mode, up to rounding; weights copied.

    Differentiable once, in z. On a CPU an image has the same bits in any batch.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.groups, self.channels = decoder.groups, decoder.channels
        norms = [*decoder.norms, None]
        folded = [_folded(*pair, self.groups) for pair in zip(decoder.convolutions, norms, strict=True)]
        self.side = decoder.sizes[1]  # of the first layer's output
        self._keep("first", _first(decoder, *folded[0], self.side))
        self.shapes: list[Shape] = []
        for i, (kernels, bias) in enumerate(folded[1:]):
            layer, out = decoder.convolutions[i + 1], decoder.sizes[i + 2]
            shape = Shape(self.groups, layer.kernel_size[0], layer.stride[0], layer.padding[0], out)
            self._keep(f"layer{i}", _upward(kernels, bias, shape))
            self.shapes.append(shape)

    def _keep(self, name: str, tensors: tuple[Tensor, ...]) -> None:
        for i, tensor in enumerate(tensors):
            self.register_buffer(f"{name}_{i}", tensor, persistent=False)

    def _kept(self, name: str, count: int) -> list[Tensor]:
        return [getattr(self, f"{name}_{i}") for i in range(count)]

    def forward(self, z: Tensor) -> Tensor:
        n = len(z)
        if 0 < n < LEAST and z.device.type == "cpu":  # kernels for a few rows round differently
            z = torch.cat([z, z[-1:].expand(LEAST - n, -1, -1)])
        weight, bias = self._kept("first", 2)
        h = torch.baddbmm(bias, z.transpose(0, 1), weight)  # (K, N, S²·O)
        h = h.unflatten(2, (self.side**2, -1)).permute(1, 2, 0, 3).flatten(2)
        h = h.unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)  # (N, K·O, S, S), channels last
        for i, shape in enumerate(self.shapes):
            h = transposed(F.relu(h), *self._kept(f"layer{i}", 3), shape)
        return torch.sigmoid(h[:n]).unflatten(1, (self.groups, self.channels))


def transposed(x: Tensor, kernels: Tensor, bias: Tensor, backward: Tensor, shape: Shape) -> Tensor:
    """A transposed convolution, x (N, K·I, S, S) -> (N, K·O, out, out), of kernels as `_upward` lays them out."""
    return _Transposed.apply(x, kernels, bias, backward, shape)  # type: ignore[no-any-return]


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, bias: Tensor, backward: Tensor, shape: Shape) -> Tensor:
        ctx.save_for_backward(backward)
        ctx.shape = shape
        squares = F.conv2d(x, kernels, bias, padding=kernels.shape[-1] - 1, groups=shape.groups)
        inside = slice(shape.padding, shape.padding + shape.out)
        return _spread(squares, shape)[:, :, inside, inside]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (kernels,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        stride, padding, groups = ctx.shape.stride, ctx.shape.padding, ctx.shape.groups
        return F.conv2d(gradient, kernels, stride=stride, padding=padding, groups=groups), None, None, None, None


def _spread(x: Tensor, shape: Shape) -> Tensor:
    """(N, K·s²·O, S, S) -> (N, K·O, s·S, s·S): each pixel's channels as a square of s x s pixels; channels last."""
    s = shape.stride
    if s == 1:
        return x
    squares = x.permute(0, 2, 3, 1).unflatten(3, (shape.groups, s, s, -1))  # (N, S, S, K, s, s, O)
    return squares.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


@torch.no_grad()
def _folded(convolution: Any, norm: Any, groups: int) -> tuple[Tensor, Tensor]:
    """Kernels (K, I, O, k, k) and biases (K, O) of a transposed convolution and the batch norm after it, if any."""
    kernels, bias = convolution.weight.unflatten(0, (groups, -1)), convolution.bias.view(groups, -1)
    if norm is None:
        return kernels, bias
    scale, mean, shift = (
        value.view(groups, -1)
        for value in (norm.weight * (norm.running_var + norm.eps).rsqrt(), norm.running_mean, norm.bias)
    )
    return kernels * scale[:, None, :, None, None], (bias - mean) * scale + shift


@torch.no_grad()
def _first(decoder: Any, kernels: Tensor, bias: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Weights (K, M, side²·O) and biases (K, 1, side²·O) of the fully connected layer and the convolution after it,
    whose input has one pixel.
    """
    padding = decoder.convolutions[0].padding[0]
    inside = slice(padding, padding + side)
    pixels = kernels[..., inside, inside].permute(0, 1, 3, 4, 2).flatten(2)  # (K, I, side²·O)
    return decoder.fc.weight @ pixels, decoder.fc.bias @ pixels + bias.repeat(1, side**2)[:, None]


@torch.no_grad()
def _upward(kernels: Tensor, bias: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Of a transposed convolution (K, I, O, k, k), (K, O): kernels (K·s²·O, I, r, r), r = ⌈k/s⌉, and biases (K·s²·O,)
    of the convolution to squares, and kernels (K·I, O, k, k) of the gradient's convolution.

    Input pixel i reaches output pixels s·i + j, j < k: square i + j // s, place j % s in it.
    """
    s = shape.stride
    reach = -(-shape.kernel // s)
    rest = reach * s - shape.kernel
    split = F.pad(kernels, (0, rest, 0, rest)).unflatten(4, (reach, s)).unflatten(3, (reach, s))
    forward = split.flip(3, 5).permute(0, 4, 6, 2, 1, 3, 5).flatten(0, 3)  # from (K, I, O, r, s, r, s)
    backward = kernels.flatten(0, 1).clone()
    return _channels_last(forward), bias.repeat(1, s * s).flatten(), _channels_last(backward)


def _channels_last(kernels: Tensor) -> Tensor:
    return kernels.contiguous(memory_format=torch.channels_last)
