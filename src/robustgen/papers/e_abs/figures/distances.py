"""The nearest error that attacks found, beside the distance below which there is none by Eq. 7."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import ATTACKED, GREY, NATURAL, absent, banner
from robustgen.papers.e_abs.measured import Comparison, Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables.bounds import below, nearest
from robustgen.papers.e_abs.words import ABS, ATTACKS, E_ABS
from robustgen.papers.words import plural

HEADER = ("dataset", "model", "index", "label", "bound", "reason", "nearest", "by", "below")
ROOM = 1.08  # of the largest distance: where images without an error found stand
Line = tuple[object, ...]


def nearest_errors(path: Path, found: Measured) -> None:
    """A line of panels a data set, ABS and E-ABS: an image a dot; dots below the diagonal contradict the bound."""
    lines = [(section.dataset, there) for section in found.comparisons.values() if (there := dict(bounded(section)))]
    if not lines:
        absent(path, HEADER, "bounds of ABS or E-ABS beside L2 attacks")
        return
    table: list[Line] = []
    with figure(path, 7.4, 0.6 + 2.9 * len(lines)) as made:
        named: dict[str, Any] = {}
        panels = made.subplots(len(lines), 2, squeeze=False)
        for row, (dataset, studies) in zip(panels, lines, strict=True):
            for axes, name in zip(row, (ABS, E_ABS), strict=True):
                if name in studies:
                    _panel(axes, dataset, name, studies[name])
                    table += _lines(dataset, name, studies[name])
                    named |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
                else:
                    banner(axes, f"the bound of {name} on {dataset}")
        made.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, fontsize=8)
    save_csv(f"{path}.csv", HEADER, table)


def bounded(section: Comparison) -> Iterator[tuple[str, AttackStudy]]:
    """The models whose bound was computed and that were attacked in L2, by name."""
    for name, study in section.models.items():
        if study.bound is not None and "l2" in study.norms:
            yield name, study


def _panel(axes: Any, dataset: str, name: str, study: AttackStudy) -> None:
    bound, distance, contradicted = study.bound, nearest(study), below(study)
    assert bound is not None
    proven = (bound > 0) & (distance > 0)
    reached = proven & np.isfinite(distance)
    top = ROOM * max(float(distance[reached].max(initial=0)), float(bound[proven].max(initial=0)), study.main_eps("l2"))
    calm, never = reached & ~contradicted, proven & ~np.isfinite(distance)
    axes.plot(bound[calm], distance[calm], "o", color=NATURAL, ms=3, mew=0, alpha=0.6, label="nearest error found")
    axes.plot(
        bound[never], np.full(never.sum(), top), "^", color=GREY, ms=4, mew=0, alpha=0.5, label="none found, at the top"
    )
    axes.plot(bound[contradicted], distance[contradicted], "X", color=ATTACKED, ms=6, mew=0, label="below the bound")
    far = ROOM * float(bound[proven].max(initial=0)) or top
    axes.fill_between([0, far], [0, far], color=ATTACKED, alpha=0.08, lw=0, label="no error by exact inference")
    axes.axhline(study.main_eps("l2"), color=GREY, lw=0.8, ls=":", label="radius of the tables")
    axes.set(xlim=(0, far), ylim=(0, 1.03 * top), xlabel="ε* of Eq. 7, L2, pixel units")
    axes.set_ylabel("L2 length of the change")
    counts = f"{int(proven.sum())} of {plural(len(bound), 'image')} with a bound, {int(contradicted.sum())} below it"
    axes.set_title(f"{name}, {dataset}\n{counts}", fontsize=8)


def _lines(dataset: str, name: str, study: AttackStudy) -> list[Line]:
    bound, contradicted = study.bound, below(study)
    assert bound is not None
    points = study.matching(norm="l2")
    lengths = np.stack([study.errors(point) for point in points])
    by = [str(study.arrays["attack"][points[k]]) for k in lengths.argmin(0)]
    return [
        (dataset, name, int(study.indices[i]), int(study.labels[i]), *_proven(bound[i]), study.bound_reason[i],
         *((float(length), ATTACKS[by[i]]) if np.isfinite(length) and length else ("", "")), int(contradicted[i]))
        for i, length in enumerate(lengths.min(0))
    ]  # fmt: skip


def _proven(bound: float) -> tuple[object]:
    """ε* as a cell: empty where the image is misclassified."""
    return ("" if np.isnan(bound) else float(bound),)
