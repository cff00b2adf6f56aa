"""The decoders of an autoencoder (models/aae.py) laid out for inference, which runs them a hundred times for an image.

The same functions in fewer and faster operations. Batch norm is folded into the convolutions before it, and the fully
connected layer into the first of these, as nothing lies between that is not linear. The last convolution, if it is 1x1,
is one for all classes, with zeros between them. On a CPU narrow transposed convolutions, for which there
are no good kernels, are ordinary ones with an output channel for each place in the stride; the wide are faster as they
are.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from robustgen.models.aae import Decoder

NARROW = 16  # input channels of a group up to which an ordinary convolution is the faster on a CPU, as measured


class Folded:
    """z (N, K, M) -> images (N, K, C, S, S) in [0, 1], those of a `Decoder` in evaluation mode; differentiable in z.

    Weights are copied.
    """

    @torch.no_grad()
    def __init__(self, decoder: Decoder) -> None:
        self.groups, self.channels = decoder.groups, decoder.channels
        self.layout = layout(decoder.fc.weight)
        norms: list[nn.Module | None] = [*decoder.norms, None]
        layers = [Layer.of(*each, self.groups) for each in zip(decoder.convolutions, norms, strict=True)]
        first = layers.pop(0)
        self.width, self.side = first.weight.shape[1], decoder.sizes[1]
        weight, bias = first.from_one_pixel(self.side)
        self.weight = decoder.fc.weight @ weight
        self.bias = decoder.fc.bias @ weight + bias
        if layers and layers[-1].pointwise:
            layers.append(layers.pop().ungrouped())
        self.layers = layers

    def __call__(self, z: Tensor) -> Tensor:
        return _Synthesis.apply(z, self)  # type: ignore[no-any-return]

    def forward(self, z: Tensor) -> tuple[list[Tensor], Tensor]:
        """The input (N, K·O, S, S) of each layer, after its ReLU, and the images."""
        n, side = len(z), self.side
        h = torch.baddbmm(self.bias, z.transpose(0, 1), self.weight)  # (K, N, S·S·O)
        h = h.view(self.groups, n, side, side, self.width).permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)
        h = h.contiguous(memory_format=self.layout)
        inputs = []
        for layer in self.layers:
            inputs.append(h.relu_())
            h = layer(h)
        return inputs, h.contiguous().sigmoid_().view(n, self.groups, self.channels, *h.shape[2:])

    def backward(self, inputs: list[Tensor], images: Tensor, gradient: Tensor) -> Tensor:
        """The gradient by z (N, K, M) from that by the images."""
        h = (gradient * images * (1 - images)).flatten(1, 2).contiguous(memory_format=self.layout)
        for layer, x in zip(reversed(self.layers), reversed(inputs), strict=True):
            h = F.conv2d(h, layer.weight, None, layer.stride, layer.padding, 1, layer.groups)
            h = h.contiguous(memory_format=self.layout)
            # in place, as fresh memory costs a CPU more than the operation
            torch.ops.aten.threshold_backward.grad_input(h, x, 0, grad_input=h)
        h = h.permute(0, 2, 3, 1).unflatten(3, (self.groups, -1)).permute(3, 0, 1, 2, 4).flatten(2)
        return torch.bmm(h, self.weight.mT).transpose(0, 1)


class _Synthesis(torch.autograd.Function):
    """Images of latents, once differentiable."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, folded: Folded) -> Tensor:
        inputs, images = folded.forward(z)
        if ctx.needs_input_grad[0]:
            ctx.folded, ctx.inputs = folded, inputs
            ctx.save_for_backward(images)
        return images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.folded.backward(ctx.inputs, *ctx.saved_tensors, gradient), None


class Layer:
    """A grouped transposed convolution, without activation: weight (G·I, O, k, k), bias (G·O,)."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int) -> None:
        self.weight = weight.clone(memory_format=layout(weight))
        self.bias = bias.clone()
        self.stride, self.padding, self.groups = stride, padding, groups
        self.taps = None
        if weight.device.type == "cpu" and (len(weight) // groups <= NARROW or self.pointwise):
            self.taps = Taps(self.weight, stride, padding, groups)

    @classmethod
    def of(cls, convolution: Any, norm: Any, groups: int) -> Layer:
        """A convolution and the batch norm after it, if there is one."""
        weight, bias = convolution.weight, convolution.bias
        if norm is not None:
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = (weight.unflatten(0, (groups, -1)) * scale.view(groups, 1, -1, 1, 1)).flatten(0, 1)
            bias = (bias - norm.running_mean) * scale + norm.bias
        return cls(weight, bias, convolution.stride[0], convolution.padding[0], groups)

    @property
    def pointwise(self) -> bool:
        return bool(self.weight.shape[2:] == (1, 1)) and self.stride == 1 and self.padding == 0

    def __call__(self, x: Tensor) -> Tensor:
        if self.taps is not None:
            return self.taps(x, self.bias)
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)

    def from_one_pixel(self, side: int) -> tuple[Tensor, Tensor]:
        """Weights (G, I, S·S·O) and biases (G, 1, S·S·O) of the linear layer that it is on images of one pixel."""
        kept = slice(self.padding, self.padding + side)
        weight = self.weight[:, :, kept, kept].permute(0, 2, 3, 1)  # (G·I, S, S, O)
        bias = self.bias.view(self.groups, 1, -1).repeat(1, 1, side**2)
        return weight.reshape(len(bias), -1, bias.shape[2]), bias

    def ungrouped(self) -> Layer:
        """The same of all channels, with zeros between groups."""
        weight = torch.block_diag(*self.weight.flatten(1).chunk(self.groups))
        return Layer(weight[..., None, None], self.bias, 1, 0, 1)


def layout(weight: Tensor) -> torch.memory_format:
    """The memory format of maps that grouped convolutions are fast in, where the weights lie."""
    return torch.channels_last if weight.device.type == "cpu" else torch.contiguous_format


class Taps:
    """A transposed convolution as an ordinary one: y[s·m + a] = Σ_t w[t] x[m + (a + p − t)/s] over the t that divide.

    Each place a in the stride s is an output channel, so that `pixel_shuffle` puts them side by side.
    """

    def __init__(self, weight: Tensor, stride: int, padding: int, groups: int) -> None:
        fan_in, out, kernel = len(weight) // groups, weight.shape[1], weight.shape[2]
        pairs = [
            (a, t, (a + padding - t) // stride)
            for a in range(stride)
            for t in range(kernel)
            if (a + padding - t) % stride == 0
        ]
        offsets = [offset for _, _, offset in pairs]
        self.first, self.width = min(offsets), max(offsets) - min(offsets) + 1
        self.stride, self.groups = stride, groups
        self.grown = kernel - 2 * padding - stride  # y is stride · x and so much larger
        taps = weight.new_zeros(groups, out, stride, stride, fan_in, self.width, self.width)
        source = weight.unflatten(0, (groups, fan_in)).transpose(1, 2)  # (K, O, I, k, k)
        for a, t, i in pairs:
            for b, u, j in pairs:
                taps[:, :, a, b, :, i - self.first, j - self.first] = source[..., t, u]
        self.weight = taps.flatten(0, 3).contiguous(memory_format=torch.channels_last)

    def __call__(self, x: Tensor, bias: Tensor) -> Tensor:
        side = x.shape[2]
        out = self.stride * side + self.grown
        before, after = -self.first, -(-out // self.stride) + self.width - 1 + self.first - side
        if before != after or before < 0:
            x, before = F.pad(x, (before, after, before, after)), 0
        repeated = bias.repeat_interleave(self.stride**2)
        y = F.conv2d(x, self.weight, repeated, padding=before, groups=self.groups)
        y = F.pixel_shuffle(y, self.stride) if self.stride > 1 else y
        if y.shape[2] > out:
            y = y[:, :, :out, :out]
        return y.contiguous(memory_format=torch.channels_last)
