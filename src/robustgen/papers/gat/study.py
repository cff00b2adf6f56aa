"""What the stages measured of GAT: detectors under attack, detection, distortion, images, densities, histories."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustgen.defenses.detectors.threshold import accepting_threshold
from robustgen.errors import UserError
from robustgen.evaluation.detection import accepted_logits, decide
from robustgen.evaluation.statistics import Estimate, proportion
from robustgen.papers.gat.words import ATTACKS, RULES, SHARE, attack_words
from robustgen.papers.studies import OfImages, Study
from robustgen.papers.words import plural

DETECTION = ("attack", "norm", "eps", "steps", "alpha")  # (G,)
GAT, NATURAL = "gat", "natural"  # kinds of a density study


class Detection(OfImages):
    """A classifier f with its detectors H under attacks at grid points (G,), and a softmax rival."""

    @property
    def points(self) -> int:
        return len(self.arrays["eps"])

    @property
    def radii(self) -> list[float]:
        """The radii, ascending, without the 0 of a control."""
        found: list[float] = np.unique(self.arrays["eps"][self.arrays["eps"] > 0]).tolist()
        return found

    def attacks(self, eps: float) -> list[str]:
        """The attacks that were made with a radius, in the order of ATTACKS."""
        there = set(self.arrays["attack"][self._near(eps)].tolist())
        return [name for name in ATTACKS if name in there]

    def point(self, attack: str, eps: float) -> int | None:
        """The grid point of an attack; None where it was not made."""
        found = np.flatnonzero(self._near(eps) & (self.arrays["attack"] == attack))
        return int(found[0]) if len(found) else None

    def _near(self, eps: float) -> np.ndarray:
        return np.asarray(np.isclose(self.arrays["eps"], eps, rtol=1e-6, atol=1e-9))

    def natural(self, way: str) -> tuple[np.ndarray, np.ndarray]:
        """Predicted class (N,) of the natural images and its detector's logit (N,), by one of WAYS."""
        return self._decided(way, "natural_classifier", "natural_detector")

    def attacked(self, way: str, point: int) -> tuple[np.ndarray, np.ndarray]:
        """The same of the images of a grid point."""
        return self._decided(way, "classifier_logits", "detector_logits", point)

    def _decided(self, way: str, classifier: str, detector: str, *point: int) -> tuple[np.ndarray, np.ndarray]:
        logits, scores = (self.arrays[name][point] for name in (classifier, detector))
        predicted, logit = decide(logits if way == "integrated" else scores, scores)
        return np.asarray(predicted), np.asarray(logit)

    def accepted(self, way: str, point: int) -> np.ndarray:
        """Logit (N,) of wrongly predicted images, −inf where the prediction is right: every threshold that is not
        above it lets the image pass (Eqs. 11 and 19).
        """
        return accepted_logits(*self.attacked(way, point), self.labels)

    def strongest(self, way: str, eps: float, *, papers: bool = False) -> np.ndarray:
        """The largest accepted logit (N,) over all attacks of a radius, image by image, whichever way they were made
        for; `papers`: over those alone that the paper has.
        """
        points = [
            point
            for point in np.flatnonzero(self._near(eps)).tolist()
            if not papers or ATTACKS[str(self.arrays["attack"][point])].papers
        ]
        if not points:
            raise UserError(f"detection study {self.name!r} has no attack of radius {eps:g}; add it to its options")
        return np.asarray(np.max([self.accepted(way, point) for point in points], axis=0))

    def right(self, way: str) -> np.ndarray:
        """Logit (N,) of rightly predicted natural images, −inf where the prediction is wrong (Eq. 18)."""
        predicted, logit = self.natural(way)
        return np.where(predicted == self.labels, logit, -np.inf)

    def threshold(self, way: str, share: float = SHARE) -> float:
        """T that accepts at least `share` of the validation images."""
        _, logit = self._decided(way, "validation_classifier", "validation_detector")
        return float(accepting_threshold(logit, share))

    @property
    def validated(self) -> int:
        """The number of validation images."""
        return len(self.arrays["validation_labels"])

    def passing(self, way: str, eps: float, attack: str | None) -> np.ndarray:
        """Which images (N,) an attack, or any (None), brings past the threshold of SHARE, wrongly predicted."""
        if attack is None:
            return np.asarray(self.strongest(way, eps) >= self.threshold(way))
        point = self.point(attack, eps)
        if point is None:
            raise UserError(f"detection study {self.name!r} has no attack {attack} of radius {eps:g}")
        return np.asarray(self.accepted(way, point) >= self.threshold(way))

    @property
    def rival_right(self) -> np.ndarray | None:
        """Which natural images (N,) the softmax rival has right; None without one."""
        return np.asarray(self.arrays["rival_correct"], dtype=bool) if len(self.arrays["rival_eps"]) else None

    def rival_wrong(self, eps: float) -> np.ndarray | None:
        """Which images (N,) the rival has wrong, naturally or under PGD of that radius (Eq. 20); None: not run."""
        found = np.flatnonzero(np.isclose(self.arrays["rival_eps"], eps, rtol=1e-6, atol=1e-9))
        return ~np.asarray(self.arrays["rival_robust"][int(found[0])], dtype=bool) if len(found) else None

    def options(self, point: int) -> dict[str, Any]:
        """What tells a grid point from the others."""
        return {name: self.arrays[name][point].item() for name in DETECTION}

    def settings(self, eps: float) -> str:
        """The settings that the attacks of a radius share, in words."""
        points = np.flatnonzero(self._near(eps))
        if not len(points):
            return f"eps {eps:g}"
        config = self.config
        start = "random" if config.get("random_start", True) else "image"
        begun = {"rule": config.get("rule", "adam"), "restarts": config.get("restarts", 1), "starts": start}
        return f"{attack_words(self.options(int(points[0])) | begun)}, seed {config.get('seed', 0)}"


class Distortion(OfImages):
    """The least L2 distance (N,) at which the generative classifier accepts an image of another class (Appendix B)."""

    @property
    def distance(self) -> np.ndarray:
        """inf where the search found none."""
        return self.arrays["distance"]

    @property
    def reached(self) -> np.ndarray:
        """Which images (N,) became false positives."""
        return np.asarray(np.isfinite(self.distance))

    @property
    def threshold(self) -> float:
        return float(self.arrays["threshold"])

    @property
    def method(self) -> str:
        """The threshold and the search, in words."""
        search = self.config.get("search", {})
        accepted = f"threshold {self.threshold:.4g} accepts {float(self.arrays['validation_share']):.1%} of validation"
        if not search:
            return f"{accepted} images"
        rule = RULES.get(str(search.get("rule", "")), "PGD")
        how = f"{plural(int(search['steps']), 'update')} of {search['alpha']:.4g} by {rule} for each c"
        return f"{accepted} images; {plural(int(search['depth']), 'bisection')} of c up to {search['c_high']:g}, {how}"


class Synthesis(OfImages):
    """Natural, shifted, generated and noise images of one model, their logits, and what a judge takes them for."""

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @property
    def kind(self) -> str:
        """ "detectors" or "softmax"."""
        return str(self.arrays["kind"])

    @property
    def targets(self) -> list[int]:
        """The label of every output."""
        found: list[int] = self.arrays["model_labels"].tolist()
        return found

    def has(self, part: str) -> bool:
        """Whether it has a part: "natural", "shifted", "generated" or "noise"."""
        return self.arrays[part].size > 0

    @property
    def shifts(self) -> list[str]:
        """The settings of the targeted attacks, in words."""
        columns = ("norm", "eps", "steps", "alpha")
        rows = zip(*(self.arrays[f"shift_{name}"].tolist() for name in columns), strict=True)
        rule = self.config.get("rule", "steepest")
        return [attack_words(dict(zip(columns, row, strict=True)) | {"rule": rule}) for row in rows]

    def of_other_classes(self) -> np.ndarray:
        """Which images (L, M) are not of the target's class."""
        return np.asarray(self.arrays["image_labels"][None] != self.arrays["model_labels"][:, None])

    def alike(self, part: str) -> np.ndarray:
        """Which images of an array of judgements ("shifted_judged" (S, L, M), "generated_nearest" (L, G), ...) are
        taken for the target.
        """
        judged = self.arrays[part]
        targets = self.arrays["model_labels"][:, None]
        return np.asarray(judged == (targets[None] if judged.ndim == 3 else targets))

    @property
    def generator(self) -> str:
        """How images were generated, in words."""
        c = self.config
        if "radius" not in c:
            return "from class Gaussians"
        steps, alpha = int(c.get("generate_steps", 0)), float(c.get("generate_alpha", 0))
        return (
            f"from class Gaussians, {attack_words({'norm': 'l2', 'eps': c['radius'], 'steps': steps, 'alpha': alpha})}"
        )

    @property
    def climber(self) -> str:
        """How white noise was moved, in words."""
        steps, alpha = int(self.arrays["noise_steps"][-1]), self.config.get("noise_alpha")
        return f"{plural(steps, 'update')} of L2 length {alpha:g}, by normalised steepest ascent" if alpha else ""


class Density(Study):
    """Densities of synthetic problems as two kinds of training found them, over seeds."""

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @property
    def problems(self) -> list[str]:
        found: list[str] = self.arrays["problems"].tolist()
        return found

    @property
    def settings(self) -> str:
        """The adversary and the seeds, in words."""
        names = ("eps", "steps", "alpha", "updates", "batch", "hidden", "layers")
        found = {**self.config, **self.config.get("recipe", {})}
        words = [f"{name} {found[name]:g}" for name in names if name in found]
        return ", ".join([*words, f"{len(self.arrays['seeds'])} seeds"])

    def kind(self, name: str) -> int:
        """The position of "gat" or "natural"."""
        return int(self.arrays["kinds"].tolist().index(name))

    def distance(self, kind: str, problem: str | None = None) -> np.ndarray:
        """Total variation to the target, of every seed (S,), or problem and seed (P, S)."""
        found = self.arrays["distance"][..., self.kind(kind)]
        return np.asarray(found if problem is None else found[self.problems.index(problem)])


class Curve:
    """The training history of detectors: one row a check and detector."""

    def __init__(self, name: str, columns: dict[str, np.ndarray]) -> None:
        self.name = name
        self.columns = columns

    @property
    def detectors(self) -> list[int]:
        found: list[int] = np.unique(self.columns["detector"]).astype(int).tolist()
        return found

    def of(self, detector: int, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Updates and one column of CURVE of a detector, in order."""
        mine = self.columns["detector"] == detector
        return self.columns["update"][mine], self.columns[column][mine]


def share(which: np.ndarray) -> Estimate:
    """The share of images (N,) for which something is so, with its exact interval."""
    return proportion(int(which.sum()), len(which))
