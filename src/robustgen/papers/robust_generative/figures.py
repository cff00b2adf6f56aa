"""Figures 2-4 and the synthesised images of Section 5.3; each with the numbers it draws as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from robustgen.evaluation.plotting import ATTACKED, NATURAL, figure, show_image
from robustgen.evaluation.statistics import mean, proportion
from robustgen.io import save_csv
from robustgen.papers.robust_generative.study import LABELS, ROLES, Study


def energy_histograms(path: Path, studies: Sequence[Study], attack: str, bins: int = 40) -> None:
    """Figures 2a and 3a: densities of E(x), natural and attacked, one panel a data set."""
    table = []
    with figure(path, 4.6 * len(studies), 3.2) as made:
        for axes, study in zip(_panels(made, len(studies)), studies, strict=True):
            natural, attacked = study.natural_energy(attack), study.energy(attack)
            edges = np.histogram_bin_edges(np.concatenate([natural, attacked]), bins)
            name = LABELS[study.config(attack)["name"]]
            for values, label, colour in ((natural, "natural", NATURAL), (attacked, name, ATTACKED)):
                density, _ = np.histogram(values, edges, density=True)
                axes.stairs(density, edges, fill=True, alpha=0.45, color=colour, label=label)
                axes.stairs(density, edges, color=colour)
                table += [(study.dataset, label, *row) for row in zip(edges, edges[1:], density, strict=False)]
            axes.set(xlabel="energy E(x), nats", ylabel="density")
            axes.set_title(f"{study.dataset}\n{study.method(attack)}", fontsize=8)
            axes.legend()
    save_csv(f"{path}.csv", ("dataset", "images", "energy_low", "energy_high", "density"), table)


def energy_by_steps(path: Path, studies: Sequence[Study], attack: str) -> None:
    """Figures 2b and 3b: mean |E(x)| ± one standard deviation, and the accuracy, after each number of steps."""
    table: list[tuple[object, ...]] = []
    with figure(path, 4.6 * len(studies), 3.4) as made:
        for axes, study in zip(_panels(made, len(studies)), studies, strict=True):
            energies, correct = (values for values in study.trace(attack))
            magnitude, spread = np.abs(energies).mean(1), np.abs(energies).std(1, ddof=1)
            steps = np.arange(len(energies))
            natural = np.abs(study.natural_energy(attack))
            centre, width = natural.mean(), natural.std(ddof=1)
            axes.axhspan(centre - width, centre + width, color=NATURAL, alpha=0.2)
            axes.axhline(centre, color=NATURAL, label="natural")
            shown = _spread_out(steps)
            name = LABELS[study.config(attack)["name"]]
            axes.errorbar(
                steps[shown], magnitude[shown], spread[shown], color=ATTACKED, marker="o", ms=4, capsize=3, label=name
            )
            top = (magnitude + spread)[shown].max()
            for step in shown:
                axes.annotate(
                    f"{correct[step].mean():.0%}",
                    (steps[step], magnitude[step] + spread[step]),
                    textcoords="offset points",
                    xytext=(0, 4),
                    ha="center",
                    fontsize=8,
                )
            axes.set_ylim(top=1.1 * max(top, centre + width))
            axes.set_xscale("symlog", base=2, linthresh=1)
            axes.set_xticks(steps[shown], [str(step) for step in steps[shown]])
            axes.set_xlim(-0.35, 1.2 * steps[-1])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set(xlabel=f"{name} steps (above: accuracy)", ylabel="|E(x)|, nats")
            axes.set_title(f"{study.dataset}\n{study.method(attack)}", fontsize=8)
            axes.legend(loc="best")
            clean = study.natural_correct(attack)
            table.append(_step_row(study, "natural", None, natural, clean))
            table += [_step_row(study, name, int(k), np.abs(energies[k]), correct[k]) for k in steps]
    header = ("dataset", "images", "steps", "n", "mean_abs_energy", "sd", "low", "high")
    save_csv(f"{path}.csv", (*header, "accuracy", "accuracy_low", "accuracy_high"), table)


def _step_row(
    study: Study, label: str, steps: int | None, magnitude: np.ndarray, correct: np.ndarray
) -> tuple[object, ...]:
    energy, accuracy = mean(magnitude), proportion(int(correct.sum()), len(correct))
    spread = float(magnitude.std(ddof=1))
    numbers = (energy.value, spread, energy.low, energy.high, accuracy.value, accuracy.low, accuracy.high)
    return (study.dataset, label, steps, len(magnitude), *numbers)


def _spread_out(steps: np.ndarray) -> list[int]:
    """Steps that a logarithmic axis can label: 0, 1, 2, 5, 10, 20, ... and the last."""
    wanted = [0, 1, 2, 5, 10, 20, 40, 50, 100]
    return [k for k in wanted if k < steps[-1]] + [int(steps[-1])]


def _panels(made: Figure, count: int) -> list[Any]:
    return list(made.subplots(1, count, squeeze=False)[0])


def gradient_images(path: Path, found: Mapping[str, np.ndarray]) -> None:
    """Figure 4: images and their loss gradients under each classifier."""
    images = found["images"]
    with figure(path, 0.9 * len(images) + 1.1, 0.95 * (len(ROLES) + 1)) as made:
        axes = made.subplots(len(ROLES) + 1, len(images), squeeze=False)
        for column, image in enumerate(images):
            show_image(axes[0, column], image)
            for row, role in enumerate(ROLES, 1):
                show_image(axes[row, column], _normalised(found[f"{role}_gradients"][column]))
        for row, label in enumerate(("image", *ROLES.values())):
            axes[row, 0].set_ylabel(label, rotation=0, ha="right", va="center")
    table = []
    for role, label in ROLES.items():
        for measure in ("density", "alignment"):
            e = mean(found[f"{role}_{measure}"])
            table.append((label, measure, e.n, e.value, e.low, e.high))
        for measure in ("clean_correct", "robust_correct"):
            right = found[f"{role}_{measure}"]
            e = proportion(int(right.sum()), len(right))
            table.append((label, measure.replace("correct", "accuracy"), e.n, e.value, e.low, e.high))
    save_csv(f"{path}.csv", ("classifier", "measure", "n", "value", "low", "high"), table)


def _normalised(gradient: np.ndarray) -> np.ndarray:
    """A gradient (C, H, W) as an image: grey (or, for colour images, per channel) around 0.5."""
    scale = max(float(np.percentile(np.abs(gradient), 99)), 1e-12)
    return np.asarray(np.clip(0.5 + gradient / (2 * scale), 0, 1))


def synthesised_images(path: Path, found: Mapping[str, np.ndarray], classes: int) -> None:
    """Section 5.3: two images a class from each classifier's gradient, and how many the judge recognises."""
    with figure(path, 0.75 * classes + 1.6, 0.85 * 2 * len(ROLES)) as made:
        axes = made.subplots(2 * len(ROLES), classes, squeeze=False)
        table = []
        for block, (role, label) in enumerate(ROLES.items()):
            judged = found[f"{role}_judged"]
            e = proportion(int(judged.sum()), len(judged))
            table.append((label, e.n, e.value, e.low, e.high))
            for k, image in enumerate(found[f"{role}_synthesis"]):
                show_image(axes[2 * block + k // classes, k % classes], image)
            axes[2 * block, 0].set_ylabel(f"{label}\n{e.value:.0%} recognised", rotation=0, ha="right", va="center")
    save_csv(f"{path}.csv", ("classifier", "n", "recognised", "low", "high"), table)
