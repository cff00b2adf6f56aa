"""Projected first-order ascent of any function of images, by steepest steps or by Adam.

`attacks.ascent.ascend` raises objectives of one model's logits; these raise what several networks say together, and can
keep the best image of the whole path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from robustgen.adam import Adam
from robustgen.attacks.ball import Ball, check_radius
from robustgen.errors import UserError

Rule = Literal["steepest", "adam"]  # the ball's steepest step, or Adam on δ (GAT's attacks on MNIST, Sec. 5.1)
RULES: tuple[str, ...] = get_args(Rule)

Value = Callable[[Tensor], Tensor]  # images (N, C, H, W) -> value to raise (N,)
Scored = Callable[[Tensor], tuple[Tensor, Tensor]]  # images -> value to raise (N,), score to keep the best by (N,)
Callback = Callable[[int, Tensor], None]  # steps done, images (N, C, H, W) there


def check_rule(rule: str) -> None:
    """Raise UserError for the name of no rule."""
    if rule not in RULES:
        raise UserError(f"unknown rule {rule!r}; known are {', '.join(RULES)}")


def check_ascent(
    *, norm: str, eps: float, rule: str, steps: int, alpha: float, restarts: int = 1, random_start: bool = True
) -> None:
    """Raise UserError for settings that make no attack."""
    check_radius(norm, eps)
    check_rule(rule)
    if not (eps >= 0 and alpha > 0 and steps >= 0):
        raise UserError(
            f"an attack needs eps >= 0, alpha > 0 and steps >= 0, not eps {eps:g}, alpha {alpha:g} and steps {steps}"
        )
    if restarts < 1:
        raise UserError(f"restarts is {restarts}; give at least 1 start")
    if restarts > 1 and not random_start:
        raise UserError(f"{restarts} restarts from the image itself are all the same; start at random, or only once")


def climb(
    value: Value,
    x: Tensor,
    *,
    ball: Ball,
    alpha: float,
    steps: int,
    rule: Rule = "steepest",
    start: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """The last iterate of `steps` projected steps that raise `value` in the ball around images x (N, C, H, W).

    Values are summed over the batch, so that no image's step depends on who shares it. `alpha` (pixel units) is the
    step's length in the ball's norm, or Adam's learning rate, which is about the change of every pixel; Adam begins
    afresh in every call. `start` (shaped as x) is the initial offset in units of the radius; None starts at x itself.
    `callback(k, images)` sees the images after k = 0..steps steps. `L2(math.inf)` leaves only [0, 1] as a constraint.
    Raises UserError for an unknown rule, and for a start in a ball without bounds.
    """
    x, step = x.detach(), _stepper(rule, ball, alpha)
    adversarial = _beginning(x, ball, start)
    for k in range(steps):
        if callback is not None:
            callback(k, adversarial)
        with torch.enable_grad():
            leaf = adversarial.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(value(leaf).sum(), leaf)
        adversarial = ball.project(step(adversarial, gradient), x)
    if callback is not None:
        callback(steps, adversarial)
    return adversarial


def climb_best(
    objective: Scored,
    x: Tensor,
    *,
    ball: Ball,
    alpha: float,
    steps: int,
    rule: Rule = "steepest",
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `climb`, but of every image the iterate with the largest score, and that score (N,).

    All steps + 1 iterates count, the start and the last included; of equal scores the earliest stays. Scores may be
    −inf. Raises UserError where a value or a score is NaN.
    """
    x, step = x.detach(), _stepper(rule, ball, alpha)
    adversarial = best = _beginning(x, ball, start)
    top = torch.full_like(x[:, 0, 0, 0], -math.inf)
    lost = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for k in range(steps + 1):
        with torch.set_grad_enabled(k < steps):
            leaf = adversarial.detach().requires_grad_(k < steps)
            value, score = objective(leaf)
            gradient = torch.autograd.grad(value.sum(), leaf)[0] if k < steps else None
        score = score.detach().to(top)
        lost |= value.detach().isnan() | score.isnan()
        best, top = better(best, top, adversarial, score)
        if gradient is not None:
            adversarial = ball.project(step(adversarial, gradient), x)
    if lost.any():  # asked once: on a GPU every question waits for its answer
        raise UserError(
            f"what the attack raises is NaN for {int(lost.sum())} of {len(x)} images; train the attacked networks again"
        )
    return best, top


def better(images: Tensor, scores: Tensor, others: Tensor, their_scores: Tensor) -> tuple[Tensor, Tensor]:
    """Of images and others (N, C, H, W) those of the larger score, and these scores (N,); of equal ones the first."""
    larger = their_scores > scores
    return torch.where(larger.view(-1, 1, 1, 1), others, images), torch.where(larger, their_scores, scores)


def _beginning(x: Tensor, ball: Ball, start: Tensor | None) -> Tensor:
    if start is None:
        return x.clone()
    if math.isinf(ball.eps):
        raise UserError("a ball without bounds has no random start; start at the image, or give eps")
    return ball.project(x + ball.eps * start, x)


def _stepper(rule: str, ball: Ball, alpha: float) -> Callable[[Tensor, Tensor], Tensor]:
    """(images, gradient) -> the next images, before their projection; called once a step."""
    check_rule(rule)
    if rule == "adam":
        return Adam(alpha, maximize=True)
    return lambda images, gradient: images.add(ball.ascent(gradient), alpha=alpha)
