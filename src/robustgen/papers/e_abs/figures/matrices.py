"""The matrices below Tables 1-4: McNemar's test of every pair of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from robustgen.evaluation.plotting import figure
from robustgen.evaluation.statistics import proportion_difference
from robustgen.io import save_csv
from robustgen.papers.drawing import ATTACKED, GREY, absent
from robustgen.papers.e_abs.measured import Comparison, Measured, Pair
from robustgen.papers.e_abs.words import CLEAN, LEVEL, NORM_ORDER, all_line

HEADER = ("dataset", "attacks", "first", "second", "first_accuracy", "second_accuracy", "difference", "low", "high",
          "n", "p", "p_holm", "significant")  # fmt: skip
KINDS = (CLEAN, *map(all_line, NORM_ORDER))
FLOOR = 1e-6  # what is below is drawn alike
COLOURS = LogNorm(FLOOR, 1)
Line = tuple[object, ...]


def tests(path: Path, found: Measured) -> None:
    """A line of matrices a data set: natural images, and all attacks of either norm together."""
    sections = [(section, kinds) for section in found.comparisons.values() if (kinds := tested_kinds(section))]
    if not sections:
        absent(path, HEADER, "two models or more under attack")
        return
    table: list[Line] = []
    columns = max(len(kinds) for _, kinds in sections)
    with figure(path, 0.3 + 2.9 * columns, 1.0 + 3.0 * len(sections)) as made:
        made.set_layout_engine("compressed")  # for axes of equal aspect
        panels = made.subplots(len(sections), columns, squeeze=False)
        for row, (section, kinds) in zip(panels, sections, strict=True):
            for axes in row[len(kinds) :]:
                axes.set_axis_off()
            for axes, kind in zip(row, kinds, strict=False):
                _matrix(axes, section, kind)
                table += _lines(section, kind)
        bar = made.colorbar(ScalarMappable(COLOURS, "Blues_r"), ax=panels, location="bottom", aspect=60, extend="min")
        bar.set_label(f"McNemar's exact p-value, by Holm's method over a matrix; framed: below α = {LEVEL:g}\n"
                      "on the diagonal: accuracy, %; above it: row − column, points")  # fmt: skip
    save_csv(f"{path}.csv", HEADER, table)


def tested_kinds(section: Comparison) -> list[str]:
    """The lines of the tables that have matrices, of which two models at least are there."""
    return [kind for kind in KINDS if kind in section.kinds and len(section.correct(kind)) > 1]


def _matrix(axes: Any, section: Comparison, kind: str) -> None:
    """Below the diagonal p-values, on it accuracies in percent, above it differences, row minus column, in points."""
    right = section.correct(kind)
    names, p = list(right), section.tested(kind)
    values = np.full((len(names), len(names)), np.nan)
    for (a, b), value in p.items():
        values[names.index(b), names.index(a)] = max(value, FLOOR)
    axes.imshow(np.ma.masked_invalid(values), cmap="Blues_r", norm=COLOURS)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            words, colour = _cell(right[a], right[b], p.get((b, a)), place=i - j)
            axes.text(j, i, words, ha="center", va="center", fontsize=6.5, color=colour)
            if i > j and p[b, a] < LEVEL:
                axes.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, ec=ATTACKED, lw=1.2))
    _name_axes(axes, names)
    axes.set_title(f"{section.dataset}, {_named(kind)}, n = {len(next(iter(right.values())))}", fontsize=8)


def _cell(row: np.ndarray, column: np.ndarray, p: float | None, *, place: int) -> tuple[str, str]:
    """Text and colour of a cell below (place > 0), on, or above the diagonal."""
    if place > 0 and p is not None:
        return short(p), "black" if p > 1e-3 else "white"
    if place == 0:
        return f"{100 * row.mean():.1f}", "black"
    difference = 100 * (row.mean() - column.mean())
    return f"{difference:+.1f}".replace("-", "−"), GREY


def _name_axes(axes: Any, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=45, fontsize=7, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _named(kind: str) -> str:
    return "natural images" if kind == CLEAN else kind.lower().replace("l∞", "L∞").replace("l2", "L2") + " attacks"


def short(p: float) -> str:
    """A p-value in a few letters."""
    if p < FLOOR:
        return "<1e−6"
    return f"{p:.2f}" if p >= 0.01 else f"{p:.0e}".replace("e-0", "e−")


def _lines(section: Comparison, kind: str) -> list[Line]:
    right, raw, adjusted = section.correct(kind), section.raw(kind), section.tested(kind)

    def line(pair: Pair) -> Line:
        a, b = pair
        e = proportion_difference(right[a], right[b])
        return (section.dataset, kind, a, b, float(right[a].mean()), float(right[b].mean()), e.value, e.low, e.high,
                e.n, raw[pair], adjusted[pair], int(adjusted[pair] < LEVEL))  # fmt: skip

    return [line(pair) for pair in raw]
