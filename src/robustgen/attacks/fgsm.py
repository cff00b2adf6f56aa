"""The fast gradient sign method (Goodfellow et al. 2015), as torchattacks has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torchattacks
from torch import Tensor, nn

from robustgen.attacks.base import BallAttack, LinfOptions


@dataclass(frozen=True, kw_only=True)
class Options(LinfOptions):
    name: Literal["fgsm"] = "fgsm"


class FGSM(BallAttack):
    """FGSM in 'Explaining and Harnessing Adversarial Examples' (arXiv 1412.6572), Eq. 1 of Beadini & Masi. L∞.

    Options: eps (pixel units). Example: `FGSM(model, eps=8 / 255)(images, labels)`.
    """

    Options = Options

    def __init__(self, model: nn.Module, **options: Any) -> None:
        super().__init__(model, **options)
        self.peer = torchattacks.FGSM(model, eps=self.eps)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        adversarial: Tensor = self.peer.forward(x, y)
        return adversarial


Attack = FGSM
