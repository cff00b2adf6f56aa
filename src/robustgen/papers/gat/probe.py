"""Detectors attacked one by one: which images count, areas under ROC curves, and which attack is which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robustgen.evaluation.auc_difference import Ranking
from robustgen.evaluation.statistics import Estimate, auc
from robustgen.papers.gat.study import OfModels
from robustgen.papers.gat.words import attack_words

PROBE = ("norm", "eps", "rule", "steps", "alpha", "restarts", "starts")  # (G,)


class Probe(OfModels):
    """Detectors (L,), each attacked on its own at grid points (G,): the logit of each at the images made against it."""

    @property
    def points(self) -> int:
        return len(self.arrays["eps"])

    @property
    def detectors(self) -> list[int]:
        """Their labels, ascending; position 0 is the paper's d1."""
        found: list[int] = self.arrays["detectors"].tolist()
        return found

    def options(self, point: int) -> dict[str, Any]:
        """What tells a grid point from the others."""
        return {name: self.arrays[name][point].item() for name in PROBE}

    @property
    def ball(self) -> tuple[str, float]:
        """Norm and radius that the detectors were trained against; where their file tells none, of the first attack."""
        told = self.training.get("adversary") or self.options(0)
        return str(told["norm"]), float(told["eps"])

    def matching(self, **wanted: object) -> list[int]:
        """The grid points with these options, in the file's order; numbers compare up to 1e-6 of themselves."""
        return [point for point in range(self.points) if _alike(self.options(point), wanted)]

    def positive(self, position: int) -> np.ndarray:
        """D_k^f: which images (N,) the classifier takes for the detector's class."""
        return np.asarray(self.arrays["predicted"] == self.detectors[position])

    def negative(self, position: int) -> np.ndarray:
        """D_∖k^f: which images (N,) are neither of the class nor taken for it."""
        return np.asarray((self.labels != self.detectors[position]) & ~self.positive(position))

    def natural(self, position: int) -> np.ndarray:
        """Logits (N,) of a detector at the natural images."""
        return np.asarray(self.arrays["natural"][:, position])

    def attacked(self, point: int, position: int) -> np.ndarray:
        """Logits (N,) of a detector at the images made against it."""
        return np.asarray(self.arrays["adversarial"][point, :, position])

    def area(self, point: int | None, position: int) -> Estimate:
        """AUC of Sec. 4.1: clean images of D_k^f above attacked ones of D_∖k^f; `point` None: above natural ones."""
        of_others = self.natural(position) if point is None else self.attacked(point, position)
        return auc(self.natural(position)[self.positive(position)], of_others[self.negative(position)])

    @property
    def usable(self) -> list[int]:
        """The positions that have positive and negative images."""
        return [k for k in range(len(self.detectors)) if self.positive(k).any() and self.negative(k).any()]

    def ranking(self, point: int | None, positions: Sequence[int], rows: np.ndarray | None = None) -> Ranking:
        """The scores and sets behind `area` of several positions, of the images `rows` (all of them if None)."""
        chosen = slice(None) if rows is None else rows
        natural = np.stack([self.natural(k) for k in positions], axis=1)
        attacked = natural if point is None else np.stack([self.attacked(point, k) for k in positions], axis=1)
        return Ranking(
            natural=natural[chosen],
            attacked=attacked[chosen],
            positive=np.stack([self.positive(k) for k in positions], axis=1)[chosen],
            negative=np.stack([self.negative(k) for k in positions], axis=1)[chosen],
        )

    def fixed(self, rule: str | None = None) -> list[int]:
        """Attacks in the training's ball that begin at the image, by a rule, in the file's order."""
        norm, eps = self.ball
        return self.matching(norm=norm, eps=eps, starts="image", **({"rule": rule} if rule else {}))

    def short(self, rule: str | None = None) -> int | None:
        """The one of them with the fewest and largest updates."""
        return min(self.fixed(rule), key=self._fineness, default=None)

    def long(self, rule: str | None = None) -> int | None:
        """The one with the most and smallest updates; None where there is no second one."""
        found = self.fixed(rule)
        return max(found, key=self._fineness) if len(found) > 1 else None

    def own(self) -> int | None:
        """The attack from the image with the training's ball, rule, steps and step size; None where it was not made."""
        adversary = self.training.get("adversary")
        if not adversary:
            return None
        wanted = {name: adversary[name] for name in ("norm", "eps", "rule", "steps", "alpha")}
        return next(iter(self.matching(**wanted, starts="image")), None)

    def restarted(self) -> tuple[int, int] | None:
        """An attack from random points, the one with the most restarts, and the same one from the image."""
        norm, eps = self.ball
        random = self.matching(norm=norm, eps=eps, starts="random")
        for point in sorted(random, key=lambda g: -int(self.arrays["restarts"][g])):
            same = {name: self.options(point)[name] for name in ("norm", "eps", "rule", "steps", "alpha")}
            if fixed := self.matching(**same, starts="image"):
                return point, fixed[0]
        return None

    def under(self, norm: str, eps: float) -> int | None:
        """The attack from the image in a ball, the one with the fewest updates."""
        return min(self.matching(norm=norm, eps=eps, starts="image"), key=self._fineness, default=None)

    def _fineness(self, point: int) -> tuple[int, float]:
        return int(self.arrays["steps"][point]), -float(self.arrays["alpha"][point])

    def method(self, point: int | None) -> str:
        """The attack of a grid point and whose detectors, in words."""
        words = (
            "natural images" if point is None else f"PGD on the detector's logit, {attack_words(self.options(point))}"
        )
        return f"{words}; detectors: {self.trained or self.name}; seed {self.config.get('seed', 0)}"


def _alike(options: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(
        np.isclose(options[name], value, rtol=1e-6, atol=1e-9) if isinstance(value, float) else options[name] == value
        for name, value in wanted.items()
    )
