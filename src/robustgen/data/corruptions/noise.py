"""Noise: Gaussian, shot and impulse, each value by itself."""

from __future__ import annotations

import numpy as np

from robustgen.data.corruptions.grids import Streams, normal, uniform

STD = (0.04, 0.06, 0.08, 0.09, 0.10)  # of Gaussian noise
PHOTONS = (500, 250, 100, 75, 50)  # counted on average where a value is 1
REPLACED = (0.01, 0.02, 0.03, 0.05, 0.07)  # share of values set to 0 or 1


def gaussian_noise(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Normal noise of one standard deviation everywhere: thermal noise of a sensor."""
    return x + STD[severity - 1] * normal(streams, x.shape[1:])


def shot_noise(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Poisson noise: the image counted in photons."""
    photons = PHOTONS[severity - 1]
    counts = [stream.poisson(photons * image) for stream, image in zip(streams, x, strict=True)]
    return np.stack(counts) / photons


def impulse_noise(x: np.ndarray, severity: int, streams: Streams) -> np.ndarray:
    """Salt and pepper in equal parts: values that a faulty element or bit replaces."""
    draw = uniform(streams, 0, 1, x.shape[1:])
    half = REPLACED[severity - 1] / 2
    return np.where(draw < half, 0, np.where(draw >= 1 - half, 1, x))
