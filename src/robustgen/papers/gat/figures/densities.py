"""Figures 20 and 21: densities of synthetic problems, as ordinary and as generative adversarial training find them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import ATTACKED, GREY, TRAINED, absent, thinned
from robustgen.papers.drawing import NATURAL as BLUE
from robustgen.papers.gat.figures.shared import Line
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import GAT, NATURAL, Density
from robustgen.papers.tiles import title

CURVE = ("problem", "training", "seed", "x", "logit", "estimate", "target")
PLANE = ("problem", "training", "seed", "total_variation", "uniform_total_variation", "positives_above_half",
         "negatives_above_half", "settings")  # fmt: skip
KINDS = {NATURAL: "ordinary discriminative training", GAT: "generative adversarial training"}
COLUMNS = 6  # of Figure 21
POINTS = 500  # of either class drawn
NODES = 301  # of a line


def part(study: Density, name: str, problem: str) -> np.ndarray:
    """What an array of a study holds of one problem."""
    return np.asarray(study[name][study.problems.index(problem)])


def densities(values: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Non-negative values (..., G) at even midpoints (G,) as densities, whose integral is 1."""
    return np.asarray(values / (values.sum(-1, keepdims=True) * (axis[1] - axis[0])))


def line(path: Path, found: Measured) -> None:
    """Figure 20: on a line, the data, the logit, and the density that the logit stands for, of both trainings."""
    studies = found.density(1)
    if not studies:
        absent(path, CURVE, "density estimation in one dimension")
        return
    problems = [(study, problem) for study in studies for problem in study.problems]
    table: list[Line] = []
    with figure(path, 7.6, 0.4 + 4.6 * len(problems)) as made:
        panels = made.subplots(2 * len(problems), 2, squeeze=False, sharex="row")
        for row, (study, problem) in enumerate(problems):
            for column, kind in enumerate(KINDS):
                table += _line_panels(panels[2 * row : 2 * row + 2, column], study, problem, kind)
            panels[2 * row, 0].set_ylabel("logit z(x)")
            panels[2 * row + 1, 0].set_ylabel("density")
        legend = made.legend(*panels[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        for handle in legend.get_lines()[1:]:  # ticks of the points
            handle.set(markersize=8, markeredgewidth=1.5)
    save_csv(f"{path}.csv", CURVE, table)


def _line_panels(panels: Any, study: Density, problem: str, kind: str) -> list[Line]:
    """Above the logits, below the densities, a line a seed, the target beneath, and the data as ticks."""
    upper, lower = panels
    place = study.kind(kind)
    axis, target = part(study, "axis", problem), part(study, "target", problem)
    logits, estimate = (part(study, name, problem)[:, place] for name in ("logits", "estimate"))
    target, estimate = densities(target, axis), densities(estimate, axis)
    shown = thinned(len(axis), NODES)
    axis, target, logits, estimate = axis[shown], target[shown], logits[:, shown], estimate[:, shown]
    seeds: list[int] = study["seeds"].tolist()
    lower.fill_between(axis, target, color=GREY, alpha=0.3, lw=0, label="target")
    for k in range(len(seeds)):
        label = "estimate, a line a seed" if k == 0 else None
        upper.plot(axis, logits[k], color=TRAINED, lw=0.9, alpha=0.8)
        lower.plot(axis, estimate[k], color=TRAINED, lw=0.9, alpha=0.8, label=label)
    for y, name, colour in ((-0.03, "positives", BLUE), (-0.09, "negatives", ATTACKED)):
        points = part(study, name, problem).reshape(-1)
        lower.plot(points, np.full(len(points), y), "|", color=colour, ms=5, mew=0.4, clip_on=False, label=name,
                   transform=lower.get_xaxis_transform())  # fmt: skip
    upper.axhline(0, color=GREY, lw=0.8, ls=":")
    highest = float(target.max())
    lower.set_ylim(0, 1.08 * min(max(highest, float(estimate.max())), 1.6 * highest))  # higher estimates are cut off
    lower.tick_params(axis="x", pad=12)
    lower.set_xlabel("x")
    title(upper, f"{problem}, {KINDS[kind]}\n{_settings(study, kind)}", 3.5)
    title(lower, _distances(study, problem, kind), 3.5)
    return [
        (problem, kind, seed, *numbers)
        for k, seed in enumerate(seeds)
        for numbers in zip(axis, logits[k], estimate[k], target, strict=True)
    ]


def _settings(study: Density, kind: str) -> str:
    """The options of a study, without those of an adversary that ordinary training has not."""
    return (
        study.settings
        if kind == GAT
        else ", ".join(word for word in study.settings.split(", ") if not word.startswith(("eps ", "steps ", "alpha ")))
    )


def _distances(study: Density, problem: str, kind: str) -> str:
    """Total variation to the target over seeds, and what a uniform density has."""
    found = study.distance(kind, problem)
    words = f"{found.mean():.2f}" if len(found) == 1 else f"{found.mean():.2f} ({found.min():.2f} to {found.max():.2f})"
    uniform = float(part(study, "uniform_distance", problem))
    return f"total variation to the target {words}; of a uniform density {uniform:.2f}"


def plane(path: Path, found: Measured) -> None:
    """Figure 21: in the plane, a row a problem: the data, the target, sigmoid outputs and densities of both."""
    studies = found.density(2)
    if not studies:
        absent(path, PLANE, "density estimation in two dimensions")
        return
    problems = [(study, problem) for study in studies for problem in study.problems]
    table: list[Line] = []
    with figure(path, 9.6, 1.35 + 1.75 * len(problems)) as made:
        made.set_layout_engine("compressed")  # for axes of equal aspect
        panels = made.subplots(len(problems), COLUMNS, squeeze=False)
        for row, (study, problem) in zip(panels, problems, strict=True):
            shaded = _plane_panels(row, study, problem)
            row[0].set_ylabel(problem)
            table += _plane_lines(study, problem)
        for axes, name in zip(panels[0], _headings(), strict=True):
            axes.set_title(name, fontsize=8)
        bar = made.colorbar(shaded, ax=panels.ravel().tolist(), location="bottom", shrink=0.3, aspect=30, pad=0.03)
        bar.set_label(
            "sigmoid output; densities: from 0, white, to the target's highest, black\n"
            "TV: total variation to the target, mean over seeds; the pictures are of the first",
            fontsize=8,
        )
        made.suptitle("; ".join(dict.fromkeys(study.settings for study in studies)), fontsize=8)
    save_csv(f"{path}.csv", PLANE, table)


def _headings() -> tuple[str, ...]:
    short = {GAT: "GAT", NATURAL: "ordinary training"}
    pairs = ((kind, what) for what in ("sigmoid output", "density") for kind in (GAT, NATURAL))
    return ("data", "target density", *(f"{short[kind]}\n{what}" for kind, what in pairs))


def _plane_panels(row: Any, study: Density, problem: str) -> Any:
    """Draw a row; the picture of sigmoid outputs is returned, for the colour bar."""
    axis = part(study, "axis", problem)
    half = (axis[1] - axis[0]) / 2  # the axis has the cells' midpoints
    extent = (float(axis[0] - half), float(axis[-1] + half)) * 2
    target = part(study, "target", problem)
    for name, colour in (("negatives", ATTACKED), ("positives", BLUE)):
        points = part(study, name, problem)[:POINTS]
        row[0].plot(points[:, 0], points[:, 1], ".", color=colour, ms=1.5)
    row[0].set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
    highest = float(target.max())
    _picture(row[1], target, extent, "Greys", highest)
    for offset, kind in enumerate((GAT, NATURAL)):
        place = study.kind(kind)
        logits, estimate = (part(study, name, problem)[0, place] for name in ("logits", "estimate"))
        shaded = _picture(row[2 + offset], sigmoid(logits), extent, "RdBu", 1.0)
        _picture(row[4 + offset], estimate, extent, "Greys", highest)
        distance = study.distance(kind, problem)
        row[4 + offset].set_xlabel(f"TV {distance.mean():.2f}", fontsize=8)
    uniform = float(part(study, "uniform_distance", problem))
    row[1].set_xlabel(f"uniform density: TV {uniform:.2f}", fontsize=8)
    for axes in row:
        axes.set_xticks(extent[:2])
        axes.set_yticks(extent[2:])
        axes.tick_params(labelsize=6, length=2)
    return shaded


def _picture(axes: Any, values: np.ndarray, extent: tuple[float, ...], colours: str, highest: float) -> Any:
    return axes.imshow(values.T, origin="lower", extent=extent, cmap=colours, vmin=0, vmax=highest, aspect="equal")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """d(x) of logits of any size."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))


def _plane_lines(study: Density, problem: str) -> list[Line]:
    """Distances of every seed, and the share of the first seed's points where the output is above one half."""
    axis = part(study, "axis", problem)
    uniform = float(part(study, "uniform_distance", problem))
    table: list[Line] = []
    for kind in (GAT, NATURAL):
        logits = part(study, "logits", problem)[:, study.kind(kind)]
        for k, (seed, distance) in enumerate(zip(study["seeds"].tolist(), study.distance(kind, problem), strict=True)):
            above: list[float | str] = [
                float((at(logits[0], axis, part(study, name, problem)) > 0).mean()) if k == 0 else ""
                for name in ("positives", "negatives")
            ]
            table.append((problem, kind, seed, float(distance), uniform, *above, _settings(study, kind)))
    return table


def at(values: np.ndarray, axis: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values (G, G) on the grid of an axis (G,), first coordinate first, at the nodes nearest to points (M, 2)."""
    nodes = np.clip(np.rint((points - axis[0]) / (axis[1] - axis[0])).astype(int), 0, len(axis) - 1)
    return np.asarray(values[nodes[:, 0], nodes[:, 1]])
