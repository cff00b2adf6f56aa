"""The score norm as a detector (Yoon, Hwang & Lee 2021, Sec. 5.1.6, Fig. 3): attacked images are far from the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustgen.defenses.detectors.base import Detector, LabelledImages
from robustgen.sampling.purification import check_score


class ScoreNorm(Detector):
    """Score −‖s_θ(x)‖₂, s_θ the unnormalised network of models/ncsnv2.py; about −√D on noisy images.

    `network` maps images (N, C, H, W) in [0, 1] to s_θ(x) of the same shape; `defenses.adp.EnergyScore` makes one of
    an energy-based model. It knows no classifier and learns nothing, so that it scores without `fit`.
    """

    def __init__(self, network: nn.Module, *, batch_size: int = 256) -> None:
        super().__init__(batch_size=batch_size)
        self.network = network

    def _fit(self, train: LabelledImages, clean: Tensor, adversarial: Tensor) -> None:
        """Nothing to learn."""

    def _score(self, images: Tensor) -> Tensor:
        # kernels for one image round differently: it gets company, so that no batch split shows
        batch = images.expand(2, -1, -1, -1) if len(images) == 1 else images
        scores: Tensor = self.network(batch.contiguous(memory_format=torch.channels_last))
        check_score(scores[: len(images)])
        norms: Tensor = torch.linalg.vector_norm(scores[: len(images)], dim=(1, 2, 3))
        return -norms

    def _model(self) -> nn.Module:
        return self.network
