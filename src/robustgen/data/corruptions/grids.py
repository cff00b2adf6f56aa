"""What the corruptions share: types, linear interpolation as matrices, and fields drawn on the published grid.

CIFAR-10-C's parameters are lengths in pixels of 32x32 images. Images of side S take them times S/32; textures and
displacements are drawn on a 32x32 grid and resized. At 32 pixels neither changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Streams = Sequence[np.random.Generator]  # one an image
Corruption = Callable[[np.ndarray, int, Streams], np.ndarray]
"""images float64 (N, C, S, S) in [0, 1], severity 1..5, streams -> images of the same shape, clipped by the caller."""

GRID = 32  # side of the images that the published parameters are meant for


def scale_of(images: np.ndarray) -> float:
    """S / 32 of images (N, C, S, S)."""
    return float(images.shape[-1]) / GRID


def weights(at: np.ndarray, n: int, width: float = 1.0) -> np.ndarray:
    """Matrices (..., M, n) that interpolate n samples linearly at the positions `at` (..., M) in 0..n-1.

    Positions outside meet the outermost sample. width: half the base of the triangle in samples; more than 1 smooths.
    """
    distance = np.abs(np.clip(at, 0, n - 1)[..., None] - np.arange(n))
    near: np.ndarray = np.maximum(0, 1 - distance / width)
    near /= near.sum(-1, keepdims=True)
    return near


def placed(rows: np.ndarray, images: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Images (..., H, W) interpolated by `rows` (..., M, H) and `columns` (..., M', W), (..., M, M')."""
    found: np.ndarray = rows @ images @ columns.swapaxes(-1, -2)
    return found


def zoomed(images: np.ndarray, factor: float) -> np.ndarray:
    """The middle of square images (..., S, S), magnified by `factor` >= 1 to the whole frame."""
    side = images.shape[-1]
    middle = (side - 1) / 2
    around = weights((np.arange(side) - middle) / factor + middle, side)
    return placed(around, images, around)


def resized(fields: np.ndarray, side: int) -> np.ndarray:
    """Square fields (..., M, M) resized to (..., side, side) linearly, smoothing where they shrink."""
    held = fields.shape[-1]
    if held == side:
        return fields
    across = weights((np.arange(side) + 0.5) * held / side - 0.5, held, max(1.0, held / side))
    return placed(across, fields, across)


def uniform(streams: Streams, low: float, high: float, shape: tuple[int, ...] = ()) -> np.ndarray:
    """(N, *shape) numbers from U[low, high), row i from stream i."""
    return np.stack([stream.uniform(low, high, shape) for stream in streams])


def normal(streams: Streams, shape: tuple[int, ...]) -> np.ndarray:
    """(N, *shape) numbers from N(0, 1), row i from stream i."""
    return np.stack([stream.standard_normal(shape) for stream in streams])
