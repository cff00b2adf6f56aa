"""What the stages measured of ADP: outcomes under attack, score norms, certificates, corruptions; and reading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustgen.errors import UserError
from robustgen.evaluation.smoothing import Certificates, certify, point_estimates, renyi
from robustgen.io import PathLike, load_arrays
from robustgen.papers.adp.words import ATTACKS, SOURCES, attack_words, defence_words, is_random
from robustgen.papers.studies import PER_IMAGE, Grid, OfImages, files, finite, load_grid, merged, same_shape

GRID = ("attack", "purification_steps", "norm", "eps", "eot")
GROUPS = ("noise", "blur", "weather", "digital")
COUNTS = ("selection_counts", "counts")  # of certification files
CORRUPTED = ("sigmas", "detection", "correct", "natural", "groups", "severities", "source", *PER_IMAGE, "config")
CERTIFICATES = ("certify", "point", "renyi")  # Cohen et al. with bounds; Eq. 19; Li et al.


class ScoreDefense(Grid):
    """ADP at grid points (attack, T, norm, eps, EOT draws), all of one injected noise."""

    COLUMNS = GRID
    ORDER = ("eot", "purification_steps")

    @property
    def sigma(self) -> float:
        """σ of the injected noise, pixel units."""
        return float(self.arrays["sigma"])

    @property
    def random(self) -> bool:
        return is_random(self.config, self.sigma)

    @property
    def attacks(self) -> list[str]:
        """The attacks that were made, in the order of Table 1."""
        there = set(self.arrays["attack"].tolist())
        return [attack for attack in ATTACKS if attack in there]

    def method(self, point: int) -> str:
        """The attack and the defence of a grid point in words."""
        return attack_words(self.config, self.options(point), self.sigma)


class Scores(OfImages):
    """Score norms, noise levels and samples of one score network."""

    def has(self, *names: str) -> bool:
        return all(name in self.arrays for name in names)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @property
    def tuned(self) -> bool:
        """Whether fixed step sizes were tried without noise on validation images."""
        return self.has("tuning_alpha", "tuning_natural", "tuning_adversarial") and len(self["tuning_alpha"]) > 0

    @property
    def best_step(self) -> float:
        """The fixed step size of the largest sum of natural and attacked accuracy on validation images."""
        sums = self["tuning_natural"].mean(1) + self["tuning_adversarial"].mean(1)
        return float(self["tuning_alpha"][sums.argmax()])

    @property
    def tuned_steps(self) -> int | None:
        """T of those runs."""
        steps = self.config.get("defense", {}).get("steps")
        return None if steps is None else int(steps)


class Certification(OfImages):
    """How often a classifier, or ADP before it, names each class under Gaussian noise."""

    @property
    def sigmas(self) -> list[float]:
        found: list[float] = self.arrays["sigmas"].tolist()
        return found

    def has(self, sigma: float) -> bool:
        return bool(np.isclose(self.arrays["sigmas"], sigma, rtol=1e-6).any())

    def certificates(self, sigma: float, kind: str) -> Certificates:
        """Of every image (N,), by one of CERTIFICATES; UserError for a σ that was not tried."""
        if not self.has(sigma):
            raise UserError(f"certification {self.name!r} has no sigma {sigma:g}; add it to its options")
        level = int(np.isclose(self.arrays["sigmas"], sigma, rtol=1e-6).argmax())
        selection, counts = (self.arrays[name][level] for name in COUNTS)
        if kind == "certify":
            return certify(selection, counts, sigma)
        return point_estimates(counts, sigma) if kind == "point" else renyi(counts, sigma)

    def radii(self, sigma: float, kind: str) -> np.ndarray:
        """The radius within which an image (N,) stays right, 0 where it is not right; their mean is the area under
        the curve of certified accuracy.
        """
        found = self.certificates(sigma, kind)
        return np.where(found.classes == self.labels, found.radii, 0.0)

    def cap(self, sigma: float, kind: str) -> float:
        """The largest radius that this many copies allow, where all of them agree."""
        some = np.eye(1, 2, dtype=np.int64) * int(self.config["n"])
        return float((certify(some, some, sigma) if kind == "certify" else point_estimates(some, sigma)).radii[0])

    @property
    def settings(self) -> str:
        return f"n0 {self.config['n0']}, n {self.config['n']}, {len(self.labels)} images"


class Corrupted(OfImages):
    """Which corrupted images (R, 15, 5, N) a defence has right, R its noise levels with and without detection."""

    @property
    def sigmas(self) -> list[float]:
        """The noise levels, ascending."""
        found: list[float] = np.unique(self.arrays["sigmas"]).tolist()
        return found

    @property
    def source(self) -> str:
        """Where the images came from, "generated" or "official"."""
        return str(self.arrays["source"])

    def row(self, sigma: float, *, detection: bool = False) -> int | None:
        """The entry of a noise level, with or without detection; None where it was not run."""
        same = np.isclose(self.arrays["sigmas"], sigma, rtol=1e-6, atol=1e-9) & (self.arrays["detection"] == detection)
        return int(same.argmax()) if same.any() else None


@dataclass(frozen=True)
class Corruptions:
    """One defence on corrupted images."""

    study: Corrupted
    row: int

    def shares(self, group: str | None = None) -> np.ndarray:
        """For every image (N,) the share of corruptions (of one group) and severities at which it is right."""
        right = self.study.arrays["correct"][self.row]
        chosen = slice(None) if group is None else self.study.arrays["groups"] == group
        return np.asarray(right[chosen].mean((0, 1)))

    @property
    def method(self) -> str:
        """Corruptions, severities and the defence in words."""
        study, config = self.study, self.study.config
        corruptions, severities = study.arrays["correct"].shape[1:3]
        words = [f"{corruptions} corruptions at {severities} severities"]
        words += [SOURCES.get(study.source, study.source)]
        if config.get("score"):
            sigma, fixed = float(study.arrays["sigmas"][self.row]), config.get("fixed_step")
            defense = config.get("defense", {}) | ({"step": fixed} if sigma == 0 and fixed is not None else {})
            draws = int(defense.get("draws", 10)) if sigma > 0 else None
            words += [defence_words({**config, "defense": defense}, sigma, int(defense.get("steps", 10)), draws)]
        if study.arrays["detection"][self.row]:
            words += ["images of small score norm take less noise"]
        return ", ".join([*words, f"seed {config['seed']}"])


def first_row(studies: Sequence[Corrupted | None], sigma: float, *, detection: bool = False) -> Corruptions | None:
    """The first of the studies that holds a noise level; None where none does."""
    for study in studies:
        row = None if study is None else study.row(sigma, detection=detection)
        if study is not None and row is not None:
            return Corruptions(study, row)
    return None


def load_score_defense(folder: PathLike, name: str) -> ScoreDefense:
    """The study `name` of a folder of defence files, whole or in shards; UserError as `load_grid` raises it."""
    study = ScoreDefense(name, load_grid(folder, name, GRID, ("sigma",)))
    unknown = set(study.arrays["attack"].tolist()) - set(ATTACKS)
    if unknown:
        raise UserError(f"defence study {name!r}: attack {', '.join(sorted(unknown))} is none of {', '.join(ATTACKS)}")
    finite(Path(folder) / f"{name}.npz", study.arrays)
    return study


def load_scores(folder: PathLike, name: str) -> Scores:
    """The study `name` of a folder of score files; UserError where it is missing or a number in it is not finite."""
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path)
    finite(path, arrays)
    return Scores(name, arrays)


def load_certification(folder: PathLike, name: str) -> Certification:
    """The study `name` of a folder of certification files, whole or in shards; UserError where it is missing,
    incomplete, or its shards overlap or differ.
    """
    shards = [(path, _certified(path)) for path in files(folder, name)]
    return Certification(name, merged(shards, ("sigmas",), dict.fromkeys(PER_IMAGE, 0) | dict.fromkeys(COUNTS, 1)))


def _certified(path: Path) -> dict[str, np.ndarray]:
    arrays = load_arrays(path, "sigmas", *COUNTS, *PER_IMAGE, "config")
    for counts in COUNTS:
        same_shape(path, counts, arrays[counts].shape[:2], (len(arrays["sigmas"]), len(arrays["labels"])))
    return arrays


def load_corrupted(folder: PathLike, name: str) -> Corrupted:
    """The study `name` of a folder of corruption accuracies; UserError where it is missing or incomplete."""
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path, *CORRUPTED)
    rows, groups, severities, images = (len(arrays[key]) for key in ("sigmas", "groups", "severities", "labels"))
    same_shape(path, "correct", arrays["correct"].shape, (rows, groups, severities, images))
    return Corrupted(name, arrays)
