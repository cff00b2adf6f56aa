"""Figures 3, 5, 8 and 10: how many attacked images pass where how many natural ones do, at every threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.detection import rates
from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import ATTACKED, GREY, NATURAL, OTHER, TRAINED, absent
from robustgen.papers.gat.figures.shared import Line, rare_axis
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import Detection, share
from robustgen.papers.gat.words import (
    ATTACKS,
    LOSSES,
    MADE_FOR,
    MULTI,
    PAPERS_STRONGEST,
    SHARE,
    SOFTMAX,
    WAYS,
    WORST,
    length,
    radius_words,
)
from robustgen.papers.tiles import UNBROKEN, title
from robustgen.papers.words import plural

LEVELS = 41  # thresholds of a curve, at even shares of natural images
COLOURS = {
    "classifier": ATTACKED,
    "detector": NATURAL,
    "combined16": "#e08214",
    "combined17": "#000000",
    "ce": TRAINED,
    "cw": "#e08214",
    "multi-integrated": OTHER,
    "multi-generative": OTHER,
}
STYLES = {"integrated": "-", "generative": "--"}
WORST_STYLES = {"integrated": "--", "generative": ":"}
HEADER = (
    "panel",
    "detection",
    "attack",
    "eps",
    "threshold",
    "natural",
    "attacked",
    "low",
    "high",
    "n",
    "drawn",
    "settings",
)
LOSS_STYLES = dict(zip(LOSSES, ("-", "--", ":"), strict=True))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a panel; `attack` None: image by image the worst of all."""

    way: str
    attack: str | None
    colour: str
    style: str

    @property
    def name(self) -> str:
        return f"{self.way}, {WORST if self.attack is None else ATTACKS[self.attack]}"


def mnist(path: Path, found: Measured) -> None:
    """Figure 3: detection and classification of the detectors trained from scratch."""
    _both(path, found.mnist.detection, "attacks on the detectors of the first section")


def cifar(path: Path, found: Measured) -> None:
    """Figure 5: the same of the detectors fine-tuned from the classifier."""
    _both(path, found.cifar.detection, "attacks on the detectors of the second section")


def mnist_losses(path: Path, found: Measured) -> None:
    """Figure 8: generative detection and classification under attacks with different loss functions."""
    _losses(path, found.mnist.detection, "attacks with other losses on the detectors of the first section")


def cifar_losses(path: Path, found: Measured) -> None:
    """Figure 10: the same of the detectors fine-tuned from the classifier."""
    _losses(path, found.cifar.detection, "attacks with other losses on the detectors of the second section")


def _both(path: Path, study: Detection | None, what: str) -> None:
    """Left: TPR against FPR under every attack. Then a panel a radius: accuracy against error, and the rival."""
    if study is None or not study.radii:
        absent(path, HEADER, what)
        return
    radii = study.radii if len(study.radii) < 3 else [study.radii[0], study.radii[-1]]
    table: list[Line] = []
    with figure(path, 3.15 * (1 + len(radii)), 4.9) as made:
        panels = made.subplots(1, 1 + len(radii), squeeze=False)[0]
        table += _panel(panels[0], study, radii[0], _attacks(study, radii[0]), "detection")
        for axes, eps in zip(panels[1:], radii, strict=True):
            table += _panel(axes, study, eps, _strongest(study, eps), "classification")
            table += _rival(axes, study, eps)
        for axes in panels:
            _legend(axes)
    save_csv(f"{path}.csv", HEADER, table)


def _losses(path: Path, study: Detection | None, what: str) -> None:
    there = study.attacks(study.radii[0]) if study is not None and study.radii else []
    losses = [name for name in LOSSES if name in there]
    if study is None or not losses:
        absent(path, HEADER, what)
        return
    eps = study.radii[0]
    curves = [Curve(way="generative", attack=a, colour=COLOURS[a], style=LOSS_STYLES[a]) for a in losses]
    table: list[Line] = []
    with figure(path, 6.8, 4.4) as made:
        for axes, panel in zip(made.subplots(1, 2), ("detection", "classification"), strict=True):
            table += _panel(axes, study, eps, curves, panel)
            _legend(axes)
    save_csv(f"{path}.csv", HEADER, table)


def _attacks(study: Detection, eps: float) -> list[Curve]:
    """The attacks that were made for each way of detection; those with other losses are in figures of their own."""
    there = [name for name in study.attacks(eps) if name not in LOSSES[1:]]
    return [
        Curve(way=way, attack=name, colour=COLOURS[name], style=STYLES[way])
        for way in WAYS
        for name in there
        if name in MADE_FOR[way]
    ]


def _strongest(study: Detection, eps: float) -> list[Curve]:
    """For each way of detection the attack that the paper classifies under, and the worst of all."""
    there = study.attacks(eps)
    colours = {"integrated": (NATURAL, "#4393c3"), "generative": (TRAINED, "#5aae61")}
    return [
        Curve(way=way, attack=attack, colour=colour, style=style)
        for way in WAYS
        for attack, colour, style in zip(
            (PAPERS_STRONGEST[way], None), colours[way], ("-", WORST_STYLES[way]), strict=True
        )
        if attack is None or attack in there
    ]


def _panel(axes: Any, study: Detection, eps: float, curves: Sequence[Curve], panel: str) -> list[Line]:
    """Lines through LEVELS thresholds in percent; a point with its interval where 95 % of validation images pass."""
    table: list[Line] = []
    n = len(study.labels)
    for curve in curves:
        natural = study.natural(curve.way)[1] if panel == "detection" else study.right(curve.way)
        passed = _passed(study, eps, curve)
        thresholds = levels(natural, passed)
        up, across = falling(natural, thresholds), falling(passed, thresholds)
        axes.plot(100 * across, 100 * up, curve.style, color=curve.colour, lw=1.4, label=curve.name, clip_on=False)
        limit = study.threshold(curve.way)
        _point(axes, passed >= limit, natural >= limit, curve.colour, "o")
        table += [_line(study, panel, curve, eps, t, natural, passed, "curve") for t in thresholds]
        table.append(_line(study, panel, curve, eps, limit, natural, passed, "point"))
    rare_axis(axes, n, "FPR, % of attacked images" if panel == "detection" else "error, % of attacked images")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("TPR, % of natural images" if panel == "detection" else "standard accuracy, %")
    words = _settings(study, eps, curves) if panel == "detection" else radius_words(str(study.arrays["norm"][0]), eps)
    title(axes, f"{panel}: {words}\nn{UNBROKEN}={UNBROKEN}{n}; point: T of {100 * SHARE:g} % of validation", 2.8)
    return table


def _settings(study: Detection, eps: float, curves: Sequence[Curve]) -> str:
    """What the attacks of the curves share, and the steps of the multi-targeted ones where these have their own."""
    points = study.at(eps)
    multi = [study.options(points[name]) for name in MULTI.values() if name in {curve.attack for curve in curves}]
    steps = [f"{plural(each['steps'], 'update')} of {length(each['norm'], each['alpha'])}" for each in multi]
    shared = study.settings(eps)
    return "; ".join(
        [shared, *(f"multi-targeted: {own}" for own in dict.fromkeys(steps) if own not in shared.split(", "))]
    )


def _passed(study: Detection, eps: float, curve: Curve) -> np.ndarray:
    if curve.attack is None:
        return study.strongest(curve.way, eps)
    return study.accepted(curve.way, study.at(eps)[curve.attack])


def levels(natural: np.ndarray, passed: np.ndarray) -> np.ndarray:
    """Thresholds, falling: above all logits, LEVELS of the natural ones (N,), and below all that is not −inf."""
    finite = np.sort(natural[np.isfinite(natural)])[::-1]
    everything = np.concatenate([finite, passed[np.isfinite(passed)], [0.0]])
    ranks = np.linspace(0, max(len(finite) - 1, 0), min(LEVELS, len(finite))).round().astype(int)
    return np.concatenate([[everything.max() + 1], finite[ranks], [everything.min() - 1]])


def falling(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of values (N,), −inf among them, that reach each of the thresholds (M,)."""
    any_class = np.zeros(len(values), np.int64)
    return rates(any_class, values, any_class, thresholds).accepted


def _point(axes: Any, passed: np.ndarray, natural: np.ndarray, colour: str, marker: str, label: str = "") -> None:
    """A point in percent with exact 95 % intervals either way."""
    x, y = share(passed), share(natural)
    axes.plot(100 * x.value, 100 * y.value, marker, color=colour, ms=7 if marker == "X" else 4.5, mew=0,
              label=label or None, clip_on=False, zorder=3)  # fmt: skip
    across, up = ([[100 * (e.value - e.low)], [100 * (e.high - e.value)]] for e in (x, y))
    axes.errorbar(100 * x.value, 100 * y.value, xerr=across, yerr=up, fmt="none", ecolor=colour, lw=0.9)


def _line(
    study: Detection, panel: str, curve: Curve, eps: float, threshold: float, natural: np.ndarray, passed: np.ndarray,
    drawn: str,
) -> Line:  # fmt: skip
    across = share(passed >= threshold)
    up = float((natural >= threshold).mean())
    points = study.at(eps)
    made = list(points.values()) if curve.attack is None else [points[curve.attack]]
    words = "; ".join(dict.fromkeys(map(study.method, made)))
    interval = (across.value, across.low, across.high, across.n)
    return (panel, curve.way, curve.attack or "worst", eps, threshold, up, *interval, drawn, words)


def _rival(axes: Any, study: Detection, eps: float) -> list[Line]:
    """The softmax classifier, which rejects nothing: one cross."""
    right, wrong = study.rival_right, study.rival_wrong(eps)
    _point(axes, wrong, right, ATTACKED, "X", f"{SOFTMAX}, PGD")
    error = share(wrong)
    words = f"worst of PGD of cross-entropy and of the CW margin, {study.settings(eps)}"
    return [
        ("classification", "softmax", "worst", eps, "", share(right).value, error.value, error.low, error.high, error.n,
         "point", words)
    ]  # fmt: skip


def _legend(axes: Any) -> None:
    axes.grid(axis="y", color=GREY, alpha=0.15, lw=0.6)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=7, ncols=1)
