"""What was measured on one data set: energies, scores, traces, read from the `detect` stage's file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp

from robustgen.io import PathLike, load_arrays
from robustgen.papers.words import named, pixels

ROLES = {"natural": "natural", "robust": "robust", "quasi_robust": "quasi-robust"}


@dataclass(frozen=True)
class Study:
    """One data set under all attacks. Energies are in nats; every array runs over test images (N,)."""

    name: str  # "digits32"
    arrays: dict[str, np.ndarray]

    @property
    def dataset(self) -> str:
        """The data set's name as people write it."""
        return named(self.name)

    @property
    def attacks(self) -> list[str]:
        return [key.removeprefix("logits.") for key in self.arrays if key.startswith("logits.")]

    def natural_energy(self, attack: str = "pgd") -> np.ndarray:
        """E(x) of the clean images that `attack` started from."""
        return _energy(self.arrays[f"natural-logits.{attack}"])

    def energy(self, attack: str) -> np.ndarray:
        """E(x) of the attacked images."""
        return _energy(self.arrays[f"logits.{attack}"])

    def natural_correct(self, attack: str = "pgd") -> np.ndarray:
        return np.asarray(self.arrays[f"natural-logits.{attack}"].argmax(1) == self.arrays[f"labels.{attack}"])

    def correct(self, attack: str) -> np.ndarray:
        return np.asarray(self.arrays[f"logits.{attack}"].argmax(1) == self.arrays[f"labels.{attack}"])

    def has(self, detector: str, fit: str, attack: str) -> bool:
        return f"score.{detector}.{fit}.{attack}" in self.arrays

    def scores(self, detector: str, fit: str, attack: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Scores of the natural and of the attacked images, and the threshold at or below which one is flagged."""
        name = f"{detector}.{fit}"
        natural, attacked = (self.arrays[f"{kind}.{name}.{attack}"] for kind in ("natural-score", "score"))
        return natural, attacked, float(self.arrays[f"threshold.{name}"])

    def flagged(self, detector: str, fit: str, attack: str) -> np.ndarray:
        """Which attacked images the detector flags."""
        _, attacked, threshold = self.scores(detector, fit, attack)
        return np.asarray(attacked <= threshold)

    def flagged_natural(self, detector: str, fit: str, attack: str) -> np.ndarray:
        """Which of the clean images that `attack` started from the detector flags."""
        natural, _, threshold = self.scores(detector, fit, attack)
        return np.asarray(natural <= threshold)

    def changed(self, attack: str) -> np.ndarray:
        """Which images the attack changed at all."""
        return np.asarray(self.arrays[f"changed.{attack}"])

    def trace(self, attack: str) -> tuple[np.ndarray, np.ndarray]:
        """Energies and correctness (steps + 1, N) after each step; row 0 is the random start."""
        return self.arrays[f"trace_energy.{attack}"], self.arrays[f"trace_correct.{attack}"]

    def config(self, attack: str) -> dict[str, Any]:
        """The attack's options."""
        options: dict[str, Any] = json.loads(str(self.arrays[f"config.{attack}"]))
        return options

    def method(self, attack: str) -> str:
        """The attack in words: name, radius, step, steps, what is special, seed."""
        o = self.config(attack)
        words = [LABELS.get(o["name"], o["name"]), f"eps {pixels(o['eps'])}"]
        words += [f"step {pixels(o['alpha'])}"] if "alpha" in o else []
        words += [f"{o['steps']} steps"] if "steps" in o else []
        words += [f"λ {o['lam']:g}"] if "lam" in o else []
        words += ["random target"] if o.get("targeted") else []
        return ", ".join([*words, f"seed {o['seed']}"])


LABELS = {"pgd": "PGD", "he_pgd": "HE-PGD", "apgd": "APGD", "fgsm": "FGSM"}


def load_study(folder: PathLike, name: str) -> Study:
    """The study `name` of a folder of detection files."""
    return Study(name, load_arrays(Path(folder) / f"{name}.npz"))


def _energy(logits: np.ndarray) -> np.ndarray:
    return -np.asarray(logsumexp(logits.astype(np.float64), axis=1))
