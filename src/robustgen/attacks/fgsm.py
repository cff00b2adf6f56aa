"""The fast gradient sign method (Goodfellow et al. 2015), as torchattacks has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torchattacks
from torch import Tensor

from robustgen.attacks.linf import LinfAttack, LinfOptions


@dataclass(frozen=True, kw_only=True)
class Options(LinfOptions):
    name: Literal["fgsm"] = "fgsm"


class FGSM(LinfAttack, torchattacks.FGSM):  # type: ignore[misc]
    """FGSM in 'Explaining and Harnessing Adversarial Examples' (arXiv 1412.6572), Eq. 1 of Beadini & Masi. L∞.

    Options: eps (pixel units). Example: `FGSM(model, eps=8 / 255)(images, labels)`.
    """

    Options = Options

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        adversarial: Tensor = torchattacks.FGSM.forward(self, x, y)
        return adversarial


Attack = FGSM
