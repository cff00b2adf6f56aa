"""Input gradients of a classifier and two measures of how much they look like the image (Beadini & Masi, Fig. 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def loss_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """∇_x CE(model(x), y), shape of x: what Fig. 4 shows."""
    return _gradient(model, x, lambda logits: F.cross_entropy(logits, y, reduction="none"))


def margin_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """∇_x (z_y − max_{k≠y} z_k), shape of x: unlike the loss's it does not vanish where the model is certain."""

    def margin(logits: Tensor) -> Tensor:
        own = logits.gather(1, y[:, None])[:, 0]
        others = logits.scatter(1, y[:, None], float("-inf"))
        return own - others.amax(1)

    return _gradient(model, x, margin)


def density(gradient: Tensor) -> Tensor:
    """(N,) participation ratio ‖g‖₁² / (D ‖g‖₂²) in (0, 1]: the share of pixels that carry the gradient.

    1 where all pixels weigh the same, 1/D where one carries everything; 0 for a zero gradient.
    """
    g = gradient.flatten(1).double()
    return g.abs().sum(1).square() / (g.shape[1] * g.square().sum(1)).clamp_min(1e-300)


def alignment(gradient: Tensor, x: Tensor) -> Tensor:
    """(N,) |cos| of the angle between gradient and image, in [0, 1] (Etmann et al. 2019, normalised by ‖x‖)."""
    return F.cosine_similarity(gradient.flatten(1).double(), x.flatten(1).double()).abs()


def _gradient(model: nn.Module, x: Tensor, objective: object) -> Tensor:
    assert callable(objective)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective(model(x)).sum(), x)
    return gradient.detach()
