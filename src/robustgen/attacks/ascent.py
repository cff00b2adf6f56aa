"""Projected ascent of an objective of one model's logits: PGD's loop, for attacks, trainings and evaluations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustgen.attacks.ball import Ball

Objective = Callable[[Tensor], Tensor]  # logits (N, K) -> value to raise (N,)
Callback = Callable[[int, Tensor], None]  # steps done, logits (N, K) there


def ascend(
    model: nn.Module,
    x: Tensor,
    objective: Objective,
    *,
    ball: Ball,
    alpha: float,
    steps: int,
    start: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Projected ascent of `objective(model(x))` in the ball around x, steps of length alpha (Madry et al. 2018, Eq. 2).

    `start` (same shape as x) is the initial offset in units of the radius; None starts at x itself.
    Objectives are summed, not averaged, over the batch: the step does not depend on who shares it.
    `callback(k, logits)` sees the logits after k = 0..steps steps (one forward pass more).
    """
    x = x.detach()
    adversarial = x.clone() if start is None else ball.project(x + ball.eps * start, x)
    for step in range(steps):
        adversarial.requires_grad_()
        with torch.enable_grad():
            logits = model(adversarial)
            (gradient,) = torch.autograd.grad(objective(logits).sum(), adversarial)
        if callback is not None:
            callback(step, logits.detach())
        adversarial = ball.project(adversarial.detach().add_(ball.ascent(gradient), alpha=alpha), x)
    if callback is not None:
        with torch.no_grad():
            callback(steps, model(adversarial))
    return adversarial
