"""What the papers' figures share: curves with bands, mosaics of images, and the line for what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from robustgen.evaluation.plotting import ATTACKED, NATURAL, figure
from robustgen.evaluation.statistics import Estimate
from robustgen.io import save_csv

TRAINED, OTHER, GREY = "#1b7837", "#762a83", "#555555"  # adversarial training, a second one, what only orients
__all__ = ["ATTACKED", "GREY", "NATURAL", "OTHER", "TRAINED"]


def absent(path: Path, header: Sequence[str], what: str) -> None:
    """A figure without data: one line that says what is missing, and a CSV without rows."""
    with figure(path, 5.0, 1.4) as made:
        made.text(0.5, 0.5, f"Not run at this scale: {what}.", ha="center", va="center", color=GREY, wrap=True)
    save_csv(f"{path}.csv", header, [])


def banner(axes: Any, what: str) -> None:
    """The same for one panel of a figure."""
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, f"not run at this scale:\n{what}", ha="center", va="center", transform=axes.transAxes, color=GREY
    )


def curve(
    axes: Any,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    *,
    label: str,
    colour: str,
    style: str = "o-",
    band: bool = True,
) -> None:
    """Accuracies in percent, with their 95 % interval as a `band`."""
    values, low, high = (
        100 * np.array([getattr(e, end) for e in estimates], dtype=float) for end in ("value", "low", "high")
    )
    axes.plot(x, values, style, color=colour, ms=3.5, lw=1.3, label=label)
    if band:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)


def percent_axis(axes: Any) -> None:
    axes.set_ylim(-3, 103)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("accuracy, %")


def log_axis(axes: Any, values: Sequence[float], label: str) -> None:
    """A logarithmic axis, with room for 0, that names some of `values` and nothing between."""
    ticks = spread_out(values)
    positive = [value for value in values if value > 0]
    if min(values) <= 0:
        least = min(positive, default=1)
        axes.set_xscale("symlog", base=2, linthresh=least, linscale=0.6)
        axes.set_xlim(-0.3 * least, 1.2 * max(values))
    else:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def spread_out(values: Sequence[float], ratio: float = 1.6) -> list[float]:
    """Those of `values`, ascending, that a logarithmic axis can label without overlap; the last always."""
    ordered = sorted(set(values))
    kept = ordered[-1:]
    for value in reversed(ordered[:-1]):
        if value == 0 or kept[0] / value >= ratio:
            kept.insert(0, value)
    return kept


def thinned(count: int, most: int) -> list[int]:
    """At most `most` of range(count), evenly, first and last among them."""
    return sorted({round(float(k)) for k in np.linspace(0, count - 1, min(count, most))})


def mosaic(images: np.ndarray, columns: int, rows: int = 1) -> np.ndarray:
    """The first images (N, C, H, W) as one picture (H', W', 3), clipped to [0, 1], white between them."""
    shown = np.clip(images[: columns * rows], 0, 1)
    shown = np.repeat(shown, 3, axis=1) if shown.shape[1] == 1 else shown
    count, _, height, width = shown.shape
    gap = max(1, height // 16)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for k in range(count):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        canvas[top : top + height, left : left + width] = shown[k].transpose(1, 2, 0)
    return canvas


def show(axes: Any, picture: np.ndarray) -> None:
    """A picture of `mosaic`, without ticks or frame."""
    axes.imshow(picture, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
