"""Langevin purification as the stages `purify` and `defend` measured it: accuracies, and robustness under attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustgen.errors import UserError
from robustgen.io import PathLike, load_arrays
from robustgen.papers.settings import attack_words, blind_words, short_words
from robustgen.papers.studies import PER_IMAGE, Grid, OfImages, finite, load_grid, same_shape

GRID = ("langevin_steps", "norm", "eps", "draws", "verify")
PURIFICATION = (
    "steps",
    *PER_IMAGE,
    "natural_logits",
    "adversarial_logits",
    "natural_draws",
    "config",
)


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


class Defense(Grid):
    """A defence under Algorithm 1 of Hill et al.: grid points (steps, norm, eps, H_adv, H_def)."""

    COLUMNS = GRID
    ORDER = ("verify", "draws", "langevin_steps")

    def method(self, point: int) -> str:
        """The defence and the attack of a grid point in words."""
        return attack_words(self.config, self.options(point))

    def settings(self, points: Sequence[int]) -> str:
        """What these grid points have in common, in one short line, and the number of images."""
        return f"{short_words(self.config, [self.options(point) for point in points])}, n {len(self.labels)}"


def load_purification(folder: PathLike, name: str) -> Purification:
    """The study `name` of a folder of purification files; UserError where it is missing or incomplete."""
    path = Path(folder) / f"{name}.npz"
    arrays = load_arrays(path, *PURIFICATION)
    steps, images = len(arrays["steps"]), len(arrays["labels"])
    for logits in ("natural_logits", "adversarial_logits"):
        same_shape(path, logits, arrays[logits].shape[:2], (steps, images))
    same_shape(path, "natural_draws", arrays["natural_draws"].shape[:1], (images,))
    finite(path, arrays)
    return Purification(name, arrays)


def load_defense(folder: PathLike, name: str) -> Defense:
    """The study `name` of a folder of defence files, whole or in shards; UserError as `load_grid` raises it."""
    return Defense(name, load_grid(folder, name, GRID))
