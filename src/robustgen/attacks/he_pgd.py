"""High-Energy PGD (Beadini & Masi 2023, Sec. 4.3): adversarial points whose energy is like that of natural data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from robustgen.attacks.ascent import ascend
from robustgen.attacks.base import BallAttack, LinfOptions
from robustgen.models.energy import energy, joint_energy
from robustgen.options import Ratio


@dataclass(frozen=True, kw_only=True)
class Options(LinfOptions):
    name: Literal["he_pgd"] = "he_pgd"
    alpha: Ratio = 1 / 255  # step size, pixel units (Sec. 5.2)
    steps: int = 40  # ascent steps
    lam: float = 1.2  # λ of Eq. 10, weight of the energy term (Sec. 5.1; the released CIFAR-10 notebook has 1.5)


class HePGD(BallAttack):
    """HE-PGD of 'Exploring the Connection between Robust and Generative Models', Eq. 10-11. L∞.

    Raises CE(x, y) + λ E(x) from a uniform start. With E(x, y) = −z_y and CE = E(x, y) − E(x) this is
    E(x, y) + (λ − 1) E(x), computed so: no exponential is formed outside logsumexp, and λ = 1 is exactly
    "minimise z_y".
    Options: eps, alpha (pixel units), steps, lam, seed.
    Example: `HePGD(model, eps=8 / 255, alpha=1 / 255, steps=40, lam=1.2)(images, labels)`.
    """

    Options = Options

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        o = self.options
        return ascend(
            self.model,
            x,
            lambda logits: joint_energy(logits, y) + (o.lam - 1) * energy(logits),
            ball=self.ball,
            alpha=o.alpha,
            steps=o.steps,
            start=self.uniform_start(x),
            callback=self.callback,
        )


Attack = HePGD
