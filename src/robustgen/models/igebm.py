"""IGEBM: the class-conditional energy network for CIFAR-10 of Du & Mordatch (2019).

Residual blocks with spectral norm, a gain and two biases per class in each, sum pooling and a linear energy. The paper
draws the network; that class gain and biases sit in the blocks follows its released code, where the second convolution
of a block starts near zero: a gain that starts at zero does the same here, under a norm that is always one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky ReLU


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["igebm"] = "igebm"
    size: int = 32  # side of the square images, pixels: halved three times, so 8 at least
    channels: int = 3  # image channels
    classes: int = 10  # K
    width: int = 128  # channels of the stem and the first two blocks; the other four have twice as many
    # The sampler, in units of v = 2x − 1. The paper's is in units of x in [0, 1]: noise 0.005, step size 10, gradients
    # clipped at 0.01. A move in v is twice the move in x and the gradient by v half of that by x.
    tau: float = 0.01  # noise of a step: twice 0.005
    step: float = 40.0  # of the energy's gradient by v: four times 10
    clip: float = 0.2  # largest move of a pixel by the gradient in one step: twice 10·0.01; 0 for no bound
    # How classes join where the label is unknown. energy: in proportion to exp(−E(v, k)). sampler: to exp(−U(v, k)),
    # U = step·E / (τ²/2) being what the conditional sampler samples; energies differ by far less than a nat between
    # classes, so only this keeps to the class that a state looks like.
    marginal: Literal["energy", "sampler"] = "energy"


class Block(nn.Module):
    """Two 3x3 convolutions after a bias per class each, a gain per class, a shortcut; halves the map if `down`."""

    def __init__(self, inputs: int, outputs: int, classes: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1, self.conv2 = convolution(inputs, outputs), convolution(outputs, outputs)
        self.bias1, self.bias2 = nn.Embedding(classes, inputs), nn.Embedding(classes, outputs)
        self.gain = nn.Embedding(classes, outputs)
        self.shortcut = convolution(inputs, outputs) if inputs != outputs else nn.Identity()
        for table in (self.bias1, self.bias2, self.gain):
            nn.init.zeros_(table.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out = F.leaky_relu(self.conv1(x + as_map(self.bias1(y))), SLOPE)
        out = self.conv2(out + as_map(self.bias2(y))) * as_map(self.gain(y)) + self.shortcut(x)
        return F.leaky_relu(F.avg_pool2d(out, 2) if self.down else out, SLOPE)


class IGEBM(nn.Module):
    """images (N, C, size, size) in [0, 1] -> logits (N, K): −E(x, k), so the label is the class of least energy.

    Its states are not clipped to the box after each step, as its authors' are: no Langevin run here is.
    In training mode every pass moves the power iterations behind the spectral norms; in eval mode they stand still.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.size < 8:
            raise ValueError(f"size must be 8 at least, not {config.size}: the map is halved three times")
        if not (config.tau > 0 and config.step > 0 and config.clip >= 0):
            raise ValueError(f"tau and step must be positive and clip not negative, not {config}")
        self.config = config
        self.num_classes = config.classes
        self.tau, self.step = config.tau, config.step
        w = config.width
        self.stem = convolution(config.channels, w)
        shapes = [(w, w, True), (w, w, False), (w, 2 * w, True), (2 * w,) * 2 + (False,)]
        shapes += [(2 * w, 2 * w, True), (2 * w, 2 * w, False)]
        self.blocks = nn.ModuleList(Block(inputs, outputs, config.classes, down) for inputs, outputs, down in shapes)
        self.fc = nn.Linear(2 * w, 1)

    def energies(self, x: Tensor, y: Tensor) -> Tensor:
        """E(x_i, y_ij) of images (N, C, H, W) in [0, 1] and J labels for each, y (N, J) int64; (N, J) in nats."""
        h = F.leaky_relu(self.stem(x), SLOPE).repeat_interleave(y.shape[1], 0)
        for block in self.blocks:
            h = block(h, y.flatten())
        return cast(Tensor, self.fc(F.relu(h).sum((2, 3)))).view(y.shape)

    def forward(self, x: Tensor) -> Tensor:
        return -self.energies(x, torch.arange(self.num_classes, device=x.device).expand(len(x), -1))

    def energy_of(self, v: Tensor, y: Tensor | None = None) -> Tensor:
        """E(v, y) of states v (N, C, H, W) in [−1, 1] and labels y (N,) int64; without labels E(v); (N,) in nats.

        E(v) = −logsumexp_k(−β·E(v, k)) / β, the marginal under equally likely classes: β = 1, or as the option
        `marginal` says. The paper's sampler knows the label; a defence of unlabelled images does not, and the
        marginal is our choice there.
        """
        x = (v + 1) / 2
        if y is not None:
            return self.energies(x, y[:, None])[:, 0]
        beta = 1.0 if self.config.marginal == "energy" else self.step / (self.tau**2 / 2)
        return -torch.logsumexp(beta * self(x), 1) / beta

    def scaled_energy(self, v: Tensor) -> Tensor:
        """step·E(v), (N,). The step size is decoupled from the noise, as in JEM."""
        return self.step * self.energy_of(v)

    def force(self, v: Tensor, y: Tensor | None = None) -> Tensor:
        """∇ step·E(v) or, given labels, ∇ step·E(v, y), its elements clipped: what a step of the sampler moves by."""
        with torch.enable_grad():
            leaf = v.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.step * self.energy_of(leaf, y).sum(), leaf)
        return gradient.clamp(-self.config.clip, self.config.clip) if self.config.clip else gradient


def convolution(inputs: int, outputs: int) -> nn.Module:
    """3x3, spectral norm 1, no bias."""
    return spectral_norm(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False))


def as_map(table: Tensor) -> Tensor:
    return table[:, :, None, None]


Model = IGEBM
