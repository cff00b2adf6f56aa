"""Digital: contrast, elastic deformation, fewer pixels, JPEG."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image
from scipy import ndimage

from robustgen.data.corruptions.grids import GRID, Streams, resized, scale_of, uniform

CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # share of the contrast that is left
ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
"""Strength and σ of the displacements, largest shift of the affine map's corners; all as shares of the image's side."""
PIXELS = (0.95, 0.9, 0.85, 0.75, 0.65)  # share of the side's pixels that is left
QUALITY = (80, 65, 58, 50, 40)  # of JPEG


def contrast(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Values drawn towards their channel's mean."""
    del streams
    mean: np.ndarray = x.mean((2, 3), keepdims=True)
    drawn: np.ndarray = mean + CONTRAST[severity - 1] * (x - mean)
    return drawn


def elastic_transform(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """A random affine map, then smooth random displacements."""
    strength, sigma, shift = ELASTIC[severity - 1]
    side = x.shape[-1]
    x = sampled(x, affine(uniform(streams, -shift * side, shift * side, (3, 2)), side), "mirror")
    if strength == 0:
        return x
    field = uniform(streams, -1, 1, (2, GRID, GRID))
    blur = (0, 0, sigma * GRID, sigma * GRID)
    field = strength * GRID * ndimage.gaussian_filter(field, blur, mode="reflect", truncate=3)
    return sampled(x, np.indices((side, side)) + scale_of(x) * resized(field, side), "reflect")


def affine(shifts: np.ndarray, side: int) -> np.ndarray:
    """Where the pixels of affinely mapped images come from, (N, 2, side, side) in rows and columns.

    The maps move three corners of the square within a third of the side from the centre by `shifts` (N, 3, 2) pixels.
    """
    centre, reach = side // 2, side // 3
    corners = centre + reach * np.array([(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0)])  # row, column
    moved = np.concatenate([corners + shifts, np.ones((len(shifts), 3, 1))], 2)
    back = np.linalg.solve(moved, np.broadcast_to(corners, shifts.shape))  # (N, 3, 2): [moved, 1] @ back = corners
    rows, columns = np.indices((side, side))
    here = np.stack([rows, columns, np.ones_like(rows)])
    found: np.ndarray = np.einsum("nkd,kij->ndij", back, here)
    return found


def sampled(x: np.ndarray, at: np.ndarray, mode: str) -> np.ndarray:
    """Images (N, C, H, W) interpolated linearly at rows and columns `at` (N, 2, H, W); `mode`: SciPy's, beyond them."""
    found = np.empty_like(x)
    for image, places, out in zip(x, at, found, strict=True):
        for channel, target in zip(image, out, strict=True):
            ndimage.map_coordinates(channel, places, target, order=1, mode=mode)
    return found


def pixelate(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Averaged over fewer, larger pixels."""
    del streams
    side = x.shape[-1]
    few = int(side * PIXELS[severity - 1])

    def coarse(image: Image.Image) -> Image.Image:
        return image.resize((few, few), Image.Resampling.BOX).resize((side, side), Image.Resampling.BOX)

    return np.stack([from_pillow(coarse(to_pillow(image))) for image in x])


def jpeg_compression(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Compressed and decoded; one channel as a grey image."""
    del streams

    def compressed(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=QUALITY[severity - 1])
        return Image.open(file)

    return np.stack([from_pillow(compressed(to_pillow(image))) for image in x])


def to_pillow(image: np.ndarray) -> Image.Image:
    """(C, H, W) in [0, 1] as a Pillow image of bytes, grey or RGB."""
    whole = np.rint(image * 255).astype(np.uint8)
    return Image.fromarray(whole[0] if len(whole) == 1 else np.ascontiguousarray(whole.transpose(1, 2, 0)))


def from_pillow(image: Image.Image) -> np.ndarray:
    """The inverse of `to_pillow`."""
    whole = np.asarray(image, dtype=np.float64) / 255
    return whole[None] if whole.ndim == 2 else whole.transpose(2, 0, 1)
