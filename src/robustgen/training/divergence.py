"""When the training of an energy-based model has gone wrong, and how often it may try again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robustgen.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Band:
    """The energy differences E(data) − E(samples) of a sound training, and the restarts a training is granted."""

    width: float  # largest difference in size, in the energy's unit
    restarts: int  # returns to the last good state, in all

    def __post_init__(self) -> None:
        if not self.width > 0 or self.restarts < 0:
            raise UserError(f"a band needs a positive width and restarts >= 0, not {self.width} and {self.restarts}")

    def holds(self, difference: float, *losses: float) -> bool:
        """Whether the difference lies in the band and it and the losses are finite."""
        return abs(difference) <= self.width and all(map(math.isfinite, (difference, *losses)))

    def restart(self, done: int, what: str, advice: str) -> int:
        """The number of the next restart after `done` ones.

        Raises UserError where none is left: `what` says what diverged and where, `advice` what to change.
        """
        if done >= self.restarts:
            raise UserError(f"{what}, after {done} restarts from the last good state; {advice}")
        return done + 1
