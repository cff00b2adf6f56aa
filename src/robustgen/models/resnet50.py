"""ResNet-50 (He et al. 2016) as torchvision builds it, from scratch: GAT's network for Restricted ImageNet.

Stride 2 lies on the 3x3 convolution of a bottleneck. 25,557,032 parameters at 1000 classes; the names of the weights
are torchvision's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet


@dataclass(frozen=True, kw_only=True)
class Config:
    arch: Literal["resnet50"] = "resnet50"
    size: int = 224  # side of the square images, pixels; any, the last map is averaged
    channels: int = 3  # image channels; the network has no other
    classes: int = 9  # K; 9 for Restricted ImageNet, 1 for a detector
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # per channel, subtracted inside the model
    std: tuple[float, ...] = (0.229, 0.224, 0.225)  # per channel, divided by inside the model


class ResNet50(ResNet):  # type: ignore[misc]
    """images (N, 3, size, size) in [0, 1] -> logits (N, K)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Config) -> None:
        if not len(config.mean) == len(config.std) == config.channels == 3:
            raise ValueError("channels must be 3, and mean and std need 3 values each")
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=config.classes)
        self.config = config
        self.num_classes = config.classes
        self.register_buffer("mean", torch.tensor(config.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, -1, 1, 1), persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after the stem and each stage (N, C_i, H_i, W_i), then the penultimate layer (N, D)."""
        x = (x - self.mean) / self.std
        maps = [self.maxpool(self.relu(self.bn1(self.conv1(x))))]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps.append(stage(maps[-1]))
        return [*maps, maps[-1].mean((2, 3))]  # torchvision's avgpool, which torch.func has no rule for

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc(self.features(x)[-1]))


Model = ResNet50
