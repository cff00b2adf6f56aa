"""Attacks on a classifier with one detector a class, f and H (Yin, Kolouri & Rohde 2020, Sec. 4.2).

z_f and z_h are the logits (N, K) of classifier and detectors, z_h[k] being detector k's (Eq. 13); y (N,) are labels.
Integrated detection predicts k = argmax z_f, generative detection k = argmax z_h; both accept where z_h[k] >= T.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustgen.attacks.ball import Norm
from robustgen.attacks.base import BallAttack, BallOptions
from robustgen.attacks.first_order import Rule, better, check_ascent, climb, climb_best
from robustgen.attacks.objectives import accepted, best_other, cross_entropy, margin
from robustgen.errors import UserError
from robustgen.options import Ratio
from robustgen.protocols import DetectorBank
from robustgen.replicates import check_finite, in_company

Way = Literal["integrated", "generative"]
Values = Callable[[Tensor, Tensor, Tensor], Tensor]  # z_f (N, K), z_h (N, K), y (N,) -> values to raise (N,)

MARGIN = 0.01  # by which a targeted attack wants the predicting network misled before it turns to the detector


def evade_classifier(z_f: Tensor, z_h: Tensor, y: Tensor) -> Tensor:
    """Eq. 12: the best wrong logit of f less that of y; knows nothing of the detectors."""
    del z_h
    return margin(z_f, y)


def evade_detector(z_f: Tensor, z_h: Tensor, y: Tensor) -> Tensor:
    """Eq. 14: the largest logit of a wrong class's detector; knows nothing of f."""
    del z_f
    return best_other(z_h, y)


def combined16(z_f: Tensor, z_h: Tensor, y: Tensor) -> Tensor:
    """Eq. 16: f against Carlini & Wagner's (2017a) classifier g of K + 1 classes, the last for detected images."""
    detected = (1 - best_other(z_h, y)) * z_f.amax(1)  # Eq. 15
    return best_other(z_f, y) - torch.maximum(z_f.amax(1), detected)


def combined17(z_f: Tensor, z_h: Tensor, y: Tensor) -> Tensor:
    """Eq. 17: Eq. 12 while f is right, Eq. 14 where it is wrong; per image."""
    behind = margin(z_f, y)
    return torch.where(behind <= 0, behind, best_other(z_h, y))


def targeted(z: Tensor, logit: Tensor, target: Tensor) -> Tensor:
    """Towards `target` (N,), after Tramèr et al. 2020: first the predicting logits z (N, K), then the detector's (N,).

    Raises the lead of the target in z (z_f of integrated, z_h of generative detection) up to 0.01, and from there on
    `logit`, z_h of the target.
    """
    lead = -margin(z, target)
    return torch.where(lead <= MARGIN, lead, logit)


def candidates(z: Tensor, y: Tensor, count: int | None) -> Tensor:
    """(N, K) bool: the `count` wrong classes of the largest logits z (N, K), of equal ones the first; None: all."""
    wrong = torch.arange(z.shape[1], device=z.device) != y[:, None]
    ranked = z.where(wrong, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(wrong).scatter(1, ranked[:, :count], True) & wrong


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What an attack raises, and against which way of detection it is meant."""

    ways: tuple[Way, ...]  # of restarts, the first finds the best
    value: Values | None  # None: `targeted`, towards one wrong class after another
    needs_classifier: bool  # whether it reads z_f
    needs_detectors: bool = True  # whether it reads z_h


ATTACKS: dict[str, Kind] = {
    "classifier": Kind(  # Eq. 12
        ways=("integrated",), value=evade_classifier, needs_classifier=True, needs_detectors=False
    ),
    "detector": Kind(ways=("generative", "integrated"), value=evade_detector, needs_classifier=False),  # Eq. 14
    "combined16": Kind(ways=("integrated",), value=combined16, needs_classifier=True),
    "combined17": Kind(ways=("integrated",), value=combined17, needs_classifier=True),
    "ce": Kind(  # cross-entropy of z_h (Fig. 8)
        ways=("generative",), value=lambda z_f, z_h, y: cross_entropy(z_h, y), needs_classifier=False
    ),
    "cw": Kind(  # Eq. 12 of z_h (Fig. 8)
        ways=("generative",), value=lambda z_f, z_h, y: margin(z_h, y), needs_classifier=False
    ),
    "multi-integrated": Kind(ways=("integrated",), value=None, needs_classifier=True),  # Tramèr et al. 2020
    "multi-generative": Kind(ways=("generative",), value=None, needs_classifier=False),  # Tramèr et al. 2020
}


def check_attack(name: str) -> None:
    """Raise UserError for the name of no attack."""
    if name not in ATTACKS:
        raise UserError(f"unknown attack {name!r}; known are {', '.join(ATTACKS)}")


def multi_targeted(name: str) -> bool:
    """Whether the attack called `name` climbs to one target after another."""
    return ATTACKS[name].value is None


def check_targets(targets: int | None) -> None:
    """Raise UserError for a number of targets that makes no attack."""
    if targets is not None and targets < 1:
        raise UserError(f"targets is {targets}; give at least 1 wrong class, or leave it out for all")


@dataclass(frozen=True, kw_only=True)
class Options(BallOptions):
    name: str = "combined17"  # one of ATTACKS
    alpha: Ratio = 2 / 255  # length of a step in the norm, or Adam's learning rate, pixel units
    steps: int = 10  # of every climb
    rule: Rule = "steepest"
    restarts: int = 1  # climbs from random starts; of each image the best is kept
    random_start: bool = True  # start uniformly in the ball rather than at the image
    way: Way | None = None  # by whose predictions the best is found; None: the first of the attack's ways
    targets: int | None = None  # wrong classes that a multi-targeted attack climbs to, the likeliest; None: all

    def __post_init__(self) -> None:
        check_attack(self.name)
        super().__post_init__()
        check_ascent(
            norm=self.norm,
            eps=self.eps,
            rule=self.rule,
            steps=self.steps,
            alpha=self.alpha,
            restarts=self.restarts,
            random_start=self.random_start,
        )
        ways = ATTACKS[self.name].ways
        if self.way is not None and self.way not in ways:
            raise UserError(f"{self.name} is an attack on {' and '.join(ways)} detection, not {self.way}")
        check_targets(self.targets)

    @property
    def predictor(self) -> Way:
        """The way of detection by whose predictions the best image is found."""
        return self.way or ATTACKS[self.name].ways[0]


class Networks(nn.Module):
    """f and H, held together."""

    def __init__(self, classifier: nn.Module, detectors: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.detectors = detectors


class Column(nn.Module):
    """Output k of a network: images (N, C, H, W) -> (N, 1)."""

    def __init__(self, network: nn.Module, k: int) -> None:
        super().__init__()
        self.network, self.k = network, k

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits[:, self.k : self.k + 1]


class DetectionAttack(BallAttack):
    """The attacks of 'GAT: Generative Adversarial Training' (Sec. 4.2), and Tramèr et al.'s (arXiv 2002.08347) on it.

    `name` is one of ATTACKS. The paper's own return their last iterate, of several restarts the one of the largest
    `accepted`. The multi-targeted ones climb towards every wrong class, or the `targets` of the largest predicting
    logits at x, and return the image of the largest `accepted` among x itself and those iterates, of all targets and
    restarts, that are taken for their target.
    L∞ and L2. Options: eps, alpha (pixel units), norm, steps, rule, restarts, random_start, way, targets, seed.
    Example: `DetectionAttack("combined17", f, H, norm="linf", eps=0.3, alpha=0.01, steps=100)(images, labels)`.
    """

    Options = Options

    def __init__(
        self,
        name: str,
        classifier: nn.Module,
        detectors: nn.Module,
        *,
        norm: Norm,
        eps: float,
        alpha: float,
        steps: int,
        **options: Any,
    ) -> None:
        labels = tuple(getattr(detectors, "labels", ()))
        classes = getattr(getattr(detectors, "config", None), "classes", len(labels))
        if labels and labels != tuple(range(classes)):
            raise UserError(
                f"an attack needs a detector of each of {classes} classes, and these are of {labels}; load them all"
            )
        chosen = {"name": name, "norm": norm, "eps": eps, "alpha": alpha, "steps": steps, **options}
        super().__init__(Networks(classifier, detectors), **chosen)
        self.kind = ATTACKS[name]

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.model.classifier, self.model.detectors)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        run = self._all_targets if self.kind.value is None else self._last
        adversarial, score = run(x, y)
        for _ in range(1, self.options.restarts):
            adversarial, score = better(adversarial, score, *run(x, y))
        return adversarial

    def _last(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One climb's last iterate, and what is accepted of it."""
        value = self.kind.value
        assert value is not None
        images = climb(lambda there: value(*self._read(there), y), x, **self._climb(x))
        with torch.no_grad():
            return images, self._accepted(images, y)

    def _all_targets(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The most accepted of x and of what one climb a target makes, and its logit."""
        with torch.no_grad():
            best, score = x.clone(), self._accepted(x, y)
            chosen = candidates(self._predicting(x), y, self.options.targets)
        for target in range(chosen.shape[1]):
            rows = chosen[:, target].nonzero().flatten()
            settings = self._climb(x, rows)
            if len(rows):
                objective = partial(self._towards, target=target, detector=self._detector(target))
                found = climb_best(objective, x[rows], **settings)
                best[rows], score[rows] = better(best[rows], score[rows], *found)
        return best, score

    def _towards(self, images: Tensor, target: int, detector: nn.Module | None) -> tuple[Tensor, Tensor]:
        """What a climb raises (N,), and the target's logit (N,), −inf where the image is taken for another class."""
        if detector is None:
            z = in_company(self.model.detectors, images)
            logit = z[:, target]
        else:
            z, logit = in_company(self.model.classifier, images), in_company(detector, images)[:, 0]
        score = logit.detach().masked_fill(z.argmax(1) != target, -torch.inf)
        return targeted(z, logit, torch.full_like(z.argmax(1), target)), score

    def _detector(self, target: int) -> nn.Module | None:
        """The one detector that a climb against integrated detection reads; None against generative: it reads all."""
        if self.options.predictor == "generative":
            return None
        detectors = self.model.detectors
        return detectors.member(target) if isinstance(detectors, DetectorBank) else Column(detectors, target)

    def _read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """z_f and z_h as far as the attack reads them; empty where it does not."""
        nothing = images.new_empty(0)
        z_f = in_company(self.model.classifier, images) if self.kind.needs_classifier else nothing
        z_h = in_company(self.model.detectors, images) if self.kind.needs_detectors else nothing
        return z_f, z_h

    def _predicting(self, images: Tensor) -> Tensor:
        """The logits (N, K) by which the attacked way of detection predicts."""
        integrated = self.options.predictor == "integrated"
        return in_company(self.model.classifier if integrated else self.model.detectors, images)

    def _accepted(self, images: Tensor, y: Tensor) -> Tensor:
        """What is accepted of images; UserError where logits are not finite."""
        z = z_h = in_company(self.model.detectors, images)
        if self.options.predictor == "integrated":
            z = in_company(self.model.classifier, images)
        check_finite(torch.cat([z, z_h], 1), "logits under attack", "; train the attacked networks again")
        return accepted(z, z_h, y)

    def _climb(self, x: Tensor, rows: Tensor | None = None) -> dict[str, Any]:
        """The settings of a climb from x, or from some rows of it; all images draw, whoever keeps them company."""
        o = self.options
        start = self.uniform_start(x) if o.random_start else None
        start = start if start is None or rows is None else start[rows]
        return {"ball": self.ball, "alpha": o.alpha, "steps": o.steps, "rule": o.rule, "start": start}
