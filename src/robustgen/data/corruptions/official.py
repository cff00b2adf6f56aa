"""CIFAR-10-C's published files: read where they are, compared with the images they were made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustgen.data import transport
from robustgen.data.corruptions import CORRUPTIONS, SEVERITIES
from robustgen.errors import UserError

FOLDER = "CIFAR-10-C"  # in the mirror: <corruption>.npy and labels.npy
COUNT = 10000  # test images of CIFAR-10; a file holds them once a severity, mildest first
SHAPE = (3, 32, 32)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def is_cifar10(shape: tuple[int, ...], classes: tuple[str, ...]) -> bool:
    """Whether images of this shape (C, H, W) and these classes are CIFAR-10's, as they were published."""
    return shape == SHAPE and classes == CLASSES


def folder() -> Path | None:
    """CIFAR-10-C's folder in the mirror; None without a mirror folder, and where that does not hold it."""
    place = transport.mirror()
    return place / FOLDER if isinstance(place, Path) and (place / FOLDER).is_dir() else None


def read(root: Path, labels: np.ndarray, indices: np.ndarray, name: str) -> np.ndarray:
    """The images of one corruption at all severities: uint8 (5, N, 3, 32, 32), from the folder `root`.

    indices (N,): positions in CIFAR-10's official test set; labels (N,): what they are there. Raises UserError where
    a file is missing, damaged or of another shape, and where its labels are not these.
    """
    if name not in CORRUPTIONS:
        raise UserError(f"unknown corruption {name!r}; known: {', '.join(CORRUPTIONS)}")
    rows = len(SEVERITIES) * COUNT
    if len(indices) and not 0 <= indices.min() <= indices.max() < COUNT:
        raise UserError(f"{root}: images {indices.min()} to {indices.max()} are asked for, but CIFAR-10 has {COUNT}")
    published = _array(root / "labels.npy", (rows,)).reshape(len(SEVERITIES), COUNT)
    wrong = int((published[:, indices] != labels).any(0).sum())
    if wrong:
        raise UserError(
            f"{root / 'labels.npy'} differs from the data file for {wrong} of {len(labels)} test images; "
            "give CIFAR-10 as `robustgen fetch cifar10` writes it, or generate the corruptions"
        )
    images = _array(root / f"{name}.npy", (rows, *SHAPE[1:], SHAPE[0])).reshape(len(SEVERITIES), COUNT, 32, 32, 3)
    return np.ascontiguousarray(images[:, indices].transpose(0, 1, 4, 2, 3))


def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array in an npy file, not in memory yet. Nothing is unpickled."""
    if not path.is_file():
        raise UserError(f"{path} is missing; copy all files of CIFAR-10-C, or generate the corruptions")
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("an archive of arrays")
    except (ValueError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a readable npy file ({reason}); copy it to the mirror again") from error
    if found.dtype != np.uint8 or found.shape != shape:
        raise UserError(
            f"{path} holds {found.dtype} of shape {found.shape}, not uint8 of shape {shape}; copy CIFAR-10-C again"
        )
    return found
