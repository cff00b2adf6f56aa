"""A made study in which everything is as the paper says, and a way to change one thing about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from robustgen.papers.robust_generative.study import Study

N, STEPS = 400, 10
THRESHOLD = -13.0
OPTIONS = {"eps": 16 / 255, "alpha": 2 / 255, "steps": STEPS, "seed": 0}
CONFIGS: dict[str, dict[str, Any]] = {
    "pgd": {"name": "pgd", **OPTIONS},
    "pgd-strong": {"name": "pgd", **OPTIONS, "eps": 32 / 255},
    "apgd": {"name": "apgd", "eps": 16 / 255, "steps": STEPS, "seed": 0},
    "fgsm": {"name": "fgsm", "eps": 16 / 255, "seed": 0},
    "targeted": {"name": "pgd", **OPTIONS, "targeted": True},
    "he-pgd": {"name": "he_pgd", **OPTIONS, "lam": 0.9},
    "he-pgd-paper": {"name": "he_pgd", **OPTIONS, "lam": 1.2},
}


@dataclass(frozen=True)
class World:
    """What the made study finds."""

    natural: float = -10.0  # mean energies, standard deviation 1
    energies: Mapping[str, float] = field(
        default_factory=lambda: {
            "pgd": -14.4,
            "pgd-strong": -20.0,
            "apgd": -14.6,
            "fgsm": -14.5,
            "targeted": -13.0,
            "he-pgd": -10.1,
            "he-pgd-paper": -9.9,
        }
    )
    fall: float = 2.0  # of the energy along PGD
    he_fall: float = 0.1  # of the energy along HE-PGD
    he_accuracy: float = 0.0  # under HE-PGD
    he_half: float = 6.0  # steps until HE-PGD has halved the accuracy; PGD takes 3
    rivals: float = 0.5  # share of PGD images that KD+BU and LID detect


def logits(energies: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """(N, 4) logits of the given energies, whose largest entry is class 0 where correct and class 1 elsewhere."""
    found = np.full((len(energies), 4), -90.0)
    found[np.arange(len(energies)), np.where(correct, 0, 1)] = -energies
    return found.astype(np.float32)


def make_study(name: str = "digits32", world: World | None = None, n: int = N) -> Study:
    """The study of a world, on n images."""
    w = world or World()
    random = np.random.default_rng(0)
    spread = random.normal(size=n)
    spread = (spread - spread.mean()) / spread.std()
    natural = w.natural + spread
    arrays: dict[str, np.ndarray] = {}
    for attack, mean in w.energies.items():
        energies = mean + spread[::-1]
        right = np.arange(n) < (w.he_accuracy if attack == "he-pgd" else 0) * n
        arrays[f"labels.{attack}"] = np.zeros(n, dtype=np.int64)
        arrays[f"natural-logits.{attack}"] = logits(natural, np.arange(n) < 0.95 * n)
        arrays[f"logits.{attack}"] = logits(energies, right)
        arrays[f"changed.{attack}"] = np.arange(n) < (0.95 * n if attack == "apgd" else n)
        arrays[f"config.{attack}"] = np.array(json.dumps(CONFIGS[attack]))
        for fit in ("pgd", "pgd-strong", "apgd"):
            for detector in ("energy", "energy-released", "kd-bu", "lid"):
                ranks = np.linspace(0, 1, n)
                own = detector.startswith("energy")
                arrays[f"natural-score.{detector}.{fit}.{attack}"] = natural if own else ranks + 0.5
                arrays[f"score.{detector}.{fit}.{attack}"] = energies if own else ranks - w.rivals + 0.5
                arrays[f"threshold.{detector}.{fit}"] = np.array(THRESHOLD if own else 0.5)
                arrays[f"temperature.{detector}.{fit}"] = np.array(0.5)
    steps = np.arange(STEPS + 1)
    for attack, fall, half in (("pgd", w.fall, 3.0), ("he-pgd", w.he_fall, w.he_half)):
        noise = 0.05 * random.normal(size=(STEPS + 1, n))
        arrays[f"trace_energy.{attack}"] = w.natural + spread - fall * (steps / STEPS)[:, None] + noise
        survive = half * 2 * np.linspace(0, 1, n)  # step at which each image falls
        arrays[f"trace_correct.{attack}"] = steps[:, None] < survive
    return Study(name, arrays)


def make_interpretation(**shares: float) -> dict[str, np.ndarray]:
    """What `interpret` finds; `shares` replace the means below."""
    means = {
        "natural_density": 0.2,
        "robust_density": 0.4,
        "quasi_robust_density": 0.3,
        "natural_alignment": 0.1,
        "robust_alignment": 0.3,
        "quasi_robust_alignment": 0.2,
        "natural_judged": 0.1,
        "robust_judged": 0.9,
        "quasi_robust_judged": 0.7,
        "natural_clean_correct": 0.98,
        "robust_clean_correct": 0.95,
        "quasi_robust_clean_correct": 0.98,
        "natural_robust_correct": 0.0,
        "robust_robust_correct": 0.8,
        "quasi_robust_robust_correct": 0.2,
    } | shares
    random, found = np.random.default_rng(1), {}
    for name, mean in means.items():
        noise = 0.05 * random.normal(size=N)
        found[name] = mean + noise if name.endswith(("density", "alignment")) else np.arange(N) < mean * N
    found["images"] = random.random((5, 1, 6, 6))
    for role in ("natural", "robust", "quasi_robust"):
        found[f"{role}_gradients"] = random.normal(size=(5, 1, 6, 6))
        found[f"{role}_synthesis"] = random.random((8, 1, 6, 6))
    return found


@pytest.fixture
def study() -> Callable[..., Study]:
    """study(name="digits32", n=400, **what is different): a study in which, by default, the paper is right."""

    def build(name: str = "digits32", n: int = N, **changes: Any) -> Study:
        world = World()
        energies = {**world.energies, **changes.pop("energies", {})}
        return make_study(name, World(energies=energies, **changes), n)

    return build


@pytest.fixture
def interpretation() -> Callable[..., dict[str, np.ndarray]]:
    """interpretation(**means): what `interpret` finds, in which, by default, the paper is right."""
    return make_interpretation
