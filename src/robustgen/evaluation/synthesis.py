"""Images synthesised by following a classifier's input gradient (Santurkar et al. 2019; Beadini & Masi, Sec. 5.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def synthesize(model: nn.Module, y: Tensor, start: Tensor, *, steps: int, step_size: float) -> Tensor:
    """Images (N, C, H, W) in [0, 1] after `steps` normalised L2 steps up log p(y|x) from `start` of that shape.

    Each image moves `step_size` (L2, pixel units) a step along its own gradient; there is no ball around the start.
    """
    x = start.clamp(0, 1)
    for _ in range(steps):
        x.requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
        norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        x = (x.detach() - step_size * gradient / norm).clamp_(0, 1)
    return x
