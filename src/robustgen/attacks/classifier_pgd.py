"""PGD on the classifier alone, whose last state the defence then meets: the preprocessor-blind attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustgen.attacks.eot import Climb, EotAttack, StepOptions


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    name: Literal["classifier_pgd"] = "classifier_pgd"


class ClassifierPgd(EotAttack):
    """Classifier PGD in 'Adversarial Purification with Score-based Generative Models' (arXiv 2106.06041), Table 1.

    PGD (Madry et al. 2018) knows nothing of the defence, which is consulted on the last state only: by H_def draws,
    without a screen, so that `draws` plays no part. L∞ and L2.
    Options: eps (pixel units), norm, step, steps, draws, verify, restarts, seed.
    Example: `ClassifierPgd(defense, eps=8 / 255, steps=40).evaluate(images, labels).broken`.
    """

    Options = Options

    def propose(self, climb: Climb, wanted: bool) -> Tensor:
        if wanted:
            _, gradient = self.replicate_gradients(climb.state[:, None], climb.y)
            climb.gradient = gradient[:, 0]
        return torch.full_like(climb.y, not wanted, dtype=torch.bool)


Attack = ClassifierPgd
