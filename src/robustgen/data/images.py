"""Labelled images as the stages use them, and the guard that keeps wrong ones out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robustgen.data.splits import SPLITS
from robustgen.errors import UserError
from robustgen.io import load_arrays

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-6  # by which a value may leave [0, 1]: rounding of float32, not a forgotten normalisation


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Labelled images. images: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,) in 0..K-1; indices: int64 (N,),
    each image's place in the part of the source it came from; classes: the K names.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def load_split(path: str | os.PathLike[str], split: str, limit: int | None = None) -> ImageSet:
    """Read the split `train`, `validation` or `test` of a data file made by `robustgen fetch`.

    limit: the first images of the split, at most this many; the file's order makes them a stratified sample.
    Raises UserError for an unknown split, and for a file that is missing, damaged, or not as `fetch` writes it.
    """
    import torch

    if split not in SPLITS:
        raise UserError(f"no split {split!r}; a data file has {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}; give at least 1 image, or leave it out for all")
    keys = [f"{split}_{kind}" for kind in ("images", "labels", "indices")]
    arrays = load_arrays(path, *keys, "classes")
    images, labels, indices, classes = (arrays[key] for key in (*keys, "classes"))
    problem = _problem(images, labels, indices, classes)
    if problem:
        raise UserError(f"{path}, split {split}: {problem}; make the file again with `robustgen fetch`")
    chosen = slice(limit)
    return ImageSet(
        images=torch.from_numpy(images[chosen]).float().div_(255),
        labels=torch.from_numpy(labels[chosen]),
        indices=torch.from_numpy(indices[chosen]),
        classes=tuple(str(name) for name in classes),
    )


def _problem(images: np.ndarray, labels: np.ndarray, indices: np.ndarray, classes: np.ndarray) -> str | None:
    """What is wrong with the arrays of a split, in a few words; None if nothing is."""
    if images.dtype != np.uint8 or images.ndim != 4:
        return f"images must be uint8 of shape (N, C, H, W), not {images.dtype} of shape {images.shape}"
    if 0 in images.shape:
        return f"there is no image in an array of shape {images.shape}"
    for name, array in (("labels", labels), ("indices", indices)):
        if array.dtype != np.int64 or array.shape != images.shape[:1]:
            return f"{name} must be int64 of shape ({len(images)},), not {array.dtype} of shape {array.shape}"
    if classes.dtype.kind != "U" or classes.ndim != 1:
        return f"classes must be a list of names, not {classes.dtype} of shape {classes.shape}"
    if labels.min() < 0 or labels.max() >= len(classes):
        return f"labels run from {labels.min()} to {labels.max()}, but there are {len(classes)} classes"
    return None


def check_images(x: Tensor, channels: int | None = None, size: int | tuple[int, int] | None = None) -> None:
    """Raise UserError unless `x` is a batch of images: floating point (N, C, H, W), N > 0, every value in [0, 1].

    channels: the C expected; size: the side, or (height, width), expected, in pixels; None accepts any.
    Values may leave the range by 1e-6. NaN and infinity are refused.
    """
    if x.ndim != 4:
        raise UserError(f"images must have four dimensions (N, C, H, W), not shape {tuple(x.shape)}; reshape the batch")
    if x.numel() == 0:
        raise UserError(f"there is no image in a batch of shape {tuple(x.shape)}; give at least one")
    expected = (size, size) if isinstance(size, int) else size
    if channels is not None and x.shape[1] != channels:
        raise UserError(f"images have {x.shape[1]} channels where {channels} are expected; use the matching data file")
    if expected is not None and tuple(x.shape[2:]) != tuple(expected):
        found, wanted = (f"{h}x{w}" for h, w in (tuple(x.shape[2:]), expected))
        raise UserError(f"images are {found} pixels (height x width) where {wanted} are expected; resize them")
    if not x.is_floating_point():
        raise UserError(f"images must be floating point in [0, 1], not {x.dtype}; divide bytes by 255")
    low, high = (value.item() for value in x.detach().aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # this way round NaN fails too
        raise UserError(
            f"image values must lie in [0, 1], not [{low:g}, {high:g}]; undo any normalisation, models hold their own"
        )
