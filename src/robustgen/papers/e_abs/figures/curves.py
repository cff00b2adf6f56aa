"""Figure 3: accuracy under PGD as the perturbation grows, of the five models in either norm."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import (
    ATTACKED,
    GREY,
    NATURAL,
    OTHER,
    TRAINED,
    absent,
    banner,
    curve,
    percent_axis,
)
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.radii import pgd_points, pgd_words
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.words import ABS, ADV_L2, ADV_LINF, CNN, E_ABS, NORM_ORDER
from robustgen.papers.studies import accuracy
from robustgen.papers.words import NORMS, pixels

HEADER = ("dataset", "norm", "model", "eps", "n", "accuracy", "low", "high", "method")
LOOKS = {
    CNN: (GREY, "o-"),
    ADV_LINF: (NATURAL, "s-"),
    ADV_L2: (OTHER, "D-"),
    ABS: (TRAINED, "^-"),
    E_ABS: (ATTACKED, "o-"),
}
CLEAR = 0.08  # of an axis' length: the least distance of its ticks
Line = tuple[object, ...]


def by_radius(path: Path, found: Measured) -> None:
    """A panel a norm: accuracy at radius 0 (natural images) and under PGD of every radius, with exact intervals."""
    panels = {norm: attacked(found.curve.models, norm) for norm in NORM_ORDER}
    if not any(panels.values()):
        absent(path, HEADER, "PGD of several radii on the five models")
        return
    table: list[Line] = []
    with figure(path, 8.0, 3.9) as made:
        drawn: dict[str, Any] = {}
        for axes, (norm, models) in zip(made.subplots(1, 2), panels.items(), strict=True):
            if not models:
                banner(axes, f"PGD in {NORMS[norm]}")
                continue
            table += _panel(axes, found.curve.dataset, norm, models)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                drawn.setdefault(label, handle)
        made.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=len(drawn))
    save_csv(f"{path}.csv", HEADER, table)


def attacked(models: Mapping[str, AttackStudy], norm: str) -> dict[str, AttackStudy]:
    """The models that PGD attacked in a norm."""
    return {name: study for name, study in models.items() if study.has(attack="pgd", norm=norm)}


def _panel(axes: Any, dataset: str, norm: str, models: Mapping[str, AttackStudy]) -> list[Line]:
    table: list[Line] = []
    for name, study in models.items():
        points = [(0.0, study.natural, "natural images")]
        points += [(eps, study.robust(point), study.method(point)) for eps, point in pgd_points(study, norm).items()]
        estimates = [accuracy(right) for _, right, _ in points]
        colour, style = LOOKS[name]
        curve(axes, [eps for eps, _, _ in points], estimates, label=name, colour=colour, style=style)
        table += [
            (dataset, norm, name, eps, e.n, e.value, e.low, e.high, method)
            for (eps, _, method), e in zip(points, estimates, strict=True)
        ]
    _radius_axis(axes, norm, sorted({float(str(row[3])) for row in table}))
    percent_axis(axes)
    images = len(next(iter(models.values())).labels)
    settings = pgd_words((study, point) for study in models.values() for point in pgd_points(study, norm).values())
    words = f"{dataset}, {NORMS[norm]} PGD, n = {images}\n{settings}"
    axes.set_title("\n".join(textwrap.fill(part, 62) for part in words.split("\n")), fontsize=8)
    return table


def _radius_axis(axes: Any, norm: str, radii: Sequence[float]) -> None:
    """A linear axis whose ticks are 0 and radii of attacks, those that leave each other room."""
    ticks, room = list(radii[-1:]), CLEAR * radii[-1]
    for eps in reversed(radii[:-1]):
        if not eps or (eps >= room and ticks[0] - eps >= room):
            ticks.insert(0, eps)
    axes.set_xticks(ticks, [pixels(eps) if norm == "linf" else f"{eps:.4g}" for eps in ticks])
    axes.set_xlim(-0.02 * radii[-1], 1.02 * radii[-1])
    axes.set_xlabel(f"radius of the perturbation, {NORMS[norm]}, pixel units")
    axes.grid(axis="y", color=GREY, alpha=0.15, lw=0.6)
