"""E-ABS's encoder and a linear layer: the CNN that Ju & Wagner (2020, Sec. 4.3) compare E-ABS with, and the network
that they train adversarially.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from robustgen.models.aae import Encoder, check_encoder


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
