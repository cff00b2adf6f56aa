"""Auto-PGD (Croce & Hein 2020), as torchattacks has it, with one random stream per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchattacks
from torch import Tensor, nn

from robustgen.attacks.base import BallAttack, LinfOptions
from robustgen.seeding import ImageRandomness


@dataclass(frozen=True, kw_only=True)
class Options(LinfOptions):
    name: Literal["apgd"] = "apgd"
    steps: int = 10  # ascent steps; below about 20 the step-size schedule hardly acts
    loss: Literal["ce", "dlr"] = "ce"  # cross-entropy, or the difference of logits ratio (three classes at least)


class APGD(BallAttack):
    """APGD in 'Reliable evaluation of adversarial robustness ...' (arXiv 2003.01690). L∞, one run.

    As in torchattacks an image that is misclassified already, or that resists, is returned unchanged.
    Options: eps (pixel units), steps, loss, seed. Example: `APGD(model, eps=8 / 255, steps=40)(images, labels)`.
    """

    Options = Options

    def __init__(self, model: nn.Module, **options: Any) -> None:
        super().__init__(model, **options)
        self.peer = torchattacks.APGD(model, eps=self.eps, steps=self.options.steps, loss=self.options.loss)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        adversarial = x.clone()
        with torch.no_grad():
            right = (self.model(x).argmax(1) == y).nonzero().flatten()
        if not len(right):
            return adversarial
        with ImageRandomness(self.streams.subset(right.tolist())):
            _, resists, _, found = self.peer.attack_single_run(x[right], y[right])
        adversarial[right[~resists]] = found[~resists]
        return adversarial


Attack = APGD
