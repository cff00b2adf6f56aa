"""What the figures of GAT share: words beside a picture, an axis for rare events."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from robustgen.papers.gat.study import share
from robustgen.papers.tiles import UNBROKEN

FRAME = "framed: an independent classifier takes it for the class"
TENS, ONE_TWO_FIVE = (0.01, 0.1, 1, 10, 100), (2, 5, 10, 20, 50, 100)  # ticks of many and of few decades, %
Line = tuple[object, ...]


def one_of_each(labels: np.ndarray) -> np.ndarray:
    """Rows of the first image of every class, ascending."""
    return np.asarray(np.unique(labels, return_index=True)[1])


def settings(name: str, *words: str) -> str:
    """A model's name with what is known of its settings."""
    known = "; ".join(word for word in words if word)
    return f"{name}: {known}" if known else name


def shares(which: np.ndarray) -> str:
    """The share (N,) for which something is so in words, with its exact 95 % interval."""
    found = share(which)
    return f"{100 * found.value:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]".replace(" ", UNBROKEN)


def rare_axis(axes: Any, n: int, label: str) -> None:
    """A logarithmic axis of percentages of n images, linear below one of them so that 0 has a place."""
    least = 100 / max(n, 2)
    axes.set_xscale("symlog", base=10, linthresh=least, linscale=0.4)
    ticks = [0.0, *(tick for tick in (TENS if least < 1 else ONE_TWO_FIVE) if tick >= least)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(-0.25 * least, 115)
    axes.set_xlabel(label)
