"""Test images under the fifteen common corruptions at five severities: CIFAR-10-C's files, or made from the data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from robustgen.data import load_split
from robustgen.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt, official
from robustgen.errors import UserError
from robustgen.io import load_arrays, save_arrays
from robustgen.progress import progress

CHUNK = 250  # images corrupted together


@dataclass(frozen=True, kw_only=True)
class Options:
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # corrupted images to write, npz
    images: int  # test images, the first of the split
    # official: CIFAR-10-C's files in the folder CIFAR-10-C of ROBUSTGEN_MIRROR; generated: made here from the data;
    # auto: official where the data are CIFAR-10 and the files are there
    source: Literal["auto", "generated", "official"] = "auto"
    seed: int = 0  # of the per-image random streams; not used with the official files


def run(options: Options) -> None:
    """Write the file `options.out`.

    images uint8 (15, 5, N, C, H, W), natural uint8 (N, C, H, W); corruptions, groups unicode (15,), severities int64
    (5,); labels, indices int64 (N,), indices being rows of the test split; source unicode, generated or official;
    config, the options as JSON.
    """
    natural, labels, places, classes = first_images(options)
    root = located(options, natural, classes)
    made = np.empty((len(CORRUPTIONS), len(SEVERITIES), *natural.shape), dtype=np.uint8)
    for row, name in enumerate(progress(CORRUPTIONS, total=len(CORRUPTIONS), label=options.out.stem, unit="kind")):
        if root is None:
            made[row] = generated(natural, name, options.seed, places)
        else:
            made[row] = official.read(root, labels, places, name)
    save_arrays(
        options.out,
        {
            "images": made,
            "natural": natural,
            "corruptions": np.array(list(CORRUPTIONS)),
            "groups": np.array([group for group, _ in CORRUPTIONS.values()]),
            "severities": np.array(SEVERITIES),
            "labels": labels,
            "indices": np.arange(len(labels)),
            "source": np.array("generated" if root is None else "official"),
            "config": np.array(json.dumps(asdict(options), sort_keys=True, default=str)),
        },
    )


def first_images(options: Options) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """The test images asked for: uint8 (N, C, H, W), labels and positions in the source (N,), the classes' names."""
    if options.images < 1:
        raise UserError(f"images is {options.images}; give at least 1")
    test = load_split(options.data, "test", limit=options.images)  # for its checks
    if len(test) < options.images:
        raise UserError(f"{options.data} holds {len(test)} test images, not {options.images}; lower images")
    natural = load_arrays(options.data, "test_images")["test_images"][: options.images]
    return natural, test.labels.numpy(), test.indices.numpy(), test.classes


def located(options: Options, natural: np.ndarray, classes: tuple[str, ...]) -> Path | None:
    """The folder of the official files, where they are to be read; None where the corruptions are made here.

    Raises UserError where the official files are asked for and cannot be had or do not fit.
    """
    if options.source == "generated":
        return None
    fits, root = official.is_cifar10(natural.shape[1:], classes), official.folder()
    if options.source == "auto":
        return root if fits else None
    if not fits:
        shape = "x".join(map(str, natural.shape[1:]))
        raise UserError(
            f"{options.data} holds images of {shape} with {len(classes)} classes, but CIFAR-10-C is made from CIFAR-10 "
            "as published; give source generated"
        )
    if root is None:
        raise UserError(
            f"CIFAR-10-C is not at hand; set ROBUSTGEN_MIRROR to a folder that holds {official.FOLDER}/labels.npy and "
            "its other files, or give source generated"
        )
    return root


def generated(natural: np.ndarray, name: str, seed: int, places: np.ndarray) -> np.ndarray:
    """One corruption of uint8 images (N, C, H, W) at all severities, (5, N, C, H, W); `places` (N,) name streams."""
    parts = [slice(first, first + CHUNK) for first in range(0, len(natural), CHUNK)]
    return np.stack(
        [
            np.concatenate([corrupt(natural[part], name, severity, seed, places[part]) for part in parts])
            for severity in SEVERITIES
        ]
    )
