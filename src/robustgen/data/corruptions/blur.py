"""Blur: out of focus, through frosted glass, in motion, and while zooming."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from robustgen.data.corruptions.grids import Streams, placed, scale_of, uniform, weights, zoomed

DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))  # disc's radius, σ that smooths the disc; pixels
GLASS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))  # σ before and after in pixels, rounds of displacement
MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))  # radius, σ along the way; pixels
# How many factors 1.00, 1.01, 1.02, ... are averaged. The published ranges exclude 1.06, 1.11, 1.16, ..., but in
# floating point the first two of these come out just below their bound and are in.
ZOOM = (7, 12, 16, 21, 26)
TURN = (-45.0, 45.0)  # degrees, the directions of motion
NEGLIGIBLE = 1e-4  # weights below this share of the largest are left out


def defocus_blur(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Convolution with a disc."""
    del streams
    kernel = disc(*DEFOCUS[severity - 1], scale_of(x))
    found: np.ndarray = ndimage.convolve(x, kernel[None, None], mode="mirror")
    return found


def disc(radius: float, smoothing: float, scale: float) -> np.ndarray:
    """The blurring kernel of pixel centres within `radius`, smoothed over 3x3 pixels by a Gaussian of σ `smoothing`.

    It is made for 32x32 images; `scale` other than 1 interpolates it to another grid of pixels. It sums to 1.
    """
    reach = int(radius) + 1
    centres = np.arange(-reach, reach + 1)
    inside = (np.add.outer(centres**2, centres**2) <= radius**2).astype(float)
    profile = np.exp(-(np.arange(-1, 2) ** 2) / (2 * smoothing**2))
    kernel: np.ndarray = ndimage.convolve(inside, np.outer(profile, profile), mode="constant")
    if scale != 1:
        wide = int(np.ceil(reach * scale + max(1.0, scale)))
        onto = weights(centres * scale + wide, 2 * wide + 1, max(1.0, scale))
        kernel = onto.T @ kernel @ onto
    kernel /= kernel.sum()
    return kernel


def glass_blur(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Pixels displaced at random between two faint Gaussian blurs.

    Each takes the value of one up to a pixel above and to the left. That is what the published files hold: the swap
    they were made by overwrites one of its two pixels before reading it. On images below 32 pixels, where one pixel
    is a longer way, only a share S/32 of the pixels is displaced.
    """
    sigma, rounds = GLASS[severity - 1]
    scale, side = scale_of(x), x.shape[-1]
    reach = max(1, round(scale))
    blur = (0, 0, sigma * scale, sigma * scale)
    x = ndimage.gaussian_filter(x, blur, mode="nearest")
    place = np.arange(side)
    inner = (place > reach) & (place <= side - reach)
    for _ in range(rounds):
        draws = [(s.integers(-reach, reach, (2, side, side)), s.random((side, side))) for s in streams]
        moves = np.stack([move for move, _ in draws])
        moves *= (np.outer(inner, inner) & (np.stack([chance for _, chance in draws]) < scale))[:, None]
        x = taken(x, place[:, None] + moves[:, 0], place + moves[:, 1])
    found: np.ndarray = ndimage.gaussian_filter(x, blur, mode="nearest")
    return found


def taken(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) whose pixels are those of x at whole `rows` and `columns` (N, H, W)."""
    each = np.arange(len(x))[:, None, None]
    return np.moveaxis(x[each, :, rows, columns], -1, 1)


def motion_blur(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Motion along a straight line, fading out."""
    radius, sigma = MOTION[severity - 1]
    return smeared(x, radius, sigma, uniform(streams, *TURN))


def smeared(x: np.ndarray, radius: float, sigma: float, degrees: np.ndarray) -> np.ndarray:
    """Square images (N, C, S, S) averaged along one direction each, `degrees` (N,), with the weights of half a
    Gaussian of σ `sigma`, cut after 2 `radius` (pixels of a 32x32 image). Beyond the border its values go on.
    """
    scale, side = scale_of(x), x.shape[-1]
    spacing = min(1.0, scale)
    way = np.arange(int(np.ceil(2 * radius * scale / spacing)) + 1) * spacing
    profile = np.exp(-(way**2) / (2 * (sigma * scale) ** 2))
    way, profile = way[profile > NEGLIGIBLE], profile[profile > NEGLIGIBLE]
    turn = np.deg2rad(degrees)[:, None]
    place, total = np.arange(side), np.zeros_like(x)
    for distance, weight in zip(way, profile / profile.sum(), strict=True):
        rows = weights(place + distance * np.sin(turn), side)
        columns = weights(place + distance * np.cos(turn), side)
        total += weight * placed(rows[:, None], x, columns[:, None])
    return total


def zoom_blur(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """The mean of the image and ever larger magnifications of its middle: a camera that nears an object."""
    del streams
    count = ZOOM[severity - 1]
    total: np.ndarray = x + sum(zoomed(x, 1 + step / 100) for step in range(count))
    return total / (count + 1)
