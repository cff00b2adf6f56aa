"""One look for every figure, and byte-identical files for identical data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from robustgen.io import PathLike, atomic

NATURAL, ATTACKED = "#2166ac", "#c0392b"  # natural and attacked data, distinct also in grey and to the colour-blind
STYLE: Any = {  # matplotlib types its keys one by one
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,
    "svg.hashsalt": "robustgen",
}


@contextmanager
def figure(path: PathLike, width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` by `height` inches, written to <path>.png and <path>.pdf on leaving."""
    with mpl.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        yield made
        for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None, "Creator": None})):
            with atomic(Path(f"{path}{suffix}")) as temporary:
                made.savefig(temporary, format=suffix[1:], metadata=metadata)


def show_image(axes: Any, image: Any) -> None:
    """One image (C, H, W) in [0, 1] or, for one channel, any range; without ticks."""
    grey = image.shape[0] == 1
    axes.imshow(image[0] if grey else image.transpose(1, 2, 0), cmap="gray" if grey else None, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
