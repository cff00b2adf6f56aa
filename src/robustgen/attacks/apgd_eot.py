"""APGD (Croce & Hein 2020) on defences that draw, by gradients through the purification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from robustgen.attacks.ball import Ball
from robustgen.attacks.eot import Climb, EotAttack, EotOptions
from robustgen.attacks.objectives import LOSSES, Loss, check_loss
from robustgen.seeding import ImageStreams

MOMENTUM = 0.75  # α of Eq. 3
RISES = 0.75  # ρ: share of updates that must raise the objective, or the step is halved


@dataclass(frozen=True, kw_only=True)
class Options(EotOptions):
    name: Literal["apgd_eot"] = "apgd_eot"
    loss: Loss = "ce"  # cross-entropy, the logits' margin, or the difference of logits ratio (three classes at least)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loss(self.loss)


@dataclass(kw_only=True)
class ApgdClimb(Climb):
    """Per image what APGD remembers, and for all of them where the next checkpoint is."""

    steps: int  # N_iter

    def __post_init__(self) -> None:
        super().__post_init__()
        lowest = torch.full((len(self.y),), -torch.inf, dtype=self.state.dtype, device=self.state.device)
        self.value = self.last_value = lowest  # the objective here and one update ago
        self.best, self.best_gradient, self.best_value = self.state, self.gradient, lowest
        self.checked_value = lowest  # the best at the last checkpoint
        self.previous = self.state
        self.step = torch.full_like(lowest, 2.0).view(-1, 1, 1, 1)  # η as a fraction of eps
        self.rises = torch.zeros_like(self.y)  # updates since the last checkpoint that raised the objective
        self.halved = torch.ones_like(self.y, dtype=torch.bool)  # at the last checkpoint; the first looks back on none
        self.updates = self.since = 0  # in all, and since the last checkpoint
        self.period = max(int(0.22 * self.steps), 1)  # updates between checkpoints

    def judge(self) -> None:
        """Take note of the objective at the present states; at a checkpoint halve the steps of images that are stuck,
        which go on from their best points."""
        better = self.value > self.best_value
        self.best, self.best_gradient = (
            choose(better, self.state, self.best),
            choose(better, self.gradient, self.best_gradient),
        )
        self.best_value = torch.maximum(self.value, self.best_value)
        if self.updates:
            self.rises = self.rises + (self.value > self.last_value)
            self.since += 1
        self.last_value = self.value
        if self.since == self.period:
            self._checkpoint()

    def _checkpoint(self) -> None:
        # `<=` is the released code's, behind all published figures; the paper has `<`
        stuck = (self.rises <= RISES * self.period) | (~self.halved & (self.checked_value >= self.best_value))
        self.step = choose(stuck, self.step / 2, self.step)
        self.state = choose(stuck, self.best, self.state)
        self.gradient = choose(stuck, self.best_gradient, self.gradient)
        self.halved, self.checked_value = stuck, self.best_value
        self.rises, self.since = torch.zeros_like(self.rises), 0
        self.period = max(self.period - max(int(0.03 * self.steps), 1), int(0.06 * self.steps), 1)

    def advance(self, ball: Ball) -> None:
        """One update with momentum (Eq. 3)."""
        ahead = ball.project(self.state + ball.eps * self.step * ball.ascent(self.gradient), self.x)
        share = MOMENTUM if self.updates else 1.0
        moved = self.state + (ahead - self.state) * share + (self.state - self.previous) * (1 - share)
        self.previous, self.state = self.state, ball.project(moved, self.x)
        self.updates += 1


class ApgdEot(EotAttack):
    """APGD in 'Reliable evaluation of adversarial robustness ...' (arXiv 2003.01690) with EOT. L∞ and L2.

    For any `RandomDefense`: this is the attack of 'Evaluating the Adversarial Robustness of Adaptive Test-time
    Defenses' (arXiv 2202.13711) on purification. Gradient and objective are the means over H_adv draws of the loss
    through `unrolled`, and every state is checked as BPDA+EOT's are: no break is accepted on a draw.
    Options: eps (pixel units), norm, steps, draws, verify, restarts, loss, seed. The step begins at 2 eps.
    Example: `ApgdEot(defense, eps=8 / 255, steps=10, draws=200, loss="cw").evaluate(images, labels).broken`.
    """

    Options = Options

    def start(self, x: Tensor, streams: ImageStreams) -> Tensor:
        """X_0 on the ball's surface, then in [0, 1]."""
        offset = self.ball.offset(x, streams)
        length = self.ball.distance(offset, torch.zeros_like(offset)).view(-1, 1, 1, 1)
        return self.ball.project(x + self.eps * (offset / length.clamp(min=1e-12)), x)

    def climb(self, **images: Any) -> ApgdClimb:
        return ApgdClimb(**images, steps=self.options.steps)

    def propose(self, climb: Climb, wanted: bool) -> Tensor:
        assert isinstance(climb, ApgdClimb)
        if not wanted:
            return self.screen(climb)
        logits, climb.gradient = self.full_gradient(climb.state, climb.y, climb.draws)
        climb.value = self.objective(logits, climb.y)
        wrong: Tensor = self.model.combine(logits).argmax(1) != climb.y
        return wrong

    def move(self, climb: Climb) -> None:
        assert isinstance(climb, ApgdClimb)
        climb.judge()
        climb.advance(self.ball)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return LOSSES[self.options.loss](logits, y)


def choose(rows: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Per image `one` where `rows` (N,) is true, else `other`."""
    return torch.where(rows.view(-1, *[1] * (one.dim() - 1)), one, other)


Attack = ApgdEot
