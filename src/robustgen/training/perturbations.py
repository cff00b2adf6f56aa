"""What score networks are trained to denoise to: F in q(x̃|x) = N(F(x), σ²I) (Yoon et al. 2021, Sec. 5.1.4).

Denoising score matching with this q regresses on its score, −(x̃ − F(x))/σ²: the network learns the distribution of
the images F(x), and purification leads to one of these. (Taking x̃ back to x itself would be another regression, whose
target grows without bound as σ falls.) The paper names F "DCT" or "AugMix" and describes them in an appendix that is
not available; what they are here:

- dct: the idea of Hossain et al. 2020. Blocks of 8x8 pixels are transformed; of each image, coefficients smaller in
  size than a threshold from U[0, 0.5) are set to zero, except the blocks' means. High frequencies go first.
- augmix: Hendrycks et al. 2020 with their width 3, depth 1 to 3, severity 3, Dirichlet(1) and Beta(1, 1), and their
  operations, none of which is among the common corruptions.
- dct-augmix: dct of augmix.

All images of a batch are perturbed at once, each with draws of its own, made on the CPU whatever computes the images.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Perturbation = Literal["none", "dct", "augmix", "dct-augmix"]

BLOCK = 8  # side of a DCT block, pixels
LARGEST = 0.5  # threshold of DCT coefficients, in units of pixels in [0, 1] and an orthonormal transform
WIDTH = 3  # chains of operations that AugMix mixes
DEPTH = 3  # operations in the longest chain
SEVERITY = 3.0  # of an operation at most, of 10
AFFINE = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")
OPERATIONS = (*AFFINE, "autocontrast", "equalize", "posterize", "solarize")


def perturb(x: Tensor, perturbation: Perturbation, draws: torch.Generator) -> Tensor:
    """F(x) for images x (N, C, H, W) in [0, 1], C 1 or 3, H = W; the same shape and range."""
    if "augmix" in perturbation:
        x = augmix(x, draws)
    return dct(x, draws) if "dct" in perturbation else x


def dct(x: Tensor, draws: torch.Generator) -> Tensor:
    """x without the small coefficients of its blocks; images that are no whole blocks are continued at their edges."""
    from scipy.fft import dct as cosine_transform

    height, width = x.shape[2:]
    threshold = (LARGEST * torch.rand((len(x), 1, 1, 1, 1, 1), generator=draws)).to(x)
    basis = torch.from_numpy(cosine_transform(np.eye(BLOCK), axis=0, norm="ortho")).to(x)
    padded = F.pad(x, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    blocks = padded.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK))
    coefficients = torch.einsum("ui,vj,ncaibj->ncaubv", basis, basis, blocks)
    kept = coefficients.abs() >= threshold
    kept[:, :, :, 0, :, 0] = True
    blocks = torch.einsum("ui,vj,ncaubv->ncaibj", basis, basis, coefficients * kept)
    return blocks.flatten(4, 5).flatten(2, 3)[:, :, :height, :width].clamp(0, 1)


def augmix(x: Tensor, draws: torch.Generator) -> Tensor:
    """A random mixture of x and of three chains of one to three random operations on it."""
    n = len(x)
    weights = torch.empty((WIDTH, n, 1, 1, 1)).exponential_(generator=draws)  # normalised, they are Dirichlet(1)
    share = torch.rand((n, 1, 1, 1), generator=draws).to(x)  # Beta(1, 1)
    depth = torch.randint(1, DEPTH + 1, (WIDTH * n,), generator=draws)
    chains = x.repeat(WIDTH, 1, 1, 1)
    for done in range(DEPTH):
        operation = torch.randint(len(OPERATIONS), (WIDTH * n,), generator=draws)
        level = (0.1 + (SEVERITY - 0.1) * torch.rand(WIDTH * n, generator=draws)) / 10
        level = torch.where(torch.rand(WIDTH * n, generator=draws) < 0.5, level, -level)
        chains = operated(chains, operation.where(done < depth, -1), level)
    mixture = ((weights / weights.sum(0)).to(x) * chains.unflatten(0, (WIDTH, n))).sum(0)
    return torch.lerp(x, mixture, share).clamp(0, 1)


def operated(x: Tensor, operation: Tensor, level: Tensor) -> Tensor:
    """x (M, C, H, W) after the operations (M,), places in OPERATIONS or -1 for none.

    level: (M,) strengths in (0, 1] and their direction, of which the operations on colours see the size only.
    """
    x = x.clone()
    for number, name in enumerate(OPERATIONS[len(AFFINE) :], len(AFFINE)):
        rows = (operation == number).nonzero().flatten()
        if len(rows):
            there = rows.to(x.device)
            x[there] = coloured(x[there], name, level[rows].abs().view(-1, 1, 1, 1).to(x))
    rows = ((operation >= 0) & (operation < len(AFFINE))).nonzero().flatten()
    if len(rows):
        there = rows.to(x.device)
        grid = F.affine_grid(matrices(operation[rows], level[rows], x.shape[3]).to(x), list(x[there].shape), False)
        x[there] = F.grid_sample(x[there], grid, align_corners=False)  # bilinear, black outside
    return x


def coloured(x: Tensor, name: str, level: Tensor) -> Tensor:
    """One operation on the colours of all images; level (M, 1, 1, 1) in (0, 1]."""
    from torchvision.transforms.v2 import functional as vision  # a second, which other trainings need not wait for

    if name == "autocontrast":
        return vision.autocontrast(x)  # type: ignore[no-any-return]
    if name == "equalize":
        return vision.equalize(x)  # type: ignore[no-any-return]
    if name == "solarize":
        return torch.where(x >= 1 - level, 1 - x, x)
    shades = 2.0 ** (4 - (4 * level).floor())  # posterize to 4 bits or fewer
    return (x * shades).floor().clamp(max=shades - 1) / shades


def matrices(operation: Tensor, level: Tensor, size: int) -> Tensor:
    """Where each image looks up its pixels, (M, 2, 3) for `affine_grid`; operation (M,) are places in AFFINE."""
    found = torch.eye(2, 3).repeat(len(operation), 1, 1)
    degrees, pixels = (30 * level).trunc(), (size / 3 * level).trunc()  # whole ones, as released
    angle, shear, shift = degrees * math.pi / 180, 0.3 * level, 2 * pixels / size
    turn, tilt_x, tilt_y, move_x, move_y = (operation == number for number in range(len(AFFINE)))
    found[turn, 0, 0] = found[turn, 1, 1] = angle[turn].cos()
    found[turn, 0, 1], found[turn, 1, 0] = -angle[turn].sin(), angle[turn].sin()
    found[tilt_x, 0, 1] = found[tilt_x, 0, 2] = shear[tilt_x]  # about the corner, as released
    found[tilt_y, 1, 0] = found[tilt_y, 1, 2] = shear[tilt_y]
    found[move_x, 0, 2], found[move_y, 1, 2] = shift[move_x], shift[move_y]
    return found
