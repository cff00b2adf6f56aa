"""Which noise levels to train a score network on, and how to sample with it (Song & Ermon 2020, Techniques 1, 2, 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm
from torch import Tensor

from robustgen.errors import UserError
from robustgen.seeding import generator

LIMIT = 5000  # images whose distances are all taken; of more than that a random subset
BLOCK = 500  # images whose distances to the others are held in memory at once


@dataclass(frozen=True, kw_only=True)
class Guidance:
    first: float  # σ_1, pixel units: the largest distance between two training images
    last: float  # σ_L, pixel units: given
    ratio: float  # γ = σ_i / σ_{i+1} that the dimension asks for
    levels: int  # L, the fewest whose ratio is at most γ


def guidance(images: Tensor, *, last: float = 0.01, seed: int = 0) -> Guidance:
    """The noise levels for training images (N, C, H, W) in [0, 1]; `last` is Song & Ermon's σ_L.

    Raises UserError where the images do not tell: fewer than two, all alike, or fewer than five pixels.
    """
    first, gamma = largest_distance(images, seed=seed), ratio(images[0].numel())
    if first <= last:
        raise UserError(f"the largest distance between images is {first:g}, not above σ_L = {last:g}; lower σ_L")
    return Guidance(first=first, last=last, ratio=gamma, levels=level_count(first, last, gamma))


def largest_distance(images: Tensor, *, seed: int = 0) -> float:
    """Technique 1: the largest Euclidean distance between two of the images, a seeded subset where they are many."""
    if len(images) < 2:
        raise UserError(f"a distance between images needs two of them, not {len(images)}")
    if len(images) > LIMIT:
        images = images[torch.randperm(len(images), generator=generator(seed, "distances"))[:LIMIT]]
    rows = images.flatten(1).double()
    return max(float(torch.cdist(block, rows).max()) for block in rows.split(BLOCK))


def ratio(dimension: int) -> float:
    """Technique 2: γ such that half of the noise at a level, in D dimensions, is as long as that of the level above.

    It solves Φ(√(2D)(γ − 1) + 3γ) − Φ(√(2D)(γ − 1) − 3γ) = 0.5, which has no solution below D = 5.
    """
    if dimension < 5:
        raise UserError(f"noise levels by Song & Ermon's guidance need images of at least 5 values, not {dimension}")
    root = math.sqrt(2 * dimension)

    def excess(gamma: float) -> float:
        return float(norm.cdf(root * (gamma - 1) + 3 * gamma) - norm.cdf(root * (gamma - 1) - 3 * gamma)) - 0.5

    return float(brentq(excess, 1.0, 2 * root / (root - 3)))  # at the upper end the arguments are far above zero


def level_count(first: float, last: float, ratio: float) -> int:
    """L: the fewest geometric levels from `first` to `last` whose ratio is at most `ratio`."""
    return 1 + math.ceil(math.log(first / last) / math.log(ratio))


def langevin_step(sigmas: Tensor, steps: int) -> float:
    """Technique 4: the step size ε for `steps` updates T at each of the geometric levels (L,).

    After them the noise in a sample at σ_i has the variance s² of Song & Ermon's Eq. 4; ε brings s²/σ_i² closest to 1.
    """
    if steps < 1:
        raise UserError(f"annealed Langevin sampling takes at least 1 step a level, not {steps}")
    gamma, last = float((sigmas[0] / sigmas[-1]) ** (1 / (len(sigmas) - 1))), float(sigmas[-1])

    def excess(relative: float) -> float:  # of the variance ratio over 1, for ε = relative · σ_L²; it is positive
        limit = 2 / (2 - relative)
        return (1 - relative) ** (2 * steps) * (gamma**2 - limit) + limit - 1

    return float(minimize_scalar(excess, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).x) * last**2
