"""Shuffled passes over some of the training images, for trainings that count updates and not epochs."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgen.seeding import generator


class Passes:
    """Shuffled passes over the positions `rows` (n,), one after another; `name` names their order below `seed`."""

    def __init__(self, rows: Tensor, seed: int, *name: int | str) -> None:
        self.rows, self.seed, self.name = rows, seed, name
        self.number, self.order = -1, rows

    def take(self, first: int, count: int) -> Tensor:
        """(count,) positions from the `first`-th on, counted over all passes."""
        found = []
        while count:
            number, place = divmod(first, len(self.rows))
            if number != self.number:
                draws = generator(self.seed, *self.name, number)
                self.number, self.order = number, self.rows[torch.randperm(len(self.rows), generator=draws)]
            found.append(self.order[place : place + count])
            first, count = first + len(found[-1]), count - len(found[-1])
        return torch.cat(found)
