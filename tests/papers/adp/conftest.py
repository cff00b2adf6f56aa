"""A made scale in which everything is as the paper says, and a way to change one thing about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.io import save_arrays
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import (
    Certification,
    Corrupted,
    ScoreDefense,
    Scores,
    load_certification,
    load_corrupted,
    load_score_defense,
    load_scores,
)
from robustgen.papers.langevin import Defense, Purification

N, CLASSES = 300, 4
EPS, SIGMA, SMALL, T = 0.1, 0.25, 0.1, 10
STEPS = (0, 1, 10, 100, 1000)
ATTACK = {"steps": 40, "step": 0.25, "restarts": 1, "verify": 10, "expectation": "mean", "queries": 1280,
          "spsa_delta": 0.01, "weight": 0.5, "loss": "ce", "seed": 3, "score_arch": "ncsnv2"}  # fmt: skip
PURIFIER = {"fidelity": "paper", "steps": T, "draws": 10, "step": None, "lam": 0.05, "delta": None, "stop": 0.001,
            "updates": "deterministic"}  # fmt: skip
BLIND = {"name": "pgd", "eps": EPS, "alpha": 0.025, "steps": 40, "seed": 4}
GROUPS = ["noise"] * 3 + ["blur"] * 4 + ["weather"] * 4 + ["digital"] * 4


@dataclass(frozen=True, kw_only=True)
class World:
    """What the made scale finds; accuracies in [0, 1]."""

    n: int = N
    dataset: str = "digits 16×16"
    eps: float = EPS
    raw: float = 0.0  # the classifier alone under PGD
    blind: float = 0.85
    bpda: float = 0.75
    apgd: float = 0.74
    spsa: float = 0.8
    full: float = 0.78
    quiet_spsa: float = 0.4  # at σ = 0
    quiet_full: float = 0.1
    trained: float = 0.4
    false_breaks: float = 0.0
    dsm: tuple[float, ...] = (0.0, 0.3, 0.6, 0.6, 0.6)  # under BPDA after STEPS, deterministic
    dsm_langevin: tuple[float, ...] = (0.0, 0.1, 0.3, 0.4, 0.4)
    ml: tuple[float, ...] = (0.0, 0.05, 0.2, 0.3, 0.4)
    ml_langevin: tuple[float, ...] = (0.0, 0.02, 0.05, 0.2, 0.5)
    lifted: float = 9.0  # score norm of attacked images above natural ones
    lowered: float = 3.0  # what one step takes off it
    confident: int = 80  # of 100 votes for the right class at the smaller σ, ADP; 70 Cohen et al.'s
    rival: float = 0.6  # share of images that Cohen et al.'s classifier has right at the larger σ; ADP 0.6
    corrupted: float = 0.77  # accuracies on corrupted images
    corrupted_raw: float = 0.6
    corrupted_trained: float = 0.65
    corrupted_quiet: float = 0.82
    corrupted_both: float = 0.88


def first(share: float, n: int) -> np.ndarray:
    """Which of n images: the first `share` of them."""
    return np.arange(n) < round(share * n)


def about(n: int) -> dict[str, np.ndarray]:
    return {"labels": np.arange(n) % CLASSES, "indices": np.arange(n) + 5}


def outcomes(points: Sequence[tuple[float, float]], n: int) -> dict[str, np.ndarray]:
    """The arrays (G, N) of grid points with these natural accuracies and accuracies under attack."""
    natural = np.stack([first(point[0], n) for point in points])
    broken = natural & ~np.stack([first(point[1], n) for point in points])
    return {
        "natural_correct": natural,
        "broken": broken,
        "broken_step": np.where(broken, 3, -1),
        "broken_restart": np.where(broken, 0, -1),
        "checks": broken.astype(np.int64),
    }


def attacked(
    name: str,
    points: Sequence[tuple[str, int, float, int, float, float]],
    world: World,
    sigma: float = SIGMA,
    purifier: dict[str, Any] | None = None,
    **options: Any,
) -> ScoreDefense:
    """Grid points (attack, T, eps, EOT draws, natural accuracy, accuracy under attack)."""
    attacks, steps, eps, eot, natural, robust = zip(*points, strict=True)
    config = {**ATTACK, "defense": {**PURIFIER, "sigma": sigma, **(purifier or {})}, **options}
    return ScoreDefense(
        name,
        {
            "attack": np.array(attacks),
            "purification_steps": np.array(steps),
            "norm": np.array(["linf"] * len(points)),
            "eps": np.array(eps, dtype=float),
            "eot": np.array(eot),
            "sigma": np.array(sigma),
            **about(world.n),
            **outcomes(list(zip(natural, robust, strict=True)), world.n),
            "config": np.array(json.dumps(config)),
        },
    )


def undefended(name: str, robust: float, world: World) -> Defense:
    config = {"steps": 40, "step": 0.25, "restarts": 1, "gradient": "bpda", "average": "logits", "seed": 3}
    grid = {"langevin_steps": 0, "norm": "linf", "eps": world.eps, "draws": 1, "verify": 1}
    return Defense(
        name,
        {
            **{key: np.array([value]) for key, value in grid.items()},
            **about(world.n),
            **outcomes([(0.95, robust)], world.n),
            "config": np.array(json.dumps(config)),
        },
    )


def purified(world: World) -> Purification:
    def logits(share: float) -> np.ndarray:
        right = np.where(first(share, world.n), 0, 1) + np.arange(world.n)
        return np.eye(CLASSES, dtype=np.float32)[right % CLASSES]

    return Purification(
        "hill",
        {
            "steps": np.array([0, 100]),
            **about(world.n),
            "natural_logits": np.stack([logits(1.0), logits(0.85)]),
            "adversarial_logits": np.stack([logits(0.0), logits(0.7)]),
            "natural_draws": np.zeros((world.n, 4, CLASSES), np.float32),
            "config": np.array(json.dumps({"keep": 100, "tau": 0.05, "average": "logits", "seed": 3})),
        },
    )


def scored(world: World) -> Scores:
    random = np.random.default_rng(0)
    natural = random.normal(7, 1.5, world.n)
    adversarial = natural + world.lifted + random.normal(0, 1.5, world.n)
    verdicts = np.stack([first(share, 50) for share in (0.8, 0.9, 0.7)])
    sigmas = np.geomspace(5, 0.01, 20)
    return Scores(
        "norms",
        {
            "norm_natural": natural,
            "norm_adversarial": adversarial,
            "norm_natural_purified": natural - 1,
            "norm_adversarial_purified": adversarial - world.lowered,
            "levels": sigmas,
            "level_loss": sigmas.min() ** 0.1 / sigmas**0.1,
            "median_sigma": np.array(0.25),
            "samples": random.random((36, 1, 8, 8)).astype(np.float32),
            "drift": (256 / 255) ** np.arange(T + 1),
            "drift_paper": np.ones(T + 1),
            "drift_grey": np.r_[1.0, (256 / 255) ** np.arange(T)],
            "tuning_alpha": np.array([0.05, 0.1, 0.2]),
            "tuning_natural": verdicts,
            "tuning_adversarial": verdicts & verdicts[::-1],
            **about(world.n),
            "config": np.array(json.dumps({"sampler_steps": 5, "defense": PURIFIER, "attack": BLIND})),
        },
    )


def certification(name: str, votes: dict[float, tuple[float, int]], world: World) -> Certification:
    """For every σ the share of images whose class is right, and how many of 100 votes each class that leads has."""
    labels = np.arange(world.n) % CLASSES
    counts = np.zeros((len(votes), world.n, CLASSES), np.int64)
    for level, (share, most) in enumerate(votes.values()):
        leader = np.where(first(share, world.n), labels, (labels + 1) % CLASSES)
        spread = most + np.arange(world.n) % 17
        counts[level, np.arange(world.n), leader] = spread
        counts[level, np.arange(world.n), (leader + 2) % CLASSES] = 100 - spread
    return Certification(
        name,
        {
            "sigmas": np.array(list(votes)),
            "selection_counts": counts,
            "counts": counts,
            **about(world.n),
            "config": np.array(json.dumps({"n0": 100, "n": 100, "has_score": name == "certified"})),
        },
    )


def corrupted(name: str, rows: Sequence[tuple[float, bool, float]], world: World) -> Corrupted:
    """Entries (σ, detection, accuracy); every corruption and severity has other images right."""
    random = np.random.default_rng(1)
    correct = np.stack([random.random((15, 5, world.n)) < share for _, _, share in rows])
    return Corrupted(
        name,
        {
            "sigmas": np.array([row[0] for row in rows], dtype=float),
            "detection": np.array([row[1] for row in rows]),
            "correct": correct,
            "natural": correct[:, 0, 0],
            "groups": np.array(GROUPS),
            "severities": np.arange(1, 6),
            "source": np.array("generated"),
            **about(world.n),
            "config": np.array(json.dumps({"seed": 3, "score": "x" if "raw" not in name else None,
                                           "defense": PURIFIER})),
        },
    )  # fmt: skip


def make(world: World) -> Measured:
    w = world

    def grid(name: str, *points: tuple[str, float, float], sigma: float = SIGMA, **options: Any) -> ScoreDefense:
        return attacked(name, [(a, T, w.eps, 15, nat, rob) for a, nat, rob in points], w, sigma, **options)

    def sweep(name: str, curve: Sequence[float], updates: str, **options: Any) -> ScoreDefense:
        points = [("bpda", t, w.eps, 15, 0.95, share) for t, share in zip(STEPS, curve, strict=True)]
        return attacked(name, points, w, 0.0, {"updates": updates}, **options)

    main = attacked(
        "main",
        [
            ("bpda", T, w.eps, 15, 0.9, w.bpda),
            ("joint-score", T, w.eps, 15, 0.9, 0.78),
            ("joint-full", T, w.eps, 15, 0.9, 0.8),
            ("bpda", T, 0.0, 15, 0.9, 0.9 - 0.9 * w.false_breaks),
        ],
        w,
    )
    quiet = [("bpda", 0.93, 0.7), ("joint-score", 0.93, 0.72), ("joint-full", 0.93, 0.75)]
    draws = [("bpda", T, w.eps, h, 0.9, 0.7 - 0.01 * h) for h in (1, 2, 5, 15)]
    return Measured(
        dataset=w.dataset,
        scale="quick",
        short=T,
        attacks=(main, grid("spsa", ("spsa", 0.9, w.spsa)), grid("gradient", ("full", 0.9, w.full)),
                 grid("apgd", ("apgd", 0.9, w.apgd))),
        deterministic=(grid("quiet", *quiet, sigma=0.0),
                       grid("quiet-more", ("spsa", 0.93, w.quiet_spsa), ("full", 0.93, w.quiet_full), sigma=0.0)),
        longer=grid("longer", ("bpda", 0.9, w.bpda - 0.01), steps=100),
        reevaluation=attacked("reevaluation", [("apgd", T, w.eps, 200, 0.9, w.apgd)], w, steps=10, loss="cw"),
        control_of=main,
        blind=grid("blind", ("classifier", 0.9, w.blind)),
        small=grid("small", ("classifier", 0.93, w.blind + 0.05), sigma=SMALL),
        released=grid("released", ("bpda", 0.88, w.bpda - 0.02), purifier={"fidelity": "released"}),
        ml_langevin=sweep("ml-langevin", w.ml_langevin, "langevin", score_arch="nijkamp"),
        ml_deterministic=sweep("ml", w.ml, "deterministic", score_arch="nijkamp"),
        dsm_langevin=sweep("dsm-langevin", w.dsm_langevin, "langevin"),
        dsm_deterministic=sweep("dsm", w.dsm, "deterministic"),
        eot=attacked("eot", draws, w),
        raw=undefended("raw", w.raw, w),
        trained=undefended("at", w.trained, w),
        hill=purified(w),
        scores=scored(w),
        certified=certification("certified", {0.12: (0.9, w.confident), SIGMA: (0.6, 75)}, w),
        cohen=(certification("cohen-12", {0.12: (0.8, 70)}, w), certification("cohen-25", {SIGMA: (w.rival, 75)}, w)),
        corrupted=(corrupted("adp", [(SIGMA, False, w.corrupted), (SIGMA, True, 0.79), (SMALL, False, 0.76),
                                     (0.0, False, w.corrupted_quiet)], w),),
        corrupted_raw=corrupted("adp-raw", [(0.0, False, w.corrupted_raw)], w),
        corrupted_dct=corrupted("adp-dct", [(0.0, False, 0.84)], w),
        corrupted_augmix=corrupted("adp-augmix", [(0.0, False, 0.86)], w),
        corrupted_both=corrupted("adp-both", [(0.0, False, w.corrupted_both)], w),
        corrupted_cohen=corrupted("adp-raw-cohen", [(0.0, False, 0.7)], w),
        corrupted_trained=corrupted("adp-raw-at", [(0.0, False, w.corrupted_trained)], w),
        others=(),
    )  # fmt: skip


FOLDERS = {
    ScoreDefense: "defense",
    Defense: "defense",
    Purification: "purification",
    Scores: "scores",
    Certification: "certification",
    Corrupted: "corruptions",
}
LOAD = {
    ScoreDefense: load_score_defense,
    Scores: load_scores,
    Certification: load_certification,
    Corrupted: load_corrupted,
}


def studies(found: Measured) -> list[Any]:
    """Every study of a scale."""
    values = [getattr(found, field.name) for field in fields(Measured)]
    flat = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
    return [each for each in flat if isinstance(each, tuple(FOLDERS))]


def write(found: Measured, root: Path) -> None:
    """The studies of `found` as the stages write them."""
    for study in studies(found):
        save_arrays(root / FOLDERS[type(study)] / f"{study.name}.npz", study.arrays)


@pytest.fixture(scope="session")
def right() -> Measured:
    """The scale in which the paper is right about everything."""
    return make(World())


@pytest.fixture(scope="session")
def build() -> Callable[..., Measured]:
    """build(**what is different): a scale in which, by default, the paper is right."""
    return lambda **changes: make(replace(World(), **changes))


@pytest.fixture
def bare() -> Measured:
    """A scale without any study."""
    return Measured(dataset="digits 16×16", scale="quick")


@pytest.fixture(scope="session")
def study() -> Callable[..., ScoreDefense]:
    """study(name, [(attack, T, eps, EOT draws, natural, robust), ...], n=..., sigma=..., **options)."""

    def made(name: str, points: Sequence[Any], n: int = 20, sigma: float = SIGMA, **options: Any) -> ScoreDefense:
        return attacked(name, points, World(n=n), sigma, **options)

    return made


@pytest.fixture(scope="session")
def write_scale() -> Callable[[Measured, Path], None]:
    """write_scale(found, root): the files of `found`, as the stages write them."""
    return write
