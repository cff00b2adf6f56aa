"""Adam (Kingma & Ba 2015, Algorithm 1) on tensors that are no weights: images that attacks move, latents."""

from __future__ import annotations

import torch
from torch import Tensor

BETAS, TINY = (0.9, 0.999), 1e-8  # decay rates of the averages, and what keeps the denominator from 0


class Adam:
    """(state, gradient) -> the next state, both of one shape; by coordinate, so what shares a tensor moves as if alone.

    `lr` is about the length of a coordinate's step. State is not written to; the averages are kept between calls.
    """

    def __init__(self, lr: float, *, maximize: bool = False) -> None:
        self.rate = lr if maximize else -lr
        self.steps = 0
        self.mean = self.square = torch.empty(0)

    def __call__(self, state: Tensor, gradient: Tensor) -> Tensor:
        if not self.steps:
            self.mean, self.square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.steps += 1
        first, second = BETAS
        self.mean.lerp_(gradient, 1 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        # both averages began at 0, hence the two corrections
        scale = (self.square / (1 - second**self.steps)).sqrt_().add_(TINY)
        return torch.addcdiv(state, self.mean, scale, value=self.rate / (1 - first**self.steps))
