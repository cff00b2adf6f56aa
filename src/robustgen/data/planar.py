"""Points in one and two dimensions whose density is known (GAT, Yin et al. 2020, App. F).

The paper shows its data and names only the 1-D mixture; the rest is as in the authors' notebooks (GAT-synthetic):
positives lie in the middle of the unit square, negatives are uniform over what is left around their bounding box.
Positives are points of a base set, all equally often, plus Gaussian noise, so that the density is a mean of
Gaussians. The noise of the 2-D problems is ours: theirs, 0.0004 to 0.004, is far below what a grid can show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustgen.errors import UserError
from robustgen.seeding import derive

DOMAIN = (0.0, 1.0)  # the least and the largest coordinate of a point, in every dimension alike
CHUNK = 1 << 22  # pairs of a point and a base point that are worked on at once


@dataclass(frozen=True, kw_only=True)
class Problem:
    """base: (B, D) points in [0, 1]^D; noise: (B,) standard deviations around them; count: positives, and negatives;
    margin: by how much the box free of negatives is larger than that of the base, on each side.
    """

    base: np.ndarray
    noise: np.ndarray
    count: int
    margin: float

    @property
    def dimensions(self) -> int:
        return int(self.base.shape[1])

    @property
    def hole(self) -> tuple[np.ndarray, np.ndarray]:
        """Opposite corners (D,) of the box that negatives avoid."""
        return self.base.min(0) - self.margin, self.base.max(0) + self.margin


def _mixture() -> Problem:
    """Two Gaussians on a line, as the caption of Figure 20 has them."""
    return Problem(base=np.array([[0.4], [0.6]]), noise=np.array([0.01, 0.005]), count=500, margin=0.1)


def _planar(base: np.ndarray, noise: float) -> Problem:
    return Problem(base=base, noise=np.full(len(base), noise), count=1000, margin=0.05 + 3 * noise)


def _ring() -> Problem:
    """Eight blobs on a circle."""
    angle = 2 * np.pi * np.arange(8) / 8
    return _planar(0.5 + 0.2 * np.stack([np.cos(angle), np.sin(angle)], 1), 0.02)


def _grid() -> Problem:
    """Five by five blobs."""
    axis = np.linspace(0.325, 0.675, 5)
    return _planar(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), 0.01)


def _spirals() -> Problem:
    """Two arms of one and a half turns, points uniform along their length, nearly."""
    turn = np.sqrt((np.arange(500) + 0.5) / 500)
    angle = 3 * np.pi * turn
    arm = 0.2 * turn[:, None] * np.stack([-np.cos(angle), np.sin(angle)], 1)
    return _planar(0.5 + np.concatenate([arm, -arm]), 0.01)


def _checkerboard() -> Problem:
    """The squares of one colour of a board of four by four, their edges softened."""
    place = (np.arange(40) + 0.5) / 40
    x, y = np.meshgrid(place, place)
    dark = (np.floor(4 * x) + np.floor(4 * y)) % 2 == 0
    return _planar(0.5 + 0.3 * (np.stack([x[dark], y[dark]], 1) - 0.5), 0.0075)


PROBLEMS: dict[str, Problem] = {
    "mixture": _mixture(),
    "ring": _ring(),
    "grid": _grid(),
    "spirals": _spirals(),
    "checkerboard": _checkerboard(),
}


def problem(name: str) -> Problem:
    """The problem called `name`; UserError for an unknown one."""
    if name not in PROBLEMS:
        raise UserError(f"unknown problem {name!r}; known are {', '.join(PROBLEMS)}")
    return PROBLEMS[name]


def sample(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positive (N, D) and negative points (N, D) of a problem, float32 in [0, 1]^D, in random order."""
    found = problem(name)
    draws = np.random.default_rng(derive(seed, "planar", name))
    passes = [draws.permutation(len(found.base)) for _ in range(-(-found.count // len(found.base)))]
    rows = draws.permutation(np.concatenate(passes)[: found.count])
    noise = draws.standard_normal((found.count, found.dimensions)) * found.noise[rows, None]
    low, high = found.hole
    negative = np.empty((0, found.dimensions))
    while len(negative) < found.count:
        points = draws.random((found.count, found.dimensions))
        inside = ((points > low) & (points < high)).all(1)
        negative = np.concatenate([negative, points[~inside]])
    positive = np.clip(found.base[rows] + noise, *DOMAIN)
    return positive.astype(np.float32), negative[: found.count].astype(np.float32)


def density(name: str, points: np.ndarray) -> np.ndarray:
    """(M,) the positives' density at points (M, D), per unit of length or area."""
    found = problem(name)
    scale = (2 * np.pi * found.noise**2) ** (-found.dimensions / 2) / len(found.base)
    rows = max(1, CHUNK // len(found.base))
    parts = []
    for first in range(0, len(points), rows):
        part = np.asarray(points[first : first + rows], dtype=np.float64)
        square = sum((part[:, None, i] - found.base[None, :, i]) ** 2 for i in range(found.dimensions))
        parts.append(np.exp(-square / (2 * found.noise**2)) @ scale)
    return np.concatenate(parts)
