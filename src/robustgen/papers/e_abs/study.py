"""One model under all attacks: which images stay right, how long the changes are, and what its file tells besides."""

from __future__ import annotations

from functools import cached_property
from pathlib import PurePath
from typing import Any, Self

import numpy as np

from robustgen.errors import UserError
from robustgen.evaluation.statistics import Estimate
from robustgen.papers.e_abs.words import (
    ATTACKS,
    PAPERS_ATTACKS,
    SEARCHES,
    attack_words,
    confirmed_words,
    inference_words,
)
from robustgen.papers.studies import PER_IMAGE, Pointed, accuracy
from robustgen.papers.words import NORMS

SLUG = "e-abs"

GRID = ("attack", "norm", "eps", "steps", "restarts", "draws")  # (G,): what tells attacks apart
STRONGER = ("restarts", "steps", "draws")  # of several points that fit, the one with most of these is taken
PER_POINT = ("robust", "chosen", "seen", "distance")  # (G, N)
CORRECT = ("natural_correct", "control_correct")  # (N,)
BOUND = ("bound", "bound_reason")  # (N,), of autoencoders whose bound was asked for
SHOWN = ("shown", "shown_images", "shown_adversarial", "shown_predicted")
EXAMPLES = ("example_rows", "example_images", "example_reconstructions", "example_losses")  # of autoencoders


class AttackStudy(Pointed):
    """A model under G attacks on N images, as `attack-synthesis` writes it; shards are put together."""

    COLUMNS, ORDER, CALLED = GRID, STRONGER, ("attack study", "attack")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The options of the run, with `trained` and `arch` of the model's file."""
        return super().config

    @property
    def natural(self) -> np.ndarray:
        """Which natural images (N,) are right."""
        return np.asarray(self.arrays["natural_correct"], dtype=bool)

    @property
    def control(self) -> np.ndarray:
        """The same by another inference, the one that looks for errors."""
        return np.asarray(self.arrays["control_correct"], dtype=bool)

    def robust(self, point: int) -> np.ndarray:
        """Which images (N,) are right and stay right under an attack, by the inference behind `natural`: one judgement
        of one image, however many were tried.
        """
        return np.asarray(self.arrays["robust"][point], dtype=bool)

    def chosen(self, point: int) -> np.ndarray:
        """For which images (N,) the inference behind `control`, looking at every restart's, found an error."""
        return np.asarray(self.arrays["chosen"][point], dtype=bool)

    def seen(self, point: int) -> np.ndarray:
        """Which images (N,) the attacker believed to have made an error within the radius."""
        return np.asarray(self.arrays["seen"][point], dtype=bool)

    def distance(self, point: int) -> np.ndarray:
        """Length (N,) of the confirmed change in the norm, pixel units; of a search inf where it found none."""
        return np.asarray(self.arrays["distance"][point])

    def errors(self, point: int) -> np.ndarray:
        """Length (N,) of the change that is an error, of a search whatever its radius and by the inference that
        confirmed it, of a climb by the one that judges; inf where there is none, 0 where the image is an error without
        attack.
        """
        search = str(self.arrays["attack"][point]) in SEARCHES
        found = self.distance(point) if search else np.where(self.robust(point), np.inf, self.distance(point))
        return np.asarray(np.where(self.natural, found, 0.0))

    def swept(self, option: str, **fixed: object) -> dict[int, int]:
        """Grid points that differ in one of STRONGER alone, by its value, ascending: of all such sets among the points
        with the options `fixed` the largest; of several that of the strongest attack.
        """
        others = [name for name in STRONGER if name != option]
        sets: dict[tuple[int, ...], dict[int, int]] = {}
        for point in self.matching(**fixed):
            key = tuple(int(self.arrays[name][point]) for name in others)
            sets.setdefault(key, {}).setdefault(int(self.arrays[option][point]), point)
        _, found = max(sets.items(), key=lambda each: (len(each[1]), each[0]), default=((), {}))
        return dict(sorted(found.items()))

    @property
    def norms(self) -> list[str]:
        """The norms that it was attacked in, L∞ first."""
        return [norm for norm in NORMS if self.has(norm=norm)]

    def radii(self, attack: str, norm: str) -> list[float]:
        """The radii of an attack, ascending."""
        return self.values("eps", attack=attack, norm=norm)

    def main_eps(self, norm: str) -> float:
        """The radius of the first grid point in a norm, that of the tables; UserError where there is none."""
        found = self.matching(norm=norm)
        if not found:
            raise UserError(f"attack study {self.name!r} has no attack in {NORMS[norm]}; add one to its options")
        return float(self.arrays["eps"][found[0]])

    def main_point(self, attack: str, norm: str) -> int | None:
        """The strongest grid point of an attack at the norm's main radius; None where it was not made there."""
        if norm not in self.norms:
            return None
        wanted = {"attack": attack, "norm": norm, "eps": self.main_eps(norm)}
        return self.point(**wanted) if self.has(**wanted) else None

    def attacks(self, norm: str, eps: float | None = None) -> list[str]:
        """The attacks made with a radius, the norm's main one unless given: the paper's in its order, then ours."""
        there = {str(self.arrays["attack"][point]) for point in self._at(norm, eps)}
        names = dict.fromkeys((*PAPERS_ATTACKS[norm], *ATTACKS))
        return [name for name in names if name in there]

    def counted(self, norm: str, eps: float | None = None, *, ours: bool = False) -> list[int]:
        """The grid points of a radius, the norm's main one unless given, that `worst` counts."""
        points = self._at(norm, eps)
        return [point for point in points if ours or str(self.arrays["attack"][point]) in PAPERS_ATTACKS[norm]]

    def worst(self, norm: str, eps: float | None = None, *, ours: bool = False) -> np.ndarray:
        """Which images (N,) are right under every attack that the paper's tables have of a norm, at a radius, the
        norm's main one unless given; with `ours` under every attack made. UserError where there is no such attack.
        """
        points = self.counted(norm, eps, ours=ours)
        if not points:
            radius = "" if eps is None else f" at eps {eps:g}"
            raise UserError(f"attack study {self.name!r} has no such attack in {NORMS[norm]}{radius}; add one, pgd say")
        return np.asarray(np.all([self.robust(point) for point in points], axis=0))

    def _at(self, norm: str, eps: float | None) -> list[int]:
        return self.matching(norm=norm, eps=self.main_eps(norm) if eps is None else eps)

    def method(self, point: int) -> str:
        """An attack and the inference that it attacks, in words."""
        words = [attack_words(self.options(point), self.config), self.inference, confirmed_words(self.config)]
        return "; ".join(filter(None, [*words, f"seed {self.config['seed']}"]))

    @property
    def inference(self) -> str:
        """How the model predicts, in words; empty for a classifier."""
        return inference_words(self.config)

    def false_breaks(self, point: int) -> Estimate | None:
        """The share of the errors that the attacker saw which the inference that judges does not confirm; None without
        any.
        """
        seen = self.seen(point) & self.natural
        return accuracy(self.robust(point)[seen]) if seen.any() else None

    def by_chance(self, point: int) -> Estimate | None:
        """The share of the errors that one fresh inference found which the one that judges does not confirm; None
        without any.
        """
        found = self.chosen(point) & self.natural
        return accuracy(self.robust(point)[found]) if found.any() else None

    @property
    def bound(self) -> np.ndarray | None:
        """ε* (N,), the length below which no L2 change is an error (Eq. 7): NaN where the image is misclassified, 0
        where nothing is proven; None where it was not computed.
        """
        return self.arrays.get("bound")

    @property
    def bound_reason(self) -> list[str]:
        """Why images (N,) have no bound, "" where they have one."""
        found: list[str] = self.arrays["bound_reason"].tolist()
        return found

    @property
    def shown_labels(self) -> np.ndarray:
        """Labels (S,) of the images whose adversarial images are kept."""
        return np.asarray(self.labels[self.arrays["shown"]])

    @property
    def shown_images(self) -> np.ndarray:
        """Natural images (S, C, H, W)."""
        return self.arrays["shown_images"]

    def shown_adversarial(self, point: int) -> np.ndarray:
        """The same images under an attack (S, C, H, W)."""
        return np.asarray(self.arrays["shown_adversarial"][point])

    def shown_predicted(self, point: int) -> np.ndarray:
        """What the model takes these for (S,)."""
        return np.asarray(self.arrays["shown_predicted"][point])

    @property
    def has_examples(self) -> bool:
        """Whether it has an image of each class and its reconstructions, as of autoencoders."""
        return all(name in self.arrays for name in EXAMPLES) and len(self.arrays["example_rows"]) > 0

    def __getitem__(self, name: str) -> np.ndarray:
        """An array of the file: example_images (K', C, H, W), example_reconstructions (K', K, C, H, W), ..."""
        return self.arrays[name]

    @property
    def model(self) -> str:
        """The model's file below the paper's folder, without suffix: the name of its training curve, too."""
        *folders, name = PurePath(self.config["model"]).with_suffix("").parts
        last = max((depth for depth, folder in enumerate(folders) if folder == SLUG), default=len(folders))
        return PurePath(*folders[last + 1 :], name).as_posix()

    @property
    def training(self) -> dict[str, Any]:
        """The recipe that the model's file tells; empty where it tells none."""
        trained: dict[str, Any] = self.config.get("trained") or {}
        return trained

    @property
    def parameters(self) -> dict[str, Any]:
        """The network's options that the model's file tells; empty where the study does not say them."""
        found: dict[str, Any] = self.config.get("parameters") or {}
        return found

    def at(self, rows: np.ndarray) -> Self:
        """The same study of some of its images (rows of them); what is shown of single images stays as it is, without
        the rows that it had.
        """
        if np.array_equal(rows, np.arange(len(self.labels))):
            return self
        arrays = dict(self.arrays)
        for name in (*PER_IMAGE, *CORRECT, *BOUND, "natural_logits"):
            if name in arrays:
                arrays[name] = arrays[name][rows]
        for name in PER_POINT:
            arrays[name] = arrays[name][:, rows]
        for name in (*SHOWN, *EXAMPLES):
            arrays.pop(name, None)
        return type(self)(self.name, arrays)


class Curve:
    """The training curve of an autoencoder, as `train-autoencoder` writes it: one row a check."""

    def __init__(self, name: str, columns: dict[str, np.ndarray]) -> None:
        self.name = name
        self.columns = columns

    def kept(self, column: str, *, best: bool) -> float:
        """A column of the check whose weights were kept: the latest of the best accuracy, or the last."""
        found = self.columns["accuracy"]
        row = int(np.flatnonzero(found == found.max())[-1]) if best else -1
        return float(self.columns[column][row])
