"""What was measured: accuracy of purified images, robustness under attack, sampling dynamics; and reading it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.errors import UserError
from robustgen.evaluation.statistics import Estimate, proportion
from robustgen.io import PathLike, load_arrays
from robustgen.papers.stochastic_security.words import NORMS, attack_words, blind_words, short_words
from robustgen.papers.words import pixels

GRID = ("langevin_steps", "norm", "eps", "draws", "verify")
PER_IMAGE = ("labels", "indices")
PER_POINT = ("natural_correct", "broken", "broken_step", "broken_restart", "checks")
PURIFICATION = (
    "steps",
    *PER_IMAGE,
    "natural_logits",
    "adversarial_logits",
    "natural_draws",
    "config",
)
SHARD = ("out", "offset", "images", "batch", "device", "threads")  # options that do not change an image's outcome


@dataclass(frozen=True)
class Study:
    """The arrays of one file that a stage wrote, and its options."""

    name: str
    arrays: dict[str, np.ndarray]

    @property
    def config(self) -> dict[str, Any]:
        return _config(self.arrays)


class OfImages(Study):
    """A study whose arrays run over test images (N,)."""

    @property
    def indices(self) -> np.ndarray:
        return self.arrays["indices"]

    @property
    def labels(self) -> np.ndarray:
        return self.arrays["labels"]


class Purification(OfImages):
    """Images purified before classification, attacked without regard to it."""

    @property
    def steps(self) -> set[int]:
        """The numbers of Langevin steps after which images were classified."""
        return set(self.arrays["steps"].tolist())

    @property
    def drawn_steps(self) -> int:
        """The number of Langevin steps behind `draws`."""
        return int(self.config["keep"])

    @property
    def draws(self) -> np.ndarray:
        """Logits (N, H, K) of the single draws of the natural images, after `drawn_steps`."""
        return self.arrays["natural_draws"]

    def correct(self, steps: int, *, attacked: bool) -> np.ndarray:
        """Which images are classified right after `steps` Langevin steps; 0 is the classifier alone."""
        known = self.arrays["steps"].tolist()
        if steps not in known:
            raise UserError(
                f"purification study {self.name!r} has no images after {steps} Langevin steps (it has "
                f"{', '.join(map(str, known))}); add {steps} to the steps of its purify run"
            )
        logits = self.arrays["adversarial_logits" if attacked else "natural_logits"][known.index(steps)]
        return np.asarray(logits.argmax(1) == self.labels)

    def method(self, steps: int, *, attacked: bool) -> str:
        """How an accuracy after `steps` Langevin steps was measured, in words."""
        return blind_words(self.config, steps, draws=self.draws.shape[1], attacked=attacked)


class Defense(OfImages):
    """A defence under Algorithm 1: G grid points (steps, norm, eps, H_adv, H_def), N images."""

    @property
    def points(self) -> int:
        return len(self.arrays["eps"])

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

    def values(self, name: str, **fixed: object) -> list[Any]:
        """The values that the grid option `name` takes, ascending, among the points with the options `fixed`."""
        found: list[Any] = np.unique(self.arrays[name][self._matching(fixed)]).tolist()
        return found

    def has(self, **fixed: object) -> bool:
        return bool(self._matching(fixed).any())

    def point(self, **fixed: object) -> int:
        """The grid point with the options `fixed`; of several, the one with most H_def, then H_adv, then steps."""
        found = np.flatnonzero(self._matching(fixed))
        if not len(found):
            wanted = ", ".join(f"{name} {value}" for name, value in fixed.items())
            there = "; ".join(f"{name} {', '.join(map(str, self.values(name)))}" for name in fixed)
            raise UserError(
                f"defence study {self.name!r} has no grid point with {wanted} (it has {there}); add it to its options"
            )
        order = ("verify", "draws", "langevin_steps")
        return int(max(found, key=lambda g: tuple(int(self.arrays[name][g]) for name in order)))

    def _matching(self, fixed: dict[str, object]) -> np.ndarray:
        chosen: np.ndarray = np.ones(self.points, dtype=bool)
        for name, value in fixed.items():
            column = self.arrays[name]
            same = np.isclose(column, float(str(value)), rtol=1e-6) if name == "eps" else column == value
            chosen &= np.asarray(same)
        return chosen

    def method(self, point: int) -> str:
        """The defence and the attack of a grid point in words."""
        return attack_words(self.config, self._options(point))

    def settings(self, points: Sequence[int]) -> str:
        """What these grid points have in common, in one short line, and the number of images."""
        return f"{short_words(self.config, [self._options(point) for point in points])}, n {len(self.labels)}"

    def _options(self, point: int) -> dict[str, Any]:
        return {name: self.arrays[name][point].item() for name in GRID}


class Dynamics(Study):
    """Samples, energies, exponents, distances and running times of the energy-based models."""

    def has(self, *names: str) -> bool:
        return all(name in self.arrays for name in names)

    def exponents(self) -> dict[str, np.ndarray]:
        """Lyapunov exponents (E, chains) by the separation they were measured at, the reported one first."""
        if not self.has("lyapunov_distances", "lyapunov_by_distance"):
            return {"": self["lyapunov"]}
        names = [f"separation {distance:g} τ√D" for distance in self["lyapunov_distances"]]
        return dict(zip(names, self["lyapunov_by_distance"], strict=True))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything measured at one scale; None where the scale does without."""

    dataset: str  # as people write it
    scale: str
    short: int  # Langevin steps of a short run
    long: int  # and of a long one
    ours: Purification | None = None  # convergent EBM
    twin: Purification | None = None  # non-convergent EBM
    igebm: Purification | None = None
    jem: Purification | None = None
    replicates: Purification | None = None  # convergent EBM, many draws of few images
    main: Defense | None = None  # the attack of Table 2
    steps_ours: Defense | None = None  # sweep over Langevin steps
    steps_twin: Defense | None = None
    linf: Defense | None = None  # sweeps over the radius
    l2: Defense | None = None
    at_linf: Defense | None = None  # classifiers adversarially trained, without purification
    at_l2: Defense | None = None
    attack_steps: Defense | None = None  # a long attack
    draws: Defense | None = None  # sweep over H_adv and H_def
    full_gradient: Defense | None = None
    others: tuple[tuple[str, Defense, Defense], ...] = ()  # data set, ours, adversarially trained: Table 3
    dynamics: Dynamics | None = None

    @property
    def drawn(self) -> Purification | None:
        """The study with the most draws of an image."""
        return self.replicates or self.ours

    @property
    def control(self) -> tuple[Defense, int] | None:
        """The study and grid point of the attack at radius 0: that of Table 2, else that of the sweep over L∞ radii."""
        wanted = {"norm": "linf", "eps": 0.0, "langevin_steps": self.long}
        for study in (self.main, self.linf):
            if study is not None and study.has(**wanted):
                return study, study.point(**wanted)
        return None

    @property
    def eps(self) -> float:
        """The radius of Table 2, L∞ in [0, 1]: the only one of the sweep over Langevin steps, or of Table 2's study."""
        studies = [study for study in (self.steps_ours, self.main) if study is not None]
        found = [[eps for eps in study.values("eps", norm="linf") if eps > 0] for study in studies]
        for radii in found:
            if len(radii) == 1:
                return float(radii[0])
        if not studies:
            raise UserError("no defence study says the tables' radius; name one with --main or --steps-ours")
        raise UserError(
            f"defence study {studies[0].name!r} must hold exactly one positive L∞ radius, that of the tables, not "
            f"{', '.join(map(pixels, found[0])) or 'none'}; other radii belong to the sweeps"
        )


def load_purification(folder: PathLike, name: str) -> Purification:
    """The study `name` of a folder of purification files; UserError where it is missing or incomplete."""
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path, *PURIFICATION)
    steps, images = len(arrays["steps"]), len(arrays["labels"])
    for logits in ("natural_logits", "adversarial_logits"):
        _same_shape(path, logits, arrays[logits].shape[:2], (steps, images))
    _same_shape(path, "natural_draws", arrays["natural_draws"].shape[:1], (images,))
    _finite(path, arrays)
    return Purification(name, arrays)


def load_defense(folder: PathLike, name: str) -> Defense:
    """The study `name` of a folder of defence files, its shards `<name>.<nnn>.npz` put together by image index.

    UserError where it is missing, incomplete, or its shards overlap or belong to different evaluations.
    """
    whole = Path(folder) / f"{name}.npz"
    parts = sorted(path for path in whole.parent.glob(f"{name}.*.npz") if path.name[len(name) + 1 : -4].isdigit())
    if whole.exists() and parts:
        raise UserError(f"{whole} stands beside its own shards ({parts[0].name}, ...); delete what is out of date")
    return Defense(name, _merged([(path, _defense_arrays(path)) for path in parts or [whole]]))


def load_dynamics(folder: PathLike, name: str) -> Dynamics:
    """The study `name` of a folder of dynamics files. Which arrays it holds depends on what was asked for."""
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path)
    _finite(path, arrays)
    return Dynamics(name, arrays)


def _defense_arrays(path: Path) -> dict[str, np.ndarray]:
    arrays = load_arrays(path, *GRID, *PER_IMAGE, *PER_POINT, "config")  # the images themselves are not shown
    grid, images = len(arrays["eps"]), len(arrays["labels"])
    for name in GRID:
        _same_shape(path, name, arrays[name].shape, (grid,))
    for name in PER_POINT:
        _same_shape(path, name, arrays[name].shape, (grid, images))
    unknown = set(arrays["norm"].tolist()) - set(NORMS)
    if unknown:
        raise UserError(f"{path}: norm {', '.join(sorted(unknown))} is none of {', '.join(NORMS)}; make the file again")
    return arrays


def _merged(shards: list[tuple[Path, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    (first, start), *others = shards
    for path, arrays in others:
        for name in GRID:
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
    merged = {name: start[name] for name in (*GRID, "config")}
    for name in (*PER_IMAGE, *PER_POINT):
        merged[name] = np.concatenate([arrays[name] for _, arrays in shards], axis=-1)[..., order]
    return merged


def _shared_options(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {key: value for key, value in _config(arrays).items() if key not in SHARD}


def shared(a: OfImages, b: OfImages) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a and rows of b that hold the same images, in one order; UserError where there are none."""
    _, rows_a, rows_b = np.intersect1d(a.indices, b.indices, return_indices=True)
    if not len(rows_a):
        raise UserError(f"studies {a.name!r} and {b.name!r} share no image; evaluate both on the same ones")
    if not np.array_equal(a.labels[rows_a], b.labels[rows_b]):
        raise UserError(f"studies {a.name!r} and {b.name!r} give one image different labels; use one data file")
    return rows_a, rows_b


def accuracy(right: np.ndarray) -> Estimate:
    """The share of images (N,) that are right, with its exact interval."""
    return proportion(int(right.sum()), len(right))


def _config(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(str(arrays["config"]))
    return options


def _same_shape(path: Path, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise UserError(f"{path}: {name} has shape {shape} where {wanted} is needed; delete the file and make it again")


def _finite(path: Path, arrays: dict[str, np.ndarray]) -> None:
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UserError(f"{path}: {name} holds numbers that are not finite; a run diverged, find which and why")
