"""What was measured at a scale: ADP under attack, score norms, certificates, corruptions; and reading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustgen.errors import UserError
from robustgen.evaluation.smoothing import Certificates, certify, point_estimates, renyi
from robustgen.io import PathLike, load_arrays
from robustgen.papers.adp.words import ATTACKS, attack_words, defence_words, is_random
from robustgen.papers.langevin import Defense, Purification
from robustgen.papers.studies import PER_IMAGE, Attacked, Grid, OfImages, common, finite, load_grid, same_shape
from robustgen.papers.words import pixels

GRID = ("attack", "purification_steps", "norm", "eps", "eot")
GROUPS = ("noise", "blur", "weather", "digital")
CERTIFIED = ("sigmas", "selection_counts", "counts", *PER_IMAGE, "config")
CORRUPTED = ("sigmas", "detection", "correct", "natural", "groups", "severities", *PER_IMAGE, "config")
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
        selection, counts = (self.arrays[name][level] for name in ("selection_counts", "counts"))
        if kind == "certify":
            return certify(selection, counts, sigma)
        return point_estimates(counts, sigma) if kind == "point" else renyi(counts, sigma)

    def radii(self, sigma: float, kind: str) -> np.ndarray:
        """The radius within which an image (N,) stays right, 0 where it is not right; their mean is the area under
        the curve of certified accuracy.
        """
        found = self.certificates(sigma, kind)
        return np.where(found.classes == self.labels, found.radii, 0.0)

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
        if config.get("score"):
            sigma, fixed = float(study.arrays["sigmas"][self.row]), config.get("fixed_step")
            defense = config.get("defense", {}) | ({"step": fixed} if sigma == 0 and fixed is not None else {})
            words += [defence_words({**config, "defense": defense}, sigma, int(defense.get("steps", 10)))]
        if study.arrays["detection"][self.row]:
            words += ["images of small score norm take less noise"]
        return ", ".join([*words, f"seed {config['seed']}"])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything measured at one scale; None or empty where the scale does without."""

    dataset: str  # as people write it
    scale: str
    short: int = 10  # T at which few-step purifications are compared
    attacks: tuple[ScoreDefense, ...] = ()  # ADP at the usual σ, every attack of Table 3 in one of them
    deterministic: tuple[ScoreDefense, ...] = ()  # ADP at σ 0
    longer: ScoreDefense | None = None  # BPDA of more updates
    control_of: ScoreDefense | None = None  # attacks of radius 0
    blind: ScoreDefense | None = None  # PGD on the classifier, at the usual σ
    small: ScoreDefense | None = None  # and at a smaller one
    released: ScoreDefense | None = None  # the released code's choices
    ml_langevin: ScoreDefense | None = None  # sweeps over T: energy-based model, Langevin or deterministic updates
    ml_deterministic: ScoreDefense | None = None
    dsm_langevin: ScoreDefense | None = None  # the same of the score network
    dsm_deterministic: ScoreDefense | None = None
    eot: ScoreDefense | None = None  # sweep over the EOT draws
    raw: Defense | None = None  # the classifier alone under PGD
    trained: Defense | None = None  # adversarial training under PGD
    hill: Purification | None = None  # Hill et al.'s defence under blind PGD
    scores: Scores | None = None
    certified: Certification | None = None  # ADP
    cohen: tuple[Certification, ...] = ()  # classifiers trained with Gaussian noise
    corrupted: tuple[Corrupted, ...] = ()  # ADP, all σ
    corrupted_raw: Corrupted | None = None
    corrupted_dct: Corrupted | None = None  # score networks trained on other perturbations
    corrupted_augmix: Corrupted | None = None
    corrupted_both: Corrupted | None = None
    corrupted_cohen: Corrupted | None = None
    corrupted_trained: Corrupted | None = None
    others: tuple[tuple[str, ScoreDefense], ...] = ()  # data set, ADP under BPDA: Sec. 5.1.5

    @property
    def eps(self) -> float:
        """The radius of the tables, L∞ in [0, 1]: the only positive one of the first study of attacks."""
        others = (self.blind, self.dsm_deterministic, self.eot, self.raw)
        studies: list[Grid] = [*self.attacks, *self.deterministic, *(study for study in others if study is not None)]
        if not studies:
            raise UserError("no study says the tables' radius; name one with --attacks")
        radii = [eps for eps in studies[0].values("eps", norm="linf") if eps > 0]
        if len(radii) != 1:
            raise UserError(
                f"defence study {studies[0].name!r} must hold exactly one positive L∞ radius, that of the tables, not "
                f"{', '.join(map(pixels, radii)) or 'none'}"
            )
        return float(radii[0])

    def against(self, attack: str, *, noise: bool = True) -> Attacked | None:
        """ADP at the usual σ, or without noise, under an attack; None where it was not made."""
        studies = self.attacks if noise else self.deterministic
        if attack == "classifier" and noise and self.blind is not None:
            studies = (self.blind, *studies)
        return next((found for study in studies if (found := self.under(study, attack)) is not None), None)

    def under(self, study: Grid | None, attack: str = "bpda", **fixed: object) -> Attacked | None:
        """A study under an attack of the tables' radius; None without the study, or where it lacks the attack."""
        if study is None:
            return None
        wanted = {"norm": "linf", "eps": self.eps, **fixed} | ({"attack": attack} if "attack" in study.COLUMNS else {})
        return Attacked(study, study.point(**wanted)) if study.has(**wanted) else None

    @property
    def control(self) -> Attacked | None:
        """BPDA+EOT of radius 0, which should break nothing."""
        wanted = {"attack": "bpda", "norm": "linf", "eps": 0.0}
        studies = [study for study in (self.control_of, *self.attacks) if study is not None and study.has(**wanted)]
        return Attacked(studies[0], studies[0].point(**wanted)) if studies else None

    def all_attacks(self) -> list[Attacked]:
        """ADP at the usual σ under everything that was tried, every attack once, and the longer BPDA."""
        tried = [self.against(attack) for attack in ATTACKS]
        return [found for found in (*tried, self.under(self.longer)) if found is not None]

    def worst(self) -> tuple[list[Attacked], list[np.ndarray], np.ndarray] | None:
        """All attacks, their rows of the images that all of them saw, and which of these withstand each of them (N,).

        None where there are not two attacks.
        """
        tried = self.all_attacks()
        if len(tried) < 2:
            return None
        rows = common([each.study for each in tried])
        return tried, rows, np.all([each.robust[chosen] for each, chosen in zip(tried, rows, strict=True)], axis=0)

    def noise_levels(self) -> tuple[float | None, float | None]:
        """The usual σ of the corruption studies, the largest, and the smaller one beside it."""
        levels = sorted({sigma for study in self.corrupted for sigma in study.sigmas if sigma > 0})
        return (levels[-1] if levels else None), (levels[0] if len(levels) > 1 else None)

    def corruptions(self, sigma: float | None, *, detection: bool = False) -> Corruptions | None:
        """ADP of a noise level on corrupted images; None where it was not run."""
        if sigma is None:
            return None
        return first_row(self.corrupted, sigma, detection=detection)

    def rival(self, sigma: float) -> Certification | None:
        """Cohen et al.'s classifier for a noise level."""
        return next((study for study in self.cohen if study.has(sigma)), None)


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
    """The study `name` of a folder of certification files; UserError where it is missing or incomplete."""
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path, *CERTIFIED)
    for counts in ("selection_counts", "counts"):
        same_shape(path, counts, arrays[counts].shape[:2], (len(arrays["sigmas"]), len(arrays["labels"])))
    return Certification(name, arrays)


def load_corrupted(folder: PathLike, name: str) -> Corrupted:
    """The study `name` of a folder of corruption accuracies; UserError where it is missing or incomplete."""
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path, *CORRUPTED)
    rows, groups, severities, images = (len(arrays[key]) for key in ("sigmas", "groups", "severities", "labels"))
    same_shape(path, "correct", arrays["correct"].shape, (rows, groups, severities, images))
    return Corrupted(name, arrays)
