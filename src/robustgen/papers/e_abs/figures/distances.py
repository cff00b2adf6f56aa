"""The nearest error that attacks found, beside the distance below which there is none by Eq. 7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import ATTACKED, GREY, NATURAL, OTHER, absent
from robustgen.papers.e_abs.measured import Bounded, Measured
from robustgen.papers.e_abs.tables.bounds import below, nearest
from robustgen.papers.e_abs.words import ATTACKS
from robustgen.papers.words import plural

HEADER = ("dataset", "model", "inference", "index", "label", "bound", "reason", "nearest", "by", "below")
ROOM = 1.08  # of the largest distance: where images without an error found stand
CONTRADICTED, BESIDE = ("below the bound", ATTACKED), ("below ε*, of variational inference", OTHER)
INFERENCE = {True: "exact", False: "variational"}
Line = tuple[object, ...]


def nearest_errors(path: Path, found: Measured) -> None:
    """A line of panels a data set: an image a dot. Dots below the diagonal contradict the bound where the model infers
    exactly, and lie outside its assumptions where it does not.
    """
    lines = by_line(found)
    if not lines:
        absent(path, HEADER, "bounds of ABS or E-ABS beside L2 attacks")
        return
    table: list[Line] = []
    columns = max(map(len, lines))
    with figure(path, max(4.6, 3.5 * columns), 0.8 + 2.9 * len(lines)) as made:
        named: dict[str, Any] = {}
        for row, line in zip(made.subplots(len(lines), columns, squeeze=False), lines, strict=True):
            for axes in row[len(line) :]:
                axes.set_axis_off()
            for axes, each in zip(row, line, strict=False):
                _panel(axes, each)
                table += _lines(each)
                named |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        made.legend(named.values(), named.keys(), loc="outside lower center", ncols=2, fontsize=8)
    save_csv(f"{path}.csv", HEADER, table)


def by_line(found: Measured) -> list[list[Bounded]]:
    """The models whose bound was computed and that were attacked in L2, those of a table in a line; those of the
    ablation in the last line of its data set, or in one of their own.
    """
    lines: list[list[Bounded]] = []
    for each in found.bounded:
        if "l2" in each.study.norms:
            own = [line for line in lines if line[0].paper == each.paper]
            beside = own or [line for line in lines if not each.paper and line[0].dataset == each.dataset]
            if beside:
                beside[-1].append(each)
            else:
                lines.append([each])
    return lines


def _panel(axes: Any, each: Bounded) -> None:
    study, (label, colour) = each.study, CONTRADICTED if each.assumed else BESIDE
    bound, distance, nearer = study["bound"], nearest(study), below(study)
    proven = (bound > 0) & (distance > 0)
    reached = proven & np.isfinite(distance)
    top = ROOM * max(float(distance[reached].max(initial=0)), float(bound[proven].max(initial=0)), study.main_eps("l2"))
    calm, never = reached & ~nearer, proven & ~np.isfinite(distance)
    axes.plot(bound[calm], distance[calm], "o", color=NATURAL, ms=3, mew=0, alpha=0.6, label="nearest error found")
    axes.plot(
        bound[never], np.full(never.sum(), top), "^", color=GREY, ms=4, mew=0, alpha=0.5, label="none found, at the top"
    )
    axes.plot(bound[nearer], distance[nearer], "X", color=colour, ms=6, mew=0, label=label)
    far = ROOM * float(bound[proven].max(initial=0)) or top
    axes.fill_between([0, far], [0, far], color=ATTACKED, alpha=0.08, lw=0, label="no error of exact inference")
    axes.axhline(study.main_eps("l2"), color=GREY, lw=0.8, ls=":", label="radius of the tables")
    axes.set(xlim=(0, far), ylim=(0, 1.03 * top), xlabel="ε* of Eq. 7, L2, pixel units")
    axes.set_ylabel("L2 length of the change")
    axes.set_title(_title(each, int((bound > 0).sum()), int(nearer.sum())), fontsize=8)


def _title(each: Bounded, bounded: int, nearer: int) -> str:
    head = f"{each.name}, {each.dataset}\n{bounded} of {plural(len(each.study.labels), 'image')} with a bound\n"
    if each.assumed:
        return f"{head}exact inference: {nearer} below it"
    return f"{head}variational, outside the assumptions: {plural(nearer, 'image')} below"


def _lines(each: Bounded) -> list[Line]:
    study, bound, nearer = each.study, each.study["bound"], below(each.study)
    points = study.matching(norm="l2")
    lengths = np.stack([study.errors(point) for point in points])
    by = [str(study.arrays["attack"][points[k]]) for k in lengths.argmin(0)]
    return [
        (each.dataset, each.name, INFERENCE[each.assumed], int(study.indices[i]), int(study.labels[i]),
         *_proven(bound[i]), study.bound_reason[i],
         *((float(length), ATTACKS[by[i]]) if np.isfinite(length) and length else ("", "")), int(nearer[i]))
        for i, length in enumerate(lengths.min(0))
    ]  # fmt: skip


def _proven(bound: float) -> tuple[object]:
    """ε* as a cell: empty where the image is misclassified."""
    return ("" if np.isnan(bound) else float(bound),)
