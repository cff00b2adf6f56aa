"""Weather: snow, frost, fog, brightness."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from robustgen.data.corruptions.blur import smeared
from robustgen.data.corruptions.grids import GRID, Streams, normal, resized, uniform, zoomed

SNOW = (  # flakes: mean and standard deviation of the noise, magnification, threshold; radius and σ of their fall in
    # pixels; share of the image that is not whitened
    (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
FALL = (-135.0, -45.0)  # degrees, the directions in which flakes fall
FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))  # weights of the image and of the ice
FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))  # thickness, decay of detail from coarse to fine
BRIGHTER = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to the value of HSV
LUMA = np.array([0.299, 0.587, 0.114])

# Ice as the published photographs of frost have it, over pieces of 32x32 pixels; low and high of uniform draws.
ICE_LEVEL = (0.45, 0.82)  # mean grey level
ICE_CONTRAST = (0.05, 0.14)  # standard deviation of grey levels
ICE_TINT = (0.02, 0.12)  # by how much red stays below green; blue exceeds it by half as much
ICE_DECAY = 1.05  # of the cloud's detail from coarse to fine
CRYSTALS = 24  # in a picture
FINE = 4  # fine pixels to a side of one, in drawing them


def brightness(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """The value of HSV raised, hue and saturation kept; one channel is its own value."""
    del streams
    value: np.ndarray = x.max(1, keepdims=True)
    raised = np.minimum(value + BRIGHTER[severity - 1], 1)
    black = value == 0
    return np.where(black, raised, x * (raised / np.where(black, 1, value)))


def fog(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """A cloud added, and the whole scaled back to the image's largest value."""
    thickness, decay = FOG[severity - 1]
    cloud = resized(plasma(uniform(streams, -1, 1, (GRID, GRID)), decay), x.shape[-1])[:, None]
    top: np.ndarray = x.max((1, 2, 3), keepdims=True)
    return (x + thickness * cloud) * (top / (top + thickness))


def plasma(draws: np.ndarray, decay: float) -> np.ndarray:
    """Clouds (N, M, M) in [0, 1] by the diamond-square algorithm on a torus, M a power of two.

    `draws` (N, M, M) from U[-1, 1) displace each point; displacements shrink by `decay` squared from scale to scale.
    """
    side = draws.shape[-1]
    height = np.zeros_like(draws)
    step, size = side, 1.0
    while step >= 2:
        half = step // 2
        corner = height[:, ::step, ::step]
        pairs = corner + np.roll(corner, -1, 1)
        centre = (pairs + np.roll(pairs, -1, 2)) / 4
        height[:, half::step, half::step] = centre + size * draws[:, half::step, half::step]
        centre = height[:, half::step, half::step]
        down = (centre + np.roll(centre, 1, 1) + corner + np.roll(corner, -1, 2)) / 4
        across = (centre + np.roll(centre, 1, 2) + corner + np.roll(corner, -1, 1)) / 4
        height[:, ::step, half::step] = down + size * draws[:, ::step, half::step]
        height[:, half::step, ::step] = across + size * draws[:, half::step, ::step]
        step, size = half, size / decay**2
    height -= height.min((1, 2), keepdims=True)
    height /= height.max((1, 2), keepdims=True)
    return height


def snow(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Flakes blurred by their fall, over a whitened image."""
    mean, std, size, threshold, radius, sigma, kept = SNOW[severity - 1]
    flakes = zoomed(mean + std * normal(streams, (1, GRID, GRID)), size)
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    flakes = resized(smeared(flakes, radius, sigma, uniform(streams, *FALL)), x.shape[-1])
    white = np.maximum(x, 1.5 * grey(x) + 0.5)
    snowy: np.ndarray = kept * x + (1 - kept) * white + flakes + np.rot90(flakes, 2, (2, 3))
    return snowy


def grey(x: np.ndarray) -> np.ndarray:
    """The luma of images (N, C, H, W), (N, 1, H, W)."""
    if x.shape[1] == 1:
        return x
    luma: np.ndarray = np.einsum("nchw,c->nhw", x, LUMA)[:, None]
    return luma


def frost(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Ice laid over the image.

    The published files take it from photographs, which are not ours to pass on. Here it is drawn: crystals and a
    cloud, with the mean, contrast and tint of those photographs, other ice for each image.
    """
    share, weight = FROST[severity - 1]
    ice = np.stack([_ice(stream, x.shape[1]) for stream in streams])
    return share * x + weight * resized(ice, x.shape[-1])


def _ice(stream: np.random.Generator, channels: int) -> np.ndarray:
    """One picture of ice, (channels, 32, 32) in [0, 1]."""
    cloud = plasma(stream.uniform(-1, 1, (1, GRID, GRID)), ICE_DECAY)[0]
    texture = _standard(_standard(cloud) + 1.5 * _standard(_crystals(stream)))
    level, depth, tint = (stream.uniform(*bounds) for bounds in (ICE_LEVEL, ICE_CONTRAST, ICE_TINT))
    shade = np.array([-tint, 0.0, tint / 2] if channels == 3 else [0.0])
    ice: np.ndarray = level + depth * texture + shade[:, None, None]
    return ice.clip(0, 1)


def _standard(field: np.ndarray) -> np.ndarray:
    standard: np.ndarray = (field - field.mean()) / field.std()
    return standard


def _crystals(stream: np.random.Generator) -> np.ndarray:
    """Needles of ice with twigs at sixty degrees, (32, 32)."""
    side = GRID * FINE
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for _ in range(CRYSTALS):
        x, y = stream.uniform(0, side, 2)
        turn, length = stream.uniform(0, 2 * math.pi), stream.uniform(0.1, 0.35) * side
        shine = int(stream.integers(120, 256))
        _stroke(pen, x, y, turn, length, shine)
        for along in np.arange(0.15, 1, 0.2):
            root = x + along * length * math.cos(turn), y + along * length * math.sin(turn)
            for side_turn in (-math.pi / 3, math.pi / 3):
                _stroke(pen, *root, turn + side_turn, 0.4 * (1 - along) * length, shine)
    return np.asarray(canvas.reduce(FINE), dtype=np.float64) / 255


def _stroke(pen: ImageDraw.ImageDraw, x: float, y: float, turn: float, length: float, shine: int) -> None:
    pen.line((x, y, x + length * math.cos(turn), y + length * math.sin(turn)), fill=shine, width=2)
