"""Pixels: decoding image files, resizing and padding, always to uint8 NCHW arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from robustgen.data.parts import Part
from robustgen.errors import UserError
from robustgen.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image


def render(
    part: Part,
    rows: np.ndarray,
    *,
    size: int | None,
    pad: int | None,
    crop: bool,
    label: str,
    centre: int | None = None,
) -> np.ndarray:
    """The images `rows` of a part as uint8 (len(rows), C, S, S), RGB for files.

    size: side in pixels after bilinear resizing (Pillow's, smoothing where it shrinks); None keeps the size.
    pad: side in pixels after zero padding, centred. Only one of the two may be given. centre: side of the middle
    square that is kept at the end, without resizing. crop: a frame that is not
    square is cut to its middle square before resizing, not squashed. Raises UserError for unreadable files,
    images of unequal size without `size`, and images larger than `pad` or smaller than `centre`.
    """
    if size is not None and pad is not None:
        raise UserError("--size and --pad exclude each other; --size resizes the image, --pad puts zeros around it")
    if isinstance(part.images, np.ndarray):
        images = part.images[rows]
        if size is not None and images.shape[2:] != (size, size):
            images = _stack(images, lambda image: _resized(_from_array(image), size, crop), label)
    else:
        boxes = [None] * len(rows) if part.boxes is None else part.boxes[rows].tolist()
        cuts = [_Cut(part.images[row], box) for row, box in zip(rows, boxes, strict=True)]
        images = _stack(cuts, lambda cut: _opened(cut, size, crop), label)
    images = images if pad is None else _padded(images, pad)
    return images if centre is None else _centre(images, centre)


class _Cut(NamedTuple):
    """An image file, and the box in it (left, top, right, bottom in pixels) that is the image; None: all of it."""

    file: Path
    box: list[int] | None


def _centre(images: np.ndarray, side: int) -> np.ndarray:
    height, width = images.shape[2:]
    if min(height, width) < side:
        raise UserError(f"--crop {side} is larger than the images ({width}x{height}); give --size or --pad first")
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, :, top : top + side, left : left + side]


def _stack(items: np.ndarray | list[_Cut], to_image: Callable[..., Image], label: str) -> np.ndarray:
    """Images made from `items`, as one array; an image that differs in size from the first is a UserError."""
    stack = np.empty(0, dtype=np.uint8)
    for number, item in enumerate(progress(items, total=len(items), label=label, unit="image")):
        array = np.asarray(to_image(item), dtype=np.uint8)
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        if number == 0:
            stack = np.empty((len(items), *array.shape), dtype=np.uint8)
        elif array.shape != stack.shape[1:]:
            raise UserError(
                f"the images differ in size ({item.file} is {array.shape[2]}x{array.shape[1]}); give --size PIXELS"
            )
        stack[number] = array
    return stack


def _opened(cut: _Cut, size: int | None, crop: bool) -> Image:
    from PIL import Image

    try:
        with Image.open(cut.file) as image:
            width, height = image.size
            left, top, right, bottom = cut.box or (0, 0, width, height)
            if right <= width and bottom <= height:
                return _resized(image.crop((left, top, right, bottom)).convert("RGB"), size, crop)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{cut.file} is not a readable image ({error}); replace or remove it") from error
    raise UserError(
        f"{cut.file} is {width}x{height} pixels, too small for {cut.box} of its table; unpack the data set again"
    )


def _from_array(array: np.ndarray) -> Image:
    from PIL import Image

    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def _resized(image: Image, size: int | None, crop: bool) -> Image:
    from PIL import Image, ImageOps

    if size is None or image.size == (size, size):
        return image
    if crop:
        return ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR)
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _padded(images: np.ndarray, side: int) -> np.ndarray:
    height, width = images.shape[2:]
    if max(height, width) > side:
        raise UserError(
            f"--pad {side} is smaller than the images ({width}x{height}); give --size {side} to shrink them"
        )
    top, left = (side - height) // 2, (side - width) // 2
    return np.pad(images, ((0, 0), (0, 0), (top, side - height - top), (left, side - width - left)))
