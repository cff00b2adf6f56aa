"""Annealed Langevin dynamics (Song & Ermon 2020, Algorithm 1): samples of a score network.

Their convention, the third beside those of sampling/langevin.py and of JEM: x ← x + α s + √(2α) z, in pixel units of
[0, 1]. States are never clamped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustgen.sampling.langevin import Noise

Score = Callable[[Tensor, Tensor], Tensor]  # x (N, C, H, W), σ (N,) -> ∇ log q_σ(x), the shape of x
Callback = Callable[[int, Tensor], None]  # levels done, the states there


@torch.no_grad()
def annealed_langevin(
    score: Score,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    step: float,
    steps: int,
    denoise: bool = True,
    callback: Callback | None = None,
) -> Tensor:
    """Samples (N, C, H, W) from the states x, through the levels `sigmas` (L,) with T = `steps` updates at each.

    `step` is ε, the step size at the last level: α_i = ε σ_i²/σ_L². The last denoising step takes the noise of the
    last level out. `noise` draws as for `langevin`, once a level; `callback(k, x)` sees the states after k levels.
    """
    for done, sigma in enumerate(sigmas, 1):
        alpha = step * float(sigma / sigmas[-1]) ** 2
        levels = sigma.to(x).expand(len(x))
        for z in noise(steps):
            x = (x + alpha * score(x, levels)).add_(z, alpha=(2 * alpha) ** 0.5)
        if callback is not None:
            callback(done, x)
    last = sigmas[-1].to(x).expand(len(x))
    return x + last.view(-1, 1, 1, 1) ** 2 * score(x, last) if denoise else x
