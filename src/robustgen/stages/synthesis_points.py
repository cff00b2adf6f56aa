"""The grid points of attack-synthesis, the runs of attacks that they share, and how an outcome is judged at a point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robustgen.attacks.ball import Norm
from robustgen.attacks.synthesis import ATTACKS, check_attack
from robustgen.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Run:
    """What an attack is run with, a random start at a time. A search has no eps and one start."""

    attack: str
    norm: Norm
    eps: float | None
    steps: int
    draws: int

    @property
    def climb(self) -> bool:
        """Whether it looks for an error within eps."""
        return ATTACKS[self.attack].radius

    def __str__(self) -> str:
        radius = "" if self.eps is None else f"-{self.eps!r}"
        return f"{self.attack}-{self.norm}{radius}-{self.steps}-{self.draws}"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A grid point: an attack, and the radius at which its outcome is judged. The fields are arrays of the result."""

    attack: str
    norm: Norm
    eps: float
    steps: int
    restarts: int
    draws: int

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Point:
        """From the entries of the options' lists; UserError for an unknown attack, and a norm that it does not have."""
        check_attack(entry["attack"], entry["norm"])
        point = cls(**{"steps": ATTACKS[entry["attack"]].steps, **entry})
        if not point.eps >= 0 or point.restarts < 1:
            raise UserError(f"an attack needs eps >= 0 and restarts >= 1, not {point.eps:g} and {point.restarts}")
        return point

    @property
    def run(self) -> Run:
        eps = self.eps if ATTACKS[self.attack].radius else None
        return Run(attack=self.attack, norm=self.norm, eps=eps, steps=self.steps, draws=self.draws)

    @property
    def starts(self) -> int:
        """How often the attack is run at most: at a radius of 0 every start is the same."""
        return self.restarts if self.run.climb and self.eps > 0 else 1

    def used(self, *, random: bool) -> Point:
        """As it is run: a search starts once, and there is nothing to average where the network is not `random`."""
        return replace(self, restarts=self.restarts if self.run.climb else 1, draws=self.draws if random else 1)


class Found:
    """What the R restarts of a run made of N images, S of them shown.

    A restart is of the images of which no earlier one found an error, `right` (N,) at the outset; the others are errors
    at a distance of 0 already. distance float32 (R, N), of the image made, infinite where a search found no error and
    where an image was not attacked; seen float32 (R, N), where the attacker saw an error, else infinite; chosen bool
    (R, N), whether that is one by fresh inference; broken bool (R, N), whether it is one by the inference that judges;
    adversarial float32 (R, S, C, H, W).
    """

    def __init__(self, right: np.ndarray, shown: np.ndarray, images: np.ndarray, restarts: int) -> None:
        """`shown` (S,) are rows, `images` (S, C, H, W) what they are like."""
        self.right, self.rows = right, shown
        start = np.where(right, np.inf, 0).astype(np.float32)
        self.distance, self.seen = (np.tile(start, (restarts, 1)) for _ in range(2))
        self.chosen, self.broken = (np.tile(~right, (restarts, 1)) for _ in range(2))
        self.adversarial = np.tile(images, (restarts, 1, 1, 1, 1))

    def standing(self, restart: int) -> np.ndarray:
        """Rows of the images that the restart is of."""
        return np.flatnonzero(self.right & ~self.chosen[:restart].any(0))

    def take(self, restart: int, rows: np.ndarray, made: Mapping[str, np.ndarray]) -> None:
        """Take up what a restart made of `rows` (M,), ascending: distance, seen, chosen and broken (M,), and
        adversarial, the images of those that are shown.
        """
        self.distance[restart, rows], self.seen[restart, rows] = made["distance"], made["seen"]
        self.chosen[restart, rows], self.broken[restart, rows] = made["chosen"], made["broken"]
        self.adversarial[restart, np.isin(self.rows, rows)] = made["adversarial"]

    def at(self, point: Point) -> dict[str, np.ndarray]:
        """robust, chosen, seen, distance (N,) and shown_adversarial (S, C, H, W), of the restart that found an error,
        or of the first: one image, and one judgement of it, however many were tried.
        """
        restarts = slice(point.restarts)
        first = self.chosen[restarts].argmax(0)[None]
        distance, chosen, broken = (
            np.take_along_axis(each, first, 0)[0] for each in (self.distance, self.chosen, self.broken)
        )
        # what a climb made lies within eps, but for rounding
        radius = np.inf if point.run.climb else point.eps
        seen = self.seen[restarts]
        return {
            "robust": ~(broken & (distance <= radius)),
            "chosen": chosen & (distance <= radius),
            "seen": (np.isfinite(seen) & (seen <= radius)).any(0),
            "distance": distance,
            "shown_adversarial": self.adversarial[first[0][self.rows], np.arange(len(self.rows))],
        }
