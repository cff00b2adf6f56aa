"""What the stages measured of GAT: detectors under attack, detection, distortion, images, densities, histories."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustgen.defenses.threshold import accepting_threshold
from robustgen.errors import UserError
from robustgen.evaluation.detection import accepted_logits, decide
from robustgen.papers.gat.words import ATTACKS, BUDGET, MULTI, RULES, SHARE, attack_words
from robustgen.papers.studies import OfImages, Study, accuracy
from robustgen.papers.words import plural

DETECTION = ("attack", "norm", "eps", "steps", "alpha")  # (G,)
GAT, NATURAL = "gat", "natural"  # kinds of a density study
share = accuracy  # for which something else than being right is so


class OfModels(OfImages):
    """A study whose file tells how its models were trained."""

    @property
    def training(self) -> dict[str, Any]:
        """The recipe that the first of the models' files tells; empty where it tells none."""
        files = self.config.get("trained") or [{}]
        recipe: dict[str, Any] = files[0].get("training") or {}
        return recipe

    @property
    def trained(self) -> str:
        """The adversary that the models were trained against, in words; empty where their file does not tell."""
        adversary = self.training.get("adversary")
        if not adversary:
            return ""
        if not adversary["eps"]:
            return "trained on natural images"
        return f"trained with {attack_words({'norm': 'linf', **adversary})}"  # a classifier's may name no norm


class Detection(OfModels):
    """A classifier f with its detectors H under attacks at grid points (G,), and a softmax rival."""

    @property
    def radii(self) -> list[float]:
        """The radii, ascending, without the 0 of a control."""
        found: list[float] = np.unique(self.arrays["eps"][self.arrays["eps"] > 0]).tolist()
        return found

    def at(self, eps: float) -> dict[str, int]:
        """The grid point of every attack that was made with a radius, in the order of ATTACKS."""
        there = {str(self.arrays["attack"][point]): point for point in np.flatnonzero(self._near(eps)).tolist()}
        return {name: there[name] for name in ATTACKS if name in there}

    def attacks(self, eps: float) -> list[str]:
        """The attacks that were made with a radius, in the order of ATTACKS."""
        return list(self.at(eps))

    def point(self, attack: str, eps: float) -> int | None:
        """The grid point of an attack; None where it was not made."""
        return self.at(eps).get(attack)

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

    def strongest(self, way: str, eps: float) -> np.ndarray:
        """The largest accepted logit (N,) over all attacks of a radius, image by image, whichever way they were made
        for.
        """
        points = self._made(eps).values()
        return np.asarray(np.max([self.accepted(way, point) for point in points], axis=0))

    def _made(self, eps: float) -> dict[str, int]:
        found = self.at(eps)
        if not found:
            raise UserError(
                f"detection study {self.name!r} has no attack of radius {eps:g}; add it to eps of its "
                f"defend-detectors run, which has {', '.join(f'{radius:g}' for radius in self.radii) or 'none'}"
            )
        return found

    def right(self, way: str) -> np.ndarray:
        """Logit (N,) of rightly predicted natural images, −inf where the prediction is wrong (Eq. 18)."""
        predicted, logit = self.natural(way)
        return np.where(predicted == self.labels, logit, -np.inf)

    def threshold(self, way: str, share: float = SHARE) -> float:
        """T that accepts at least `share` of the validation images."""
        _, logit = self._decided(way, "validation_classifier", "validation_detector")
        return float(accepting_threshold(logit, share))

    def budget_threshold(self, way: str, budget: float = BUDGET) -> float:
        """The largest T at which the standard accuracy (Eq. 18) on the validation images is at most `budget` below
        its maximum, the accuracy without rejection (Tramèr et al. 2020); ∞ where that is no more than the budget.
        """
        predicted, logit = self._decided(way, "validation_classifier", "validation_detector")
        right = logit[predicted == self.arrays["validation_labels"]]
        kept = len(right) - budget * len(logit)
        return float(accepting_threshold(right, kept / len(right))) if kept > 0 else float("inf")

    @property
    def validated(self) -> int:
        """The number of validation images."""
        return len(self.arrays["validation_labels"])

    def passing(self, way: str, eps: float, attack: str | None) -> np.ndarray:
        """Which images (N,) an attack, or any (None), brings past the threshold of SHARE, wrongly predicted."""
        if attack is None:
            return np.asarray(self.strongest(way, eps) >= self.threshold(way))
        found = self._made(eps)
        if attack not in found:
            raise UserError(
                f"detection study {self.name!r} has no attack {attack} of radius {eps:g}; add it to attacks of its "
                f"defend-detectors run, which has {', '.join(found)}"
            )
        return np.asarray(self.accepted(way, found[attack]) >= self.threshold(way))

    @property
    def rival_right(self) -> np.ndarray:
        """Which natural images (N,) the softmax rival has right."""
        return np.asarray(self.arrays["rival_correct"], dtype=bool)

    def rival_wrong(self, eps: float) -> np.ndarray:
        """Which images (N,) the rival has wrong, naturally or under PGD of one of the radii (Eq. 20)."""
        found = np.flatnonzero(np.isclose(self.arrays["rival_eps"], eps, rtol=1e-6, atol=1e-9))
        if not len(found):
            raise UserError(f"detection study {self.name!r} has no rival under attack of radius {eps:g}; make it again")
        return ~np.asarray(self.arrays["rival_robust"][int(found[0])], dtype=bool)

    def options(self, point: int) -> dict[str, Any]:
        """What tells a grid point from the others."""
        return {name: self.arrays[name][point].item() for name in DETECTION}

    def settings(self, eps: float) -> str:
        """The settings that the attacks of a radius share, in words; `method` tells where one has its own."""
        return self._words(next(iter(self._made(eps).values())))

    def method(self, point: int) -> str:
        """The settings of an attack, and how many classes a multi-targeted one climbs to, in words."""
        if str(self.arrays["attack"][point]) not in MULTI.values():
            return self._words(point)
        targets = self.config.get("targets")
        towards = "every wrong class" if targets is None else f"each of the likeliest wrong classes, {targets} an image"
        return f"{self._words(point)}, towards {towards}"

    def _words(self, point: int) -> str:
        config = self.config
        start = "random" if config["random_start"] else "image"
        begun = {"rule": config["rule"], "restarts": config["restarts"], "starts": start}
        return f"{attack_words(self.options(point) | begun)}, seed {config['seed']}"


class Distortion(OfModels):
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
        search = self.config["search"]
        accepted = f"threshold {self.threshold:.4g} accepts {float(self.arrays['validation_share']):.1%} of validation"
        how = f"{plural(search['steps'], 'update')} of {search['alpha']:.4g} by {RULES[search['rule']]} for each c"
        return f"{accepted} images; {plural(search['depth'], 'bisection')} of c up to {search['c_high']:g}, {how}"


class Synthesis(OfModels):
    """Natural, shifted, generated and noise images of one model, their logits, and what a judge takes them for."""

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

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
        return [attack_words(dict(zip(columns, row, strict=True)) | {"rule": self.config["rule"]}) for row in rows]

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
        steps, alpha = c["generate_steps"], c["generate_alpha"]
        return (
            f"from class Gaussians, {attack_words({'norm': 'l2', 'eps': c['radius'], 'steps': steps, 'alpha': alpha})}"
        )

    @property
    def climber(self) -> str:
        """How white noise was moved, in words."""
        steps, alpha = int(self.arrays["noise_steps"][-1]), self.config["noise_alpha"]
        return f"{plural(steps, 'update')} of L2 length {alpha:g}, by normalised steepest ascent"


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
        words = [f"{name} {self.config[name]:g}" for name in names]
        return ", ".join([*words, plural(len(self.arrays["seeds"]), "seed")])

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
