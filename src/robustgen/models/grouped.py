"""L networks of the kind `madry_cnn` in one pass: grouped convolutions, then batched matrix products.

Laid out as measured on CPUs: channels last throughout, pooling before ReLU, and images that all networks share
repeated for each (faster than one wide convolution of them).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from robustgen.models.madry_cnn import MadryCNN


def grouped_cnn(stack: MadryCNN, x: Tensor) -> Tensor:
    """Logits (N, L) of L networks, each on images of its own, x (N, L·C, H, W) in [0, 1], network by network.

    `stack` is a network of one output whose parameters have a first axis of length L, best after `lay_out`.
    """
    count, second = stack.conv2.bias.shape  # type: ignore[union-attr]
    mean, std = (buffer[0].repeat(1, count, 1, 1) for buffer in (stack.mean, stack.std))
    h = first_convolution((x - mean) / std, *_kernels(stack.conv1), count)
    h = F.relu(F.max_pool2d(h, 2))
    h = F.relu(F.max_pool2d(F.conv2d(h, *_kernels(stack.conv2), padding=2, groups=count), 2))
    h = h.reshape(len(x), count, second, -1).transpose(0, 1).reshape(count, len(x), -1)
    h = F.relu(torch.baddbmm(stack.hidden.bias[:, None], h, stack.hidden.weight.mT))
    return ((h * stack.fc.weight).sum(2) + stack.fc.bias).T  # a small product would be summed as its batch is


def lay_out(stack: MadryCNN) -> None:
    """Store the hidden layers' weights (L, O, I) input by input, as `grouped_cnn` multiplies with them.

    Autograd lays a parameter's gradient out as the parameter is; otherwise it would turn round 128 MB of them in every
    update of the paper's ten detectors. Products of odd widths stay, as this way they would round by their batch.
    """
    if stack.config.hidden % 8:
        return
    stack.hidden.weight.data = stack.hidden.weight.data.mT.contiguous().mT


def _kernels(convolution: torch.nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Stacked kernels (L, O, C, 5, 5) and biases (L, O) as those of one grouped convolution, channels last."""
    assert convolution.bias is not None
    weight = convolution.weight.flatten(0, 1)
    return weight.contiguous(memory_format=torch.channels_last), convolution.bias.flatten()


def first_convolution(x: Tensor, weight: Tensor, bias: Tensor, count: int) -> Tensor:
    """The first 5x5 convolution of `count` networks: x (N, count·C, H, W), weight (count·O, C, 5, 5).

    The gradient of one-channel images has a way of its own on a CPU, where the usual one takes five times as long.
    """
    if weight.shape[1] > 1 or not x.requires_grad or x.device.type != "cpu":
        return F.conv2d(x, weight, bias, padding=2, groups=count)
    out = F.conv2d(x.detach(), weight, bias, padding=2, groups=count)
    return _ImageGradient.apply(x, weight.detach(), out)  # type: ignore[no-any-return]


class _ImageGradient(torch.autograd.Function):
    """The output of a convolution, as a function of its one-channel images too; once differentiable.

    Kernels keep autograd's own gradient through `out`, which is not computed where nobody asks for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.groups = x.shape[1]
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        """A depthwise convolution with the kernels turned round, then the sum over the channels of each network."""
        (weight,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        turned = weight.flip(2, 3).contiguous(memory_format=torch.channels_last)
        each = F.conv2d(gradient, turned, padding=2, groups=len(turned))
        images = each.permute(0, 2, 3, 1).unflatten(-1, (ctx.groups, -1)).sum(-1).permute(0, 3, 1, 2)
        return images, None, gradient
