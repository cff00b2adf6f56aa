"""Figures 9 and 11: logits of natural images of a class, and of images that were made to raise its logit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import ATTACKED, NATURAL, absent, banner
from robustgen.papers.gat.figures.images import linf_setting
from robustgen.papers.gat.figures.shared import Line
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import Synthesis
from robustgen.papers.tiles import title

HEADER = ("model", "class", "images", "low", "high", "count", "n", "settings")
BINS = 30
RUG = 60  # so many values or fewer are also marked one by one


def perturbed(path: Path, found: Measured) -> None:
    """Figure 9: the logit of the first class, natural images of it and images of others moved towards it."""
    studies = {"detectors": found.mnist.synthesis, "softmax": found.mnist.synthesis_softmax}
    _figure(path, studies, "shifted", "perturbed", "perturbed images of the detectors of the first section")


def generated(path: Path, found: Measured) -> None:
    """Figure 11: the same of images generated from the class Gaussians."""
    studies = {"detectors": found.cifar.synthesis, "softmax": found.cifar.synthesis_softmax}
    _figure(path, studies, "generated", "generated", "generated images of the detectors of the second section")


def _figure(path: Path, studies: dict[str, Synthesis | None], part: str, made_by: str, what: str) -> None:
    there = {name: s for name, s in studies.items() if s is not None and s.has(part) and s.has("natural")}
    if not there:
        absent(path, HEADER, what)
        return
    table: list[Line] = []
    with figure(path, 7.4, 5.0) as made:
        panels = made.subplots(2, 2)
        for column, name in enumerate(studies):
            if name not in there:
                for axes in panels[:, column]:
                    banner(axes, f"images of {name}")
                continue
            for axes, position in zip(panels[:, column], (0, None), strict=True):
                table += _panel(axes, name, there[name], part, made_by, position)
            panels[1, column].set_xlabel("logit")
        for axes in panels[:, 0]:
            axes.set_ylabel("share of images, %")
        handles = next(axes.get_legend_handles_labels() for axes in panels.flat if axes.get_legend_handles_labels()[0])
        made.legend(*handles, loc="outside lower center", ncols=2)
    save_csv(f"{path}.csv", HEADER, table)


def _panel(axes: Any, name: str, study: Synthesis, part: str, made_by: str, position: int | None) -> list[Line]:
    """Histograms of one class' logit, or of every class' own (`position` None)."""
    values = {"natural": natural_logits(study, position), made_by: made_logits(study, part, position)}
    filled = [found for found in values.values() if len(found)]
    edges = np.histogram_bin_edges(np.concatenate(filled), BINS) if filled else np.linspace(0, 1, BINS + 1)
    how = _how(study, part)
    which = "every class' own logit" if position is None else f"class {study.targets[position]}'s logit"
    table: list[Line] = []
    for (kind, found), colour in zip(values.items(), (NATURAL, ATTACKED), strict=True):
        counts, _ = np.histogram(found, edges)
        label = "natural images of the class" if kind == "natural" else f"{kind} images"
        heights = 100 * counts / max(len(found), 1)
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.4, label=label)
        axes.stairs(heights, edges, color=colour, lw=1)
        if 0 < len(found) <= RUG:
            axes.plot(found, np.full(len(found), -0.03), "|", color=colour, ms=6, mew=0.8, clip_on=False,
                      transform=axes.get_xaxis_transform())  # fmt: skip
        table += [
            (name, "all" if position is None else study.targets[position], kind, *bar, len(found), how)
            for bar in zip(edges, edges[1:], counts, strict=False)
        ]
    numbers = ", ".join(f"{len(found)} {kind}" for kind, found in values.items())
    axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    if 0 < min(map(len, values.values())) <= RUG:
        axes.tick_params(axis="x", pad=7)
    lines = [f"{name}, {which}: {numbers}", *(how.split("; ") if position == 0 else [])]
    title(axes, "\n".join(lines), 3.4)
    return table


def natural_logits(study: Synthesis, position: int | None) -> np.ndarray:
    """The logit of a class at natural images of it; `position` None: of every class, one after the other."""
    places = range(len(study.targets)) if position is None else [position]
    return np.concatenate([study["natural"][study.labels == study.targets[k], k] for k in places])


def made_logits(study: Synthesis, part: str, position: int | None) -> np.ndarray:
    """The same of the images that were made for the class; "shifted" ones are of other classes."""
    places = range(len(study.targets)) if position is None else [position]
    if part == "generated":
        return np.concatenate([study["generated_logits"][k, :, k] for k in places])
    row, others = linf_setting(study), study.of_other_classes()
    return np.concatenate([study["shifted_logits"][row, k, others[k], k] for k in places])


def _how(study: Synthesis, part: str) -> str:
    made = study.generator if part == "generated" else study.shifts[linf_setting(study)]
    return "; ".join(word for word in (made, study.trained) if word)
