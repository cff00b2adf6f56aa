"""Figures 3, 7 and 9: realised logits, energies, and the distance of samples from the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import (
    ATTACKED,
    GREY,
    NATURAL,
    OTHER,
    absent,
    log_axis,
    thinned,
)
from robustgen.papers.langevin import Purification
from robustgen.papers.stochastic_security.study import Measured

COLUMNS = 5  # numbers of replicates H that Figure 3 shows
REALISATIONS = 2000  # of the mean logits, for each H
SEED = 0
KINDS = {
    "energy_natural": ("natural", NATURAL),
    "energy_perturbed": ("random signs of the same size", GREY),
    "energy_adversarial": ("adversarial", ATTACKED),
    "energy_noise": ("uniform noise", OTHER),
}


def logits(path: Path, found: Measured) -> None:
    """Figure 3: realisations of the mean logits of the true class and the runner-up, for growing H."""
    header = ("image", "index", "H", "logit", "low", "high", "density", "misclassified")
    study = found.drawn
    chosen = examples(study) if study is not None else {}
    if study is None or not chosen:
        absent(path, header, "a defence of several replicates that is right about some image")
        return
    counts = replicates(study.draws.shape[1])
    table: list[tuple[object, ...]] = []
    with figure(path, 2.1 * len(counts) + 0.6, 4.1) as made:
        panels = made.subplots(2, len(counts), squeeze=False, sharex="row")
        for row, (kind, image) in zip(panels, chosen.items(), strict=True):
            draws, label = study.draws[image].astype(np.float64), int(study.labels[image])
            centre = draws.mean(0)
            rival = int(np.argmax(np.where(np.arange(len(centre)) == label, -np.inf, centre)))
            lines = ((label, "true class", NATURAL), (rival, "runner-up", ATTACKED))
            for axes, (count, realised) in zip(row, realisations(draws, counts), strict=True):
                wrong = float((realised.argmax(1) != label).mean())
                edges = np.histogram_bin_edges(realised[:, [label, rival]], 40)
                for column, name, colour in lines:
                    density, _ = np.histogram(realised[:, column], edges, density=True)
                    axes.stairs(density, edges, fill=True, alpha=0.5, color=colour, label=name)
                    axes.axvline(centre[column], color=colour, ls="--", lw=1)
                    index = int(study.indices[image])
                    table += [
                        (kind, index, count, name, *bar, wrong) for bar in zip(edges, edges[1:], density, strict=False)
                    ]
                axes.set_yticks([])
                axes.set_title(f"H = {count}: {100 * wrong:.1f} % wrong", fontsize=8)
            row[0].set_ylabel(f"{kind} image\n(index {study.indices[image]})")
        for axes in panels[-1]:
            axes.set_xlabel(f"mean logit, K = {study.drawn_steps}")
        made.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save_csv(f"{path}.csv", header, table)


def examples(study: Purification) -> dict[str, int]:
    """Rows of a borderline and of a safe image, among those that the mean of all draws has right.

    The rule: the margin of true class over runner-up, divided by its standard deviation from draw to draw; borderline
    is the smallest, safe the median.
    """
    draws = study.draws.astype(np.float64)
    if draws.shape[1] < 2:
        return {}
    rows = np.arange(len(draws))
    centre = draws.mean(1)
    right = np.flatnonzero(centre.argmax(1) == study.labels)
    others = centre.copy()
    others[rows, study.labels] = -np.inf
    margins = draws[rows, :, study.labels] - draws[rows, :, others.argmax(1)]
    spread = np.maximum(margins.std(1, ddof=1), 1e-12)
    ranked = right[np.argsort((margins.mean(1) / spread)[right], kind="stable")]
    return {"borderline": int(ranked[0]), "safe": int(ranked[len(ranked) // 2])} if len(ranked) else {}


def replicates(draws: int) -> list[int]:
    """The H of Figure 3 where there are so many draws: powers of two, at most COLUMNS."""
    powers = [2**k for k in range(draws.bit_length())]
    return [powers[k] for k in thinned(len(powers), COLUMNS)]


def realisations(draws: np.ndarray, counts: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """For each H, realised mean logits (REALISATIONS, K): means of H of the draws (D, K), taken with replacement."""
    random = np.random.default_rng(SEED)
    for count in counts:
        drawn = random.integers(len(draws), size=(REALISATIONS, count))
        yield count, draws[drawn].mean(1)


def energies(path: Path, found: Measured) -> None:
    """Figure 7: energies of natural, adversarial and noise images, and of a random perturbation of the same size."""
    header = ("images", "energy_low", "energy_high", "density")
    values = _energies(found)
    if "natural" not in values:
        absent(path, header, "energies under the convergent EBM")
        return
    groups = _panels(values)
    table: list[tuple[object, ...]] = []
    with figure(path, 5.0 if len(groups) == 1 else 8.0, 3.2) as made:
        panels = made.subplots(1, len(groups), squeeze=False, width_ratios=[2.2, 1][: len(groups)])[0]
        for axes, group in zip(panels, groups, strict=True):
            edges = np.histogram_bin_edges(np.concatenate(list(group.values())), 30)
            for name, found_energies in group.items():
                colour = dict(KINDS.values())[name]
                density, _ = np.histogram(found_energies, edges, density=True)
                axes.stairs(density, edges, fill=True, alpha=0.35, color=colour)
                axes.stairs(density, edges, color=colour, label=name)
                table += [(name, *bar) for bar in zip(edges, edges[1:], density, strict=False)]
            axes.set(xlabel="energy U(x), nats", ylabel="density")
            axes.locator_params(axis="x", nbins=5)
        handles = [handle for axes in panels for handle in axes.get_legend_handles_labels()[0]]
        made.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    save_csv(f"{path}.csv", header, table)


def _energies(found: Measured) -> dict[str, np.ndarray]:
    if found.dynamics is None:
        return {}
    return {label: found.dynamics[name] for name, (label, _) in KINDS.items() if found.dynamics.has(name)}


def _panels(values: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """One panel, or noise in its own where its energies lie far from all others."""
    near = {name: energy for name, energy in values.items() if name != "uniform noise"}
    noise = values.get("uniform noise")
    if noise is None:
        return [near]
    low, high = np.min([e.min() for e in near.values()]), np.max([e.max() for e in near.values()])
    away = max(float(noise.min() - high), float(low - noise.max()))
    return [near, {"uniform noise": noise}] if away > high - low else [dict(values)]


def distances(path: Path, found: Measured) -> None:
    """Figure 9: FID against Langevin steps from the data, convergent and non-convergent EBM."""
    header = ("ebm", "langevin_steps", "fid", "low", "high", "features")
    data = found.dynamics
    if data is None or not data.has("fid_steps", "fid_features"):
        absent(path, header, "FID along the Langevin chains")
        return
    features, steps = str(data["fid_features"]), data["fid_steps"].tolist()
    table: list[tuple[Any, ...]] = []
    with figure(path, 5.4, 3.6) as made:
        axes = made.subplots()
        lines = (("convergent", NATURAL, "o-"), ("non-convergent", ATTACKED, "s--"))
        for name, colour, style in lines:
            key = f"fid_{name.replace('-', '')}"
            if data.has(key):
                fid, low, high = data[key].T
                axes.plot(steps, fid, style, color=colour, ms=3.5, lw=1.3, label=f"{name} EBM")
                axes.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
                table += [(name, k, *row, features) for k, row in zip(steps, data[key].tolist(), strict=True)]
        if data.has("fid_floor"):
            floor, low, high = data["fid_floor"].tolist()
            axes.axhspan(low, high, color=GREY, alpha=0.15, lw=0)
            axes.axhline(floor, color=GREY, ls=":", lw=1, label="two halves of the data")
            table.append(("data", None, floor, low, high, features))
        shown = np.concatenate([line.get_ydata() for line in axes.lines])
        if shown.min() > 0 and shown.max() > 30 * shown.min():
            axes.set_yscale("log")
            axes.set_ylim(shown.min() / 2, 1.5 * max(line[3] for line in table))  # an interval may end at 0
        log_axis(axes, steps, "Langevin steps from the data")
        axes.set_ylabel("FID")
        axes.set_title(f"features: {features}", fontsize=8)
        made.legend(loc="outside lower center", ncols=3)
    save_csv(f"{path}.csv", header, table)
