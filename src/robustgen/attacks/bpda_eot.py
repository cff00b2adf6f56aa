"""BPDA+EOT (Hill, Mitchell & Zhu 2021, Algorithm 1), and the gradient through the purification in BPDA's place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from robustgen.attacks.eot import Climb, EotAttack, StepOptions
from robustgen.errors import UserError
from robustgen.options import ADDED
from robustgen.seeding import ImageStreams

Expectation = Literal["combined", "mean", "vote"]


@dataclass(frozen=True, kw_only=True)
class ExpectationOptions(StepOptions):
    # over the draws: the loss of their combined logits (Hill et al.), the mean of their losses (Yoon et al.), or a
    # vote of their gradients' signs (the code of Yoon et al.)
    expectation: Expectation = field(default="combined", metadata=ADDED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.expectation not in get_args(Expectation):
            raise UserError(f"expectation is {self.expectation!r}; one of {', '.join(get_args(Expectation))}")


@dataclass(frozen=True, kw_only=True)
class Options(ExpectationOptions):
    name: Literal["bpda_eot"] = "bpda_eot"
    gradient: Literal["bpda", "full"] = "bpda"  # purification's derivative: taken for the identity, or unrolled

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gradient not in ("bpda", "full"):
            raise UserError(f"gradient is {self.gradient!r}; bpda or full")
        if self.gradient == "full" and self.expectation == "vote":
            raise UserError("a vote needs each draw's own gradient, which gradient full has not; take expectation mean")


class BpdaEot(EotAttack):
    """BPDA+EOT in 'Stochastic Security: Adversarial Defense Using Long-Run Dynamics ...' (arXiv 2005.13525). L∞ and L2.

    For any `RandomDefense`. A step follows the gradient of the cross-entropy of the *combined* logits of H_adv
    purified replicates, taken at the replicates and applied to the image (Eq. 10); `expectation="mean"` is that of the
    replicates' mean cross-entropy and "vote" has the replicates vote on each pixel's direction (their unit gradients'
    sum in L2), as in 'Adversarial Purification with Score-based Generative Models' (arXiv 2106.06041) and its code. An
    image counts as broken only where H_def fresh replicates confirm what H_adv showed. `gradient="full"` goes through
    the purification instead; behind an energy that is piecewise linear, as a leaky ReLU network's, that is the same
    almost everywhere, because Langevin steps then only shift the image.
    Options: eps (pixel units), norm, step, steps, draws, verify, restarts, gradient, expectation, seed.
    Example: `BpdaEot(defense, eps=8 / 255, steps=50).evaluate(images, labels).broken`.
    """

    Options = Options

    def propose(self, climb: Climb, wanted: bool) -> Tensor:
        logits, climb.gradient = self.attack_gradient(climb.state, climb.y, climb.draws, wanted=wanted)
        return logits.argmax(1) != climb.y

    def attack_gradient(
        self, x: Tensor, y: Tensor, streams: ImageStreams, *, wanted: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Logits F̂(x) (N, K) of H_adv draws, and the objective's gradient (N, C, H, W) from the same draws.

        "bpda": Eq. 10, up to its positive factor the derivative with respect to one shift of all replicates at once.
        "full": the derivative with respect to x through the draws. Zero where it is not `wanted`.
        """
        if wanted and self.options.gradient == "full":
            logits, gradient = self.full_gradient(x, y, streams)
            return self.model.combine(logits), gradient
        purified = self.model.purify_draws(x, self.options.draws, streams).detach()
        if not wanted:
            with torch.no_grad():
                return self.combined(purified), torch.zeros_like(x)
        return self.bpda(purified, y)

    def bpda(self, purified: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Combined logits (N, K) of purified replicates (N, H, C, H, W), and the gradient for their image."""
        logits, gradient = self.replicate_gradients(purified, y)
        if self.options.expectation == "vote":
            gradient = self.ball.ascent(gradient.flatten(0, 1)).unflatten(0, purified.shape[:2])
        return self.model.combine(logits), gradient.sum(1)

    def objective(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.options.expectation == "combined":
            return self.loss(self.model.combine(logits), y)
        return super().objective(logits, y)


Attack = BpdaEot
