"""Projected gradient descent (Madry et al. 2018), untargeted and targeted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from robustgen.attacks.ascent import ascend
from robustgen.attacks.base import BallAttack, BallOptions
from robustgen.options import Ratio


@dataclass(frozen=True, kw_only=True)
class Options(BallOptions):
    name: Literal["pgd"] = "pgd"
    alpha: Ratio = 2 / 255  # length of a step in the norm, pixel units
    steps: int = 10  # ascent steps
    random_start: bool = True  # start uniformly in the ball rather than at the image
    targeted: bool = False  # lower the loss of a target class, drawn per image among the wrong ones


class PGD(BallAttack):
    """PGD in 'Towards Deep Learning Models Resistant to Adversarial Attacks' (arXiv 1706.06083). L∞ or L2.

    Options: eps, alpha (pixel units), norm ("linf" or "l2"), steps, random_start, targeted, seed.
    Example: `PGD(model, eps=8 / 255, alpha=2 / 255, steps=10)(images, labels)`, or
    `PGD(model, eps=0.5, alpha=0.1, steps=10, norm="l2")(images, labels)`.
    """

    Options = Options

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        o = self.options
        start = self.uniform_start(x) if o.random_start else None
        target = self.random_target(x, y) if o.targeted else None
        return ascend(
            self.model,
            x,
            lambda logits: self.objective(logits, y, target),
            ball=self.ball,
            alpha=o.alpha,
            steps=o.steps,
            start=start,
            callback=self.callback,
        )

    def objective(self, logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
        """(N,) values to raise: CE of the true class, or minus CE of the target class."""
        if target is not None:
            return -F.cross_entropy(logits, target, reduction="none")
        return F.cross_entropy(logits, y, reduction="none")

    def random_target(self, x: Tensor, y: Tensor) -> Tensor:
        """(N,) classes other than y, uniform, each from its image's stream."""
        classes = self.model(x[:1]).shape[1]
        draw = self.streams.uniform((), x.device)
        target: Tensor = (y + 1 + (draw * (classes - 1)).long()) % classes
        return target


Attack = PGD
