"""Studies: what a stage measured, read from its file; grids of attacks; and images that two studies share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from robustgen.errors import UserError
from robustgen.evaluation.statistics import Estimate, proportion
from robustgen.io import PathLike, load_arrays
from robustgen.papers.words import NORMS

PER_IMAGE = ("labels", "indices")
PER_POINT = ("natural_correct", "broken", "broken_step", "broken_restart", "checks")
SHARD = ("out", "offset", "images", "batch", "device", "threads")  # options that do not change an image's outcome


@dataclass(frozen=True)
class Study:
    """The arrays of one file that a stage wrote, and its options."""

    name: str
    arrays: dict[str, np.ndarray]

    @property
    def config(self) -> dict[str, Any]:
        return config_of(self.arrays)


class OfImages(Study):
    """A study whose arrays run over test images (N,)."""

    @property
    def indices(self) -> np.ndarray:
        return self.arrays["indices"]

    @property
    def labels(self) -> np.ndarray:
        return self.arrays["labels"]


class Pointed(OfImages):
    """A study of images at G grid points, and the options (G,) that tell points apart."""

    COLUMNS: ClassVar[tuple[str, ...]]  # those options
    ORDER: ClassVar[tuple[str, ...]]  # of several points that fit, the one with most of these is taken
    CALLED: ClassVar[tuple[str, str]]  # a study and a point, in errors

    @property
    def points(self) -> int:
        """G."""
        return len(self.arrays["eps"])

    def values(self, name: str, **fixed: object) -> list[Any]:
        """The values that the grid option `name` takes, ascending, among the points with the options `fixed`."""
        found: list[Any] = np.unique(self.arrays[name][self.matching(**fixed)]).tolist()
        return found

    def has(self, **fixed: object) -> bool:
        """Whether there is a grid point with the options `fixed`."""
        return bool(self.matching(**fixed))

    def matching(self, **fixed: object) -> list[int]:
        """The grid points with the options `fixed`, in the order of the file."""
        chosen: np.ndarray = np.ones(self.points, dtype=bool)
        for name, value in fixed.items():
            column = self.arrays[name]
            same = np.isclose(column, float(str(value)), rtol=1e-6) if name == "eps" else column == value
            chosen &= np.asarray(same)
        found: list[int] = np.flatnonzero(chosen).tolist()
        return found

    def point(self, **fixed: object) -> int:
        """The grid point with the options `fixed`; of several, the first by ORDER. UserError where there is none."""
        found = self.matching(**fixed)
        if not found:
            study, point = self.CALLED
            wanted = ", ".join(f"{name} {value}" for name, value in fixed.items())
            there = "; ".join(f"{name} {', '.join(map(str, self.values(name)))}" for name in fixed)
            raise UserError(
                f"{study} {self.name!r} has no {point} with {wanted} (it has {there}); add it to its options"
            )
        return max(found, key=lambda g: tuple(int(self.arrays[name][g]) for name in self.ORDER))

    def options(self, point: int) -> dict[str, Any]:
        """What tells a grid point from the others."""
        return {name: self.arrays[name][point].item() for name in self.COLUMNS}


class Grid(Pointed, ABC):
    """A defence attacked at G grid points: outcomes (G, N) of N images."""

    CALLED = ("defence study", "grid point")

    def natural(self, point: int) -> np.ndarray:
        """Which natural images the large-sample prediction has right (N,)."""
        return np.asarray(self.arrays["natural_correct"][point], dtype=bool)

    def broken(self, point: int) -> np.ndarray:
        """Which images the attack broke, confirmed by the large sample (N,)."""
        return np.asarray(self.arrays["broken"][point], dtype=bool)

    def robust(self, point: int) -> np.ndarray:
        """Which images are right and stay right (N,): d_m of Algorithm 1."""
        return np.asarray(self.natural(point) & ~self.broken(point))

    def updates_to_break(self, point: int) -> np.ndarray:
        """Attack updates made until the break was confirmed (N,), restarts one after the other; −1 where unbroken."""
        step, restart = (self.arrays[name][point] for name in ("broken_step", "broken_restart"))
        return np.asarray(np.where(self.broken(point), restart * self.attack_steps + step, -1))

    @property
    def attack_steps(self) -> int:
        """N, the attack's updates per restart."""
        return int(self.config["steps"])

    @property
    def restarts(self) -> int:
        return int(self.config["restarts"])

    @abstractmethod
    def method(self, point: int) -> str:
        """The defence and the attack of a grid point in words."""


@dataclass(frozen=True)
class Attacked:
    """A defence under one attack: a grid point of a study."""

    study: Grid
    point: int

    @property
    def natural(self) -> np.ndarray:
        return self.study.natural(self.point)

    @property
    def robust(self) -> np.ndarray:
        return self.study.robust(self.point)

    @property
    def method(self) -> str:
        return self.study.method(self.point)


def load_grid(folder: PathLike, name: str, columns: Sequence[str], facts: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of the study `name` of a folder, its shards `<name>.<nnn>.npz` put together by image index.

    `columns` (G,) are the options of the grid, `facts` further arrays that hold for all images.
    UserError where it is missing, incomplete, or its shards overlap or belong to different evaluations.
    """
    shards = [(path, _grid_arrays(path, columns, facts)) for path in files(folder, name)]
    return merged(shards, (*columns, *facts), dict.fromkeys((*PER_IMAGE, *PER_POINT), -1))


def files(folder: PathLike, name: str) -> list[Path]:
    """The file of the study `name` of a folder, or its shards `<name>.<nnn>.npz`; UserError where both are there."""
    whole = Path(folder) / f"{name}.npz"
    stem = whole.name.removesuffix("npz")  # the name may begin with folders
    parts = sorted(path for path in whole.parent.glob(f"{stem}*.npz") if path.name[len(stem) : -4].isdigit())
    if whole.exists() and parts:
        raise UserError(f"{whole} stands beside its own shards ({parts[0].name}, ...); delete what is out of date")
    return parts or [whole]


def _grid_arrays(path: Path, columns: Sequence[str], facts: Sequence[str]) -> dict[str, np.ndarray]:
    arrays = load_arrays(
        path, *columns, *facts, *PER_IMAGE, *PER_POINT, "config"
    )  # the images themselves are not shown
    grid, images = len(arrays["eps"]), len(arrays["labels"])
    for name in columns:
        same_shape(path, name, arrays[name].shape, (grid,))
    for name in PER_POINT:
        same_shape(path, name, arrays[name].shape, (grid, images))
    unknown = set(arrays["norm"].tolist()) - set(NORMS)
    if unknown:
        raise UserError(f"{path}: norm {', '.join(sorted(unknown))} is none of {', '.join(NORMS)}; make the file again")
    return arrays


def merged(
    shards: Sequence[tuple[Path, dict[str, np.ndarray]]], common: Sequence[str], per_image: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Shards put together by image index: arrays `common` to all of them, and those `per_image`, with their image axis.

    UserError where shards overlap or belong to different evaluations.
    """
    (first, start), *others = shards
    for path, arrays in others:
        for name in common:
            if not np.array_equal(arrays[name], start[name]):
                raise UserError(f"{path}: {name} differs from that of {first.name}; make all shards with one grid")
        here, there = _shared_options(arrays), _shared_options(start)
        differing = sorted(key for key in {*here, *there} if here.get(key) != there.get(key))
        if differing:
            raise UserError(f"{path}: option {differing[0]} differs from that of {first.name}; make the shards again")
    indices = np.concatenate([arrays["indices"] for _, arrays in shards])
    twice = sorted({int(index) for index in indices if (indices == index).sum() > 1})
    if twice:
        raise UserError(f"{first}: image {twice[0]} occurs twice among its shards; give each shard images of its own")
    order = np.argsort(indices)
    found = {name: start[name] for name in (*common, "config")}
    for name, axis in per_image.items():
        found[name] = np.concatenate([arrays[name] for _, arrays in shards], axis=axis).take(order, axis=axis)
    return found


def _shared_options(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {key: value for key, value in config_of(arrays).items() if key not in SHARD}


def shared(a: OfImages, b: OfImages) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a and rows of b that hold the same images, in one order; UserError where there are none."""
    rows_a, rows_b = common([a, b])
    return rows_a, rows_b


def common(studies: Sequence[OfImages]) -> list[np.ndarray]:
    """For each of the studies, at least one, its rows of the images that all hold, in one order.

    UserError where there are none, or where two studies label one image differently.
    """
    images = studies[0].indices
    for study in studies[1:]:
        images = np.intersect1d(images, study.indices)
    if not len(images):
        names = " and ".join(repr(name) for name in dict.fromkeys(study.name for study in studies))
        raise UserError(f"studies {names} share no image; evaluate both on the same ones")
    rows = [np.intersect1d(study.indices, images, return_indices=True)[1] for study in studies]
    for study, chosen in zip(studies, rows, strict=True):
        if not np.array_equal(study.labels[chosen], studies[0].labels[rows[0]]):
            raise UserError(
                f"studies {studies[0].name!r} and {study.name!r} give one image different labels; use one data file"
            )
    return rows


def accuracy(right: np.ndarray) -> Estimate:
    """The share of images (N,) that are right, with its exact interval."""
    return proportion(int(right.sum()), len(right))


def config_of(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The options that a stage wrote beside its arrays."""
    options: dict[str, Any] = json.loads(str(arrays["config"]))
    return options


def same_shape(path: Path, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """UserError where an array of a file has not the shape that the others ask for."""
    if shape != wanted:
        raise UserError(f"{path}: {name} has shape {shape} where {wanted} is needed; delete the file and make it again")


def finite(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """UserError where an array of a file holds NaN or infinite numbers."""
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UserError(f"{path}: {name} holds numbers that are not finite; a run diverged, find which and why")
