"""Figure 12: the area under the ROC curve while detectors are trained with a small and with a large radius."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import ATTACKED, NATURAL, absent, banner
from robustgen.papers.gat.figures.shared import Line
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.probe import Probe
from robustgen.papers.gat.study import Curve
from robustgen.papers.tiles import title

HEADER = ("model", "detector", "images", "update", "auc", "settings")
COLUMNS = {  # of a training history: name, colour, style
    "train_adversarial_auc": ("training, attacked", ATTACKED, ":"),
    "adversarial_auc": ("validation, attacked", ATTACKED, "-"),
    "train_natural_auc": ("training, natural", NATURAL, ":"),
    "natural_auc": ("validation, natural", NATURAL, "-"),
}
TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1)
FINEST = 1e-3  # below this distance from 1 the axis is linear


def training(path: Path, found: Measured) -> None:
    """Figure 12: the history of the first detector of both models; the CSV has all."""
    cifar = found.cifar
    models = {"small radius": (cifar.small_curve, cifar.small), "large radius": (cifar.large_curve, cifar.large)}
    if not any(curve is not None for curve, _ in models.values()):
        absent(path, HEADER, "training histories of fine-tuned detectors")
        return
    table: list[Line] = []
    with figure(path, 7.6, 3.9) as made:
        panels = made.subplots(1, 2, sharey=True)
        for axes, (name, (curve, probe)) in zip(panels, models.items(), strict=True):
            if curve is None:
                banner(axes, f"training with a {name}")
            else:
                table += _panel(axes, name, curve, _settings(curve, probe))
        drawn = [axes for axes in panels if axes.lines]
        for axes in drawn:
            near_one(axes, min(line.get_ydata().min() for each in drawn for line in each.lines))
        drawn[0].set_ylabel("AUC")
        made.legend(*drawn[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save_csv(f"{path}.csv", HEADER, table)


def _settings(curve: Curve, probe: Probe | None) -> str:
    return (probe.trained or probe.name) if probe is not None else curve.name


def _panel(axes: Any, name: str, curve: Curve, words: str) -> list[Line]:
    first = curve.detectors[0]
    for column, (label, colour, style) in COLUMNS.items():
        updates, areas = curve.of(first, column)
        marker = "o" if style == "-" else None
        axes.plot(updates, areas, ls=style, color=colour, lw=1.4, marker=marker, ms=2.5, label=label, clip_on=False)
    axes.set_xlabel("training update")
    title(axes, f"{name}, detector of class {first}\n{words}", 3.5, pad=10)
    return [
        (name, detector, label, int(update), area, words)
        for detector in curve.detectors
        for column, (label, _, _) in COLUMNS.items()
        for update, area in zip(*curve.of(detector, column), strict=True)
    ]


def near_one(axes: Any, least: float) -> None:
    """A vertical axis that widens towards 1, where areas under the curve lie, from a tick below the least of them."""
    axes.set_yscale(
        "function",
        functions=(lambda y: -_log(1 - np.asarray(y, float)), lambda u: 1 - _exp(-np.asarray(u, float))),
    )
    ticks = TICKS[max(bisect_right(TICKS[:-2], least) - 1, 0) :]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(ticks[0], 1)


def _log(distance: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(distance) * np.log10(1 + np.abs(distance) / FINEST))


def _exp(value: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(value) * FINEST * (10 ** np.abs(value) - 1))
