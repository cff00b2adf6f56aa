"""The fifteen common corruptions of CIFAR-10-C (Hendrycks & Dietterich 2019, ICLR) at their published parameters.

Each draws from one random stream an image, so an image's corruption does not depend on the others made with it.
The image is rounded to bytes at the end, where the published files are truncated.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from robustgen.data.corruptions import blur, digital, noise, weather
from robustgen.data.corruptions.grids import Corruption
from robustgen.errors import UserError
from robustgen.seeding import derive

__all__ = ["CORRUPTIONS", "GROUPS", "SEVERITIES", "Corruption", "corrupt"]

GROUPS = ("noise", "blur", "weather", "digital")
SEVERITIES = (1, 2, 3, 4, 5)
CORRUPTIONS: dict[str, tuple[str, Corruption]] = {  # names are those of the published files
    "gaussian_noise": ("noise", noise.gaussian_noise),
    "shot_noise": ("noise", noise.shot_noise),
    "impulse_noise": ("noise", noise.impulse_noise),
    "defocus_blur": ("blur", blur.defocus_blur),
    "glass_blur": ("blur", blur.glass_blur),
    "motion_blur": ("blur", blur.motion_blur),
    "zoom_blur": ("blur", blur.zoom_blur),
    "snow": ("weather", weather.snow),
    "frost": ("weather", weather.frost),
    "fog": ("weather", weather.fog),
    "brightness": ("weather", weather.brightness),
    "contrast": ("digital", digital.contrast),
    "elastic_transform": ("digital", digital.elastic_transform),
    "pixelate": ("digital", digital.pixelate),
    "jpeg_compression": ("digital", digital.jpeg_compression),
}
SMALLEST = 8  # pixels; on a smaller side most parameters stand for less than nothing


def corrupt(images: np.ndarray, name: str, severity: int, seed: int, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Corrupted images, uint8 of the shape of `images`: uint8 (N, C, S, S), C 1 or 3, S at least 8.

    name: a key of CORRUPTIONS. severity: 1 to 5. indices (N,): the images' positions in their data set, which with
    `seed` name their random streams. Raises UserError for anything else.
    """
    _check(images, name, severity, indices)
    streams = [np.random.default_rng(derive(seed, name, severity, int(index))) for index in indices]
    _, function = CORRUPTIONS[name]
    found = function(images / 255, severity, streams)
    whole: np.ndarray = np.rint(found.clip(0, 1) * 255).astype(np.uint8)
    return whole


def _check(images: np.ndarray, name: str, severity: int, indices: Sequence[int] | np.ndarray) -> None:
    if name not in CORRUPTIONS:
        near = difflib.get_close_matches(name, CORRUPTIONS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown corruption {name!r}; {hint}known: {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise UserError(f"severity is {severity}; give 1 (mild) to 5 (strong)")
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[1] not in (1, 3) or shape[2] != shape[3]:
        wanted = "uint8 images (N, 1 or 3, S, S)"
        raise UserError(f"corruptions need {wanted}, not {images.dtype} of shape {shape}; fetch them with --size")
    if shape[0] == 0 or shape[2] < SMALLEST:
        raise UserError(f"corruptions need an image, of {SMALLEST} pixels a side, not shape {shape}; fetch them larger")
    if len(indices) != len(images):
        raise UserError(f"there are {len(indices)} indices for {len(images)} images; give one an image")
