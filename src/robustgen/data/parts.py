"""A data set as it was found: its parts, not yet split, with pixels that may still lie in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a source: N images, as an array or as files, with their labels.

    images: uint8 (N, C, H, W), or N paths. labels: int64 (N,). groups: int64 (N,), images of equal number look
    alike and must not be separated; None where each image stands for itself. boxes: int64 (N, 4), what is cut out of
    each file: left, top, right, bottom in pixels, right and bottom being the first outside; None for whole files.
    """

    images: np.ndarray | tuple[Path, ...]
    labels: np.ndarray
    groups: np.ndarray | None = None
    boxes: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A whole data set: its parts `train` and perhaps `validation` and `test`, class names, and where it came from."""

    parts: dict[str, Part]
    classes: tuple[str, ...]
    origin: str
