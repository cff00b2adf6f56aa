"""Encoders, one decoder a class and discriminators (E-ABS, Ju & Wagner 2020, Sec. 4.3 and Table 9), each kind as one
grouped network.

The extensions that a network decides are two switches. A: discriminators, for an adversarial autoencoder; without
them a variational one. D: one encoder, and one discriminator, for all classes; without it one of each a class.
Every parameter and buffer holds the classes' one after another along its first axis, so that an optimiser which works
on coordinates (Adam) treats each class as if it were alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.models.encoder_cnn import Encoder, check_encoder, layers, positive


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["aae"] = "aae"
    size: int = 28  # side of the square images, pixels
    channels: int = 1  # image channels
    classes: int = 10  # K
    latent: int = 10  # M, latent dimensions
    encoder_channels: tuple[int, ...] = (16, 32, 64, 64)  # output channels of the convolutions
    encoder_kernels: tuple[int, ...] = (5, 5, 5, 4)
    encoder_strides: tuple[int, ...] = (2, 2, 2, 1)
    encoder_paddings: tuple[int, ...] = (2, 2, 2, 1)
    decoder_channels: tuple[int, ...] = (32, 32, 16, 8, 1)  # output channels of the transposed convolutions
    decoder_kernels: tuple[int, ...] = (4, 5, 5, 4, 1)
    decoder_strides: tuple[int, ...] = (1, 2, 2, 1, 1)
    decoder_paddings: tuple[int, ...] = (0, 0, 0, 0, 0)
    neurons: tuple[int, ...] = (256, 128)  # hidden layers of a discriminator; leaky ReLU, where the paper names nothing
    adversarial: bool = True  # A: adversarial autoencoder; else a variational one, without discriminator
    shared: bool = True  # D: one encoder and one discriminator for all classes; else one of each a class
    slope: float = 0.2  # of leaky ReLU below 0; the paper names none, this is DCGAN's
    dropout: float = 0.2  # share of units dropped, see `Encoder` and `Decoder`; the paper names none


class GroupedLinear(nn.Module):
    """One linear layer for each of G groups: (G, N, I) -> (G, N, O); starts as `nn.Linear` does."""

    def __init__(self, groups: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(groups, fan_in, fan_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, 1, fan_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class Decoder(nn.Module):
    """K decoders as one: z (N, K, M) -> images (N, K, C, S, S) in [0, 1], decoder k of z[:, k].

    A fully connected layer as wide as the first transposed convolution has output channels, dropout, and transposed
    convolutions, from 1x1 on, with batch norm and ReLU between them and a sigmoid at the end.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.groups, self.channels, self.dropout = config.classes, config.channels, config.dropout
        self.sizes = decoder_sizes(config)
        fan_in = config.decoder_channels[0]
        self.fc = GroupedLinear(self.groups, config.latent, fan_in)
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for out, kernel, stride, padding in layers(config, "decoder"):
            widths = self.groups * fan_in, self.groups * out
            self.convolutions.append(
                nn.ConvTranspose2d(*widths, kernel, stride=stride, padding=padding, groups=self.groups)
            )
            fan_in = out
        self.norms.extend(nn.BatchNorm2d(self.groups * out) for out in config.decoder_channels[:-1])

    def forward(self, z: Tensor) -> Tensor:
        h: Tensor = F.dropout(self.fc(z.transpose(0, 1)), self.dropout, self.training)
        h = h.transpose(0, 1).flatten(1)[..., None, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=False):
            h = F.relu(norm(convolution(h)))
        images: Tensor = torch.sigmoid(self.convolutions[-1](h)).unflatten(1, (self.groups, self.channels))
        return images

    def member(self, k: int) -> nn.Sequential:
        """Decoder k as a separate network, z (N, M) -> images (N, C, S, S), weights copied, in the mode this is in."""
        parts: list[nn.Module] = [
            nn.Linear(*self.fc.weight.shape[1:]),
            nn.Dropout(self.dropout),
            nn.Unflatten(1, (-1, 1, 1)),
        ]
        weight, bias = self.fc.weight[k].T, self.fc.bias[k, 0]
        parts[0].load_state_dict({"weight": weight, "bias": bias})
        norms: list[nn.Module] = list(self.norms)
        for convolution, norm in zip(cast(Any, self.convolutions), [*norms, None], strict=True):
            widths = convolution.in_channels // self.groups, convolution.out_channels // self.groups
            shape = {"stride": convolution.stride, "padding": convolution.padding}
            parts.append(self._part(convolution, nn.ConvTranspose2d(*widths, convolution.kernel_size, **shape), k))
            if norm is not None:
                parts += [self._part(norm, nn.BatchNorm2d(widths[1]), k), nn.ReLU()]
        return nn.Sequential(*parts, nn.Sigmoid()).to(self.fc.weight).train(self.training)

    def _part(self, source: nn.Module, target: nn.Module, k: int) -> nn.Module:
        """`target` with the weights of group k of `source`."""
        state = source.state_dict().items()
        target.load_state_dict({name: value.chunk(self.groups)[k] if value.dim() else value for name, value in state})
        return target


class Discriminator(nn.Module):
    """G discriminators as one: z (G, N, M) -> logits (G, N) of "z comes from the prior"."""

    def __init__(self, config: Config, groups: int) -> None:
        super().__init__()
        self.slope = config.slope
        widths = [config.latent, *config.neurons, 1]
        self.layers = nn.ModuleList(GroupedLinear(groups, *pair) for pair in pairwise(widths))

    def forward(self, z: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            z = F.leaky_relu(layer(z), self.slope)
        logits: Tensor = self.layers[-1](z)
        return logits[..., 0]


class AAE(nn.Module):
    """images (N, C, S, S) in [0, 1] -> logits (N, K) without inference: minus the squared error of each decoder's
    reconstruction from the encoder's mean.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.num_classes = config.classes
        self.groups = 1 if config.shared else config.classes  # encoders, and discriminators where there are any
        self.encoder = Encoder(config, self.groups)
        self.mean = GroupedLinear(self.groups, self.encoder.width, config.latent)
        self.log_variance = GroupedLinear(self.groups, self.encoder.width, config.latent)
        self.decoder = Decoder(config)
        self.discriminator = Discriminator(config, self.groups) if config.adversarial else None

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, (N, K, M) each, of Q(z|x) by every class's encoder, or by the one of all classes."""
        mean, log_variance = self._heads(x)
        shape = (-1, self.num_classes, -1)
        return mean.transpose(0, 1).expand(shape), log_variance.transpose(0, 1).expand(shape)

    def encode_own(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, (G, B, M) each, of encoder g on its own images x (G, B, C, S, S).

        G is the number of encoders: K, or 1 where all classes share one.
        """
        return self._heads(x.permute(1, 3, 4, 0, 2).flatten(3).permute(0, 3, 1, 2))  # channels last, one copy

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return self.mean(features), self.log_variance(features)

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, K, C, S, S) in [0, 1], G_k(z_k) of latents z (N, K, M); for inference see models/folded.py."""
        return cast(Tensor, self.decoder(z))

    def discriminate(self, z: Tensor) -> Tensor:
        """Logits (N, K) of D(z_k), the probability that z_k of z (N, K, M) comes from the prior.

        UserError for a variational autoencoder.
        """
        logits = self.discriminate_own(z.flatten(0, 1)[None] if self.config.shared else z.transpose(0, 1))
        return logits.view(z.shape[:2]) if self.config.shared else logits.T

    def discriminate_own(self, z: Tensor) -> Tensor:
        """Logits (G, B) of discriminator g on its own latents z (G, B, M); UserError for a variational autoencoder."""
        if self.discriminator is None:
            raise UserError("a variational autoencoder has no discriminator; train one with --model.adversarial")
        return cast(Tensor, self.discriminator(z))

    def log_d(self, z: Tensor) -> Tensor:
        """log D(z_k), (N, K), at most 0, of latents z (N, K, M); UserError for a variational autoencoder."""
        return F.logsigmoid(self.discriminate(z))

    def member(self, k: int) -> nn.Sequential:
        """Decoder k as a separate network, z (N, M) -> images (N, C, S, S), weights copied, in the same mode."""
        return self.decoder.member(k)

    def forward(self, x: Tensor) -> Tensor:
        return -squared_error(x[:, None], self.decode(self.encode(x)[0]))


Model = AAE


def squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """‖x − G‖² over the last three axes, channels and pixels: c(x, G) of Sec. 3.1."""
    return (x - reconstruction).square().flatten(-3).sum(-1)


def decoder_sizes(config: Config) -> list[int]:
    """Sides of the maps, from the first transposed convolution's input, 1, to the image; ValueError for others."""
    sizes = [1]
    for _, kernel, stride, padding in layers(config, "decoder"):
        sizes.append((sizes[-1] - 1) * stride + kernel - 2 * padding)
    return positive(sizes, "decoder")


def check(config: Config) -> None:
    """Raise ValueError where there is no such network."""
    check_encoder(config)
    sizes = decoder_sizes(config)
    if sizes[-1] != config.size:
        raise ValueError(f"the decoder makes images of side {sizes[-1]}, not {config.size}")
    if config.decoder_channels[-1] != config.channels:
        raise ValueError(f"the decoder ends with {config.decoder_channels[-1]} channels, images have {config.channels}")
    if config.latent < 1 or min(config.neurons, default=1) < 1:
        raise ValueError(f"latent and neurons must be at least 1, not {config.latent} and {config.neurons}")
