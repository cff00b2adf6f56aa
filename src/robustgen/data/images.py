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
    Values may leave the range by 1e-6. NaN and infinity are refused, and so is what is no tensor.
    """
    check_form(x, channels, size)
    if x.numel() == 0:
        raise UserError(f"there is no image in a batch of shape {tuple(x.shape)}; give at least one")
    low, high = (value.item() for value in x.detach().aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # this way round NaN fails too
        raise UserError(
            f"image values must lie in [0, 1], not [{low:g}, {high:g}]; undo any normalisation, models hold their own"
        )


def check_form(x: Tensor, channels: int | None = None, size: int | tuple[int, int] | None = None) -> None:
    """As `check_images`, of any number and any values: what a sampler gives a network may leave [0, 1]."""
    _check_tensor(x, "images")
    if x.ndim != 4:
        raise UserError(f"images must have four dimensions (N, C, H, W), not shape {tuple(x.shape)}; reshape the batch")
    expected = (size, size) if isinstance(size, int) else size
    if channels is not None and x.shape[1] != channels:
        raise UserError(f"images have {x.shape[1]} channels where {channels} are expected; use the matching data file")
    if expected is not None and tuple(x.shape[2:]) != tuple(expected):
        found, wanted = (f"{h}x{w}" for h, w in (tuple(x.shape[2:]), expected))
        raise UserError(f"images are {found} pixels (height x width) where {wanted} are expected; resize them")
    if not x.is_floating_point():
        raise UserError(f"images must be floating point in [0, 1], not {x.dtype}; divide bytes by 255")


def check_labels(y: Tensor, n: int, classes: int | None = None) -> None:
    """Raise UserError unless `y` holds the labels of n images: whole numbers (n,), 0 or more, below `classes`.

    classes: how many there are; None where that is not known.
    """
    _check_tensor(y, "labels")
    # told by name: booleans are no floating point either, and torch has no test for whole numbers
    if not str(y.dtype).removeprefix("torch.").startswith(("int", "uint")):
        raise UserError(f"labels must be whole numbers, the classes, not {y.dtype}; convert them with .long()")
    if y.ndim != 1:
        raise UserError(f"labels must be one number for each image, not of shape {tuple(y.shape)}; give shape ({n},)")
    check_count(n, len(y), "label", "labels")
    if not n:
        return
    low, high = (int(value) for value in y.detach().aminmax())
    if low < 0:
        raise UserError(f"a label is {low}; classes are counted from 0")
    if classes is not None and high >= classes:
        raise UserError(f"a label is {high}, but there are {classes} classes; labels are 0 to {classes - 1}")


def check_count(n: int, count: int, one: str, many: str) -> None:
    """Raise UserError unless there are as many of something, `one` or `many` by name, as images."""
    if count != n:
        images, things = (
            f"{k} {name if k == 1 else names}" for k, name, names in ((n, "image", "images"), (count, one, many))
        )
        raise UserError(f"{images}, but {things}; give one for each")


def _check_tensor(value: object, name: str) -> None:
    """Raise UserError for what is no tensor, a numpy array for instance."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise UserError(f"{name} must be a torch tensor, not {type(value).__name__}; convert with torch.as_tensor")
