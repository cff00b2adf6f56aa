"""What figures made of pictures share: images set in named rows and columns, wrapped titles."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from robustgen.papers.drawing import TRAINED, show

SMALL = 8  # points of titles; a letter of theirs is about 1/17 inch wide
UNBROKEN = "\u00a0"  # a space at which no line is wrapped
JOINED = (
    r"(?<=\d) (?=[a-z])|(?<=\beps) (?=\d)|(?<=update|pdates) (?=of)|(?<=\bof) (?=[\d.])"  # eps 0.1, 7 updates of 0.03
)
GAP, TEXT = 1.15, 0.3  # of an image's side: its share of the picture, the room for a text above it


def wrapped(text: str, inches: float) -> str:
    """Each line of a small text wrapped to a width, numbers kept with what they count or measure."""
    width = max(12, int(17 * inches))
    text = re.sub(JOINED, UNBROKEN, text)
    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, width))


def title(axes: Any, text: str, inches: float, **options: Any) -> None:
    """A small title, wrapped to a width."""
    axes.set_title(wrapped(text, inches), fontsize=SMALL, **options)


def tiles(
    axes: Any,
    images: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str] = (),
    *,
    texts: Sequence[Sequence[str]] | None = None,
    framed: np.ndarray | None = None,
) -> None:
    """Images (R, C, channels, H, W), clipped to [0, 1], as one picture; texts (R, C) stand above, some are framed."""
    down, across, channels, height, width = images.shape
    gap, above = max(3, height // 10), 0 if texts is None else round(TEXT * height)
    step = (above + height + gap, width + gap)
    canvas = np.ones((down * step[0] - gap, across * step[1] - gap, 3))
    shown = np.clip(np.nan_to_num(images.astype(np.float32)), 0, 1)
    shown = np.repeat(shown, 3, axis=2) if channels == 1 else shown
    for r, c in np.ndindex(down, across):
        top, left = r * step[0] + above, c * step[1]
        canvas[top : top + height, left : left + width] = shown[r, c].transpose(1, 2, 0)
        if framed is not None and framed[r, c]:
            corner = (left - 0.5 - gap / 4, top - 0.5 - gap / 4)
            axes.add_patch(Rectangle(corner, width + gap / 2, height + gap / 2, fill=False, ec=TRAINED, lw=1))
        if texts is not None:
            place = (left + width / 2 - 0.5, top - 0.05 * height - 0.5)
            axes.text(*place, texts[r][c], ha="center", va="bottom", fontsize=6.5)
    show(axes, canvas)
    axes.set_yticks([r * step[0] + above + height / 2 - 0.5 for r in range(down)], rows, fontsize=7.5)
    if columns:
        axes.set_xticks([c * step[1] + width / 2 - 0.5 for c in range(across)], columns, fontsize=7.5)
        axes.xaxis.tick_top()
    axes.tick_params(length=0)
    tall, wide, _ = canvas.shape
    axes.set(
        xlim=(-0.5 - gap / 2, wide - 0.5 + gap / 2), ylim=(tall - 0.5 + gap / 2, -0.5 - gap / 2)
    )  # room for frames


def extent(down: int, across: int, side: float, *, texts: bool = False) -> tuple[float, float]:
    """Width and height in inches of so many tiles, each of them a square of a side, with or without room for texts."""
    return side * GAP * across, side * (GAP + TEXT * texts) * down
