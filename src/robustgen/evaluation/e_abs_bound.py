"""How far away the nearest adversarial example must be in L2 (Ju & Wagner 2020, Eq. 7 as Appendix A.2 proves it).

With r = ‖x − G_y(z_y*)‖ and d_k = min_z ‖x − G_k(z)‖ no change of length ε turns y into k while
l_y + 2εr + ε² < (d_k − ε)², that is, below ε_k = (d_k² − l_y) / (2 d_k + 2r); ε* is the least over k ≠ y. Section 3.4
and its Eq. 7 square the norm of r by mistake. The condition ε* < d_k of Claim 2 needs no check: l_y and r are not
negative, so that ε_k ≤ d_k / 2. The proof wants of a regulariser only that it is not negative, so the bound holds for
the divergence of a variational autoencoder too.

It speaks of exact inference. Claim 1 holds for any latents, but d_k must be the minimum: what optimisation finds is
above it, and so ε* is an estimate as good as the inference of d_k is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from robustgen.data.images import check_images
from robustgen.defenses.e_abs import AnalysisBySynthesis, Inferred, Options
from robustgen.errors import UserError
from robustgen.seeding import ImageStreams

Reason = Literal["", "misclassified", "too near another class"]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """ε* of N images."""

    eps: np.ndarray  # float64 (N,), length in pixel units; NaN where misclassified, 0 where the formula proves nothing
    nearest: np.ndarray  # int64 (N,): the class k that has the least ε_k
    reasons: tuple[Reason, ...]  # (N,): why there is no bound, "" where there is one


def lower_bound(losses: Tensor, residual: Tensor, distances: Tensor, y: Tensor) -> Bound:
    """ε* from l_k (N, K), ‖x − G_y(z_y*)‖ (N,), d_k (N, K) and labels y (N,); the squared error is summed over pixels.

    Raises UserError for values that are negative or not finite, and labels that are none of K >= 2 classes.
    """
    classes = losses.shape[1]
    if any(not (value >= 0).all() or not value.isfinite().all() for value in (losses, residual, distances)):
        raise UserError("losses and distances must be finite and not negative; infer them again from a trained model")
    if classes < 2 or not ((y >= 0) & (y < classes)).all():
        raise UserError(f"a bound needs labels of 2 classes at least, not those given for {classes}; mend the labels")
    r, d, own = residual.double()[:, None], distances.double(), y[:, None]
    margin = d.square() - losses.double().gather(1, own)
    # no distance to divide by: x is reconstructed by y and by k, and the margin is not positive either
    each = torch.where(margin > 0, margin / (2 * d + 2 * r), 0.0).scatter(1, own, torch.inf)
    eps, nearest = each.min(1)
    wrong = losses.argmin(1) != y
    reasons: list[Reason] = [
        "misclassified" if missed else "" if bound > 0 else "too near another class"
        for missed, bound in zip(wrong.tolist(), eps.tolist(), strict=True)
    ]
    return Bound(
        eps=torch.where(wrong, torch.nan, eps).cpu().numpy(), nearest=nearest.cpu().numpy(), reasons=tuple(reasons)
    )


class Bounds:
    """Images -> ε* by exact inference with an `Autoencoder`; between calls the candidates for its latents are kept.

    `options.variational` has no effect. d_k comes from inference without regulariser, or from that of l_k where this
    went nearer.
    """

    def __init__(self, model: nn.Module, options: Options | None = None) -> None:
        exact = replace(options or Options(), variational=False)
        self.regularised, self.plain = (AnalysisBySynthesis(model, each) for each in (exact, replace(exact, beta=0.0)))

    def __call__(self, x: Tensor, y: Tensor) -> Bound:
        """ε* of images x (N, C, H, W) in [0, 1] with labels y (N,)."""
        check_images(x)
        found = _inferred(self.regularised, x)
        residuals = _distances(x, found)
        distances = torch.minimum(residuals, _distances(x, _inferred(self.plain, x)))
        # a mean cost is the sum with β · pixels, divided by pixels
        pixels = x[0].numel() if self.regularised.options.cost == "mean" else 1
        return lower_bound(pixels * found.losses, residuals.gather(1, y[:, None])[:, 0], distances, y)


def _inferred(network: AnalysisBySynthesis, x: Tensor) -> Inferred:
    found: Inferred = network.infer(x, ImageStreams(network.options.seed, range(len(x)), x.device))
    return found


def _distances(x: Tensor, inferred: Inferred) -> Tensor:
    """‖x − G_k(z_k)‖ (N, K)."""
    distances: Tensor = torch.linalg.vector_norm((x.unsqueeze(1) - inferred.reconstruction).flatten(2), dim=2)
    return distances
