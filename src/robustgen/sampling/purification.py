"""Purification by a score network (Yoon, Hwang & Lee 2021, Algorithm 1): the steps that follow the injected noise.

The convention, once: images are in [0, 1] and s is a network's *unnormalised* score s_θ(x), whose norm hardly depends
on the noise in x (models/ncsnv2.py). A step is x ← x + α s(x), its size α the coefficient of the score as in Eq. 11;
the Langevin update of Eq. 6 with the same drift is x ← x + α s(x) + √(2α) ε.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from robustgen.errors import UserError

Score = Callable[[Tensor], Tensor]  # x (B, C, H, W) -> s_θ(x), the same shape
Noise = Callable[[], Tensor]  # one step's draws from N(0, 1), shaped as the states
Callback = Callable[[int, Tensor], None]  # steps done, the states there

SMALLEST, LARGEST = 1e-5, 0.1  # bounds of adaptive step sizes: the released code's, the paper is silent


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How states follow the score; symbols as in Algorithm 1."""

    steps: int  # T
    step: float | None = None  # α of every step; None: Eq. 18, for each image and step
    lam: float = 0.05  # λ, share of the way to the estimated mode
    delta: float = 1e-5  # δ, probing step in units of the score
    largest: float = LARGEST  # bound of adaptive step sizes
    stop: float = 0.001  # τ
    rule: Literal["norm", "step"] = "norm"  # an image rests where its score norm < τ, or its step size <= τ
    temperature: float = 0.0  # of Langevin updates: noise √(2 · temperature · α); 0: deterministic, 1: Eq. 6
    box: bool = True  # clip to [0, 1] after every step
    # The released code's pixel grid: entered once, left at every step, so that contrast drifts. There images that rest
    # drift on until the whole batch rests; here they stay, as no image shall depend on its batch.
    grid: bool = False


def released_grid(x: Tensor) -> Tensor:
    """Pixel values moved into (0, 1), to the centres of 256 equal bins."""
    return x * (255 / 256) + 1 / 512


def left_grid(x: Tensor) -> Tensor:
    """The inverse of `released_grid`."""
    return (x - 1 / 512) * (256 / 255)


def follow(
    score: Score, x: Tensor, scheme: Scheme, *, noise: Noise | None = None, callback: Callback | None = None
) -> Tensor:
    """The states x (B, C, H, W) after at most T steps along the score, each image by itself; x is left alone.

    `noise` is asked once a step where the temperature is not 0. `callback(t, x)` sees the states after t = 1..T steps.
    Raises UserError where the score is NaN or infinite.
    """
    x, active = begin(x, scheme)
    for t in range(scheme.steps):
        s = score(x)
        alpha, active = plan(score, x, s, active, scheme)
        if not active.any():
            break
        x = move(x, s, alpha, active, scheme, noise() if noise is not None else None)
        if callback is not None:
            callback(t + 1, x)
    return x


def begin(x: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """The first states, and that all of them are active (B,)."""
    return released_grid(x) if scheme.grid else x, torch.ones(len(x), dtype=torch.bool, device=x.device)


def plan(score: Score, x: Tensor, s: Tensor, active: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Step sizes α (B,) at the states x with scores s, and which states go on: a fixed step knows no rest.

    Differentiable in x by way of α. Raises UserError where the score is not finite.
    """
    check_score(s)
    alpha = step_sizes(score, x, s, scheme)
    if scheme.step is None and scheme.rule == "norm":
        active = active & (torch.linalg.vector_norm(s.detach(), dim=(1, 2, 3)) >= scheme.stop)
    elif scheme.step is None:
        active = active & (alpha > scheme.stop)
    return alpha, active


def move(x: Tensor, s: Tensor, alpha: Tensor, active: Tensor, scheme: Scheme, noise: Tensor | None) -> Tensor:
    """One step of the active states; the others rest. Differentiable in x, s and alpha."""
    alpha = alpha.view(-1, 1, 1, 1)
    moved = x + alpha * s
    if scheme.temperature > 0:
        if noise is None:
            raise ValueError("Langevin updates need noise")
        moved = moved + (2 * scheme.temperature * alpha).sqrt() * noise
    if scheme.grid:
        moved = left_grid(moved)
    if scheme.box:
        moved = moved.clamp(0, 1)
    return torch.where(active.view(-1, 1, 1, 1), moved, x)


class HeldStep(torch.autograd.Function):
    """One step whose size counts as a constant in the derivative.

    Forward it is computed without gradient; on the way back only the score at the state is computed again, so that
    memory grows by one state a step and the probe of Eq. 17 is not repeated.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, active: Tensor, noise: Tensor | None, score: Score, scheme: Scheme
    ) -> tuple[Tensor, Tensor]:
        s = score(x)
        alpha, active = plan(score, x, s, active, scheme)
        ctx.save_for_backward(x, alpha, active, noise)
        ctx.score, ctx.scheme = score, scheme
        after = active.clone()
        ctx.mark_non_differentiable(after)
        return move(x, s, alpha, active, scheme, noise), after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        x, alpha, active, noise = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            moved = move(leaf, ctx.score(leaf), alpha, active, ctx.scheme, noise)
            (back,) = torch.autograd.grad(moved, leaf, gradient)
        return back, None, None, None, None


def held_step(x: Tensor, active: Tensor, noise: Tensor | None, score: Score, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """One step, differentiable once in x with its size held constant: the states, and which are active still."""
    return HeldStep.apply(x, active, noise, score, scheme)  # type: ignore[no-any-return]


def free_step(x: Tensor, active: Tensor, noise: Tensor | None, score: Score, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """The same, with the derivative of the step size too."""
    s = score(x)
    alpha, active = plan(score, x, s, active, scheme)
    return move(x, s, alpha, active, scheme, noise), active


def step_sizes(score: Score, x: Tensor, s: Tensor, scheme: Scheme) -> Tensor:
    """α (B,) at the states x with scores s: Eq. 18, which estimates from one probing step δ how fast the score falls.

    Written as λδ‖s‖² / sᵀ(s − s(x + δs)): the difference first, since δ is near the rounding of 1 − sᵀs'/‖s‖².
    Where the score does not fall along itself (sᵀ(s − s') <= 0) the mode is far, and the step is the largest; the
    released code takes the smallest there, as its clamp hides the sign, and so does `grid`.
    """
    if scheme.step is not None:
        return torch.full((len(x),), scheme.step, dtype=x.dtype, device=x.device)
    probed = score(x + scheme.delta * s)
    square, fall = ((s * other).flatten(1).sum(1, dtype=torch.float64) for other in (s, s - probed))
    falls = fall > 0
    alpha = scheme.lam * scheme.delta * square / fall.where(falls, 1)
    alpha = torch.where(falls, alpha, SMALLEST if scheme.grid else scheme.largest)
    return alpha.clamp(SMALLEST, scheme.largest).to(x.dtype)


def check_score(s: Tensor) -> None:
    """Raise UserError where a score (B, C, H, W) is not finite."""
    if not s.isfinite().all():
        lost = int((~s.isfinite()).flatten(1).any(1).sum())
        raise UserError(
            f"the score is NaN or infinite for {lost} of {len(s)} images: its training diverged, or these states did; "
            "train the score network again or lower the step size"
        )
