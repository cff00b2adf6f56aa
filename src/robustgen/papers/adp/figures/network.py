"""Figure 3, and what the score network learned: score norms, samples, and the loss at every noise level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.evaluation.statistics import Estimate, paired_auc
from robustgen.io import save_csv
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import Scores
from robustgen.papers.drawing import ATTACKED, GREY, NATURAL, absent, mosaic, show
from robustgen.papers.settings import blind_attack_words

KINDS = {  # arrays of score norms: name, colour, whether filled
    "norm_natural": ("natural", NATURAL, True),
    "norm_adversarial": ("adversarial", ATTACKED, True),
    "norm_natural_purified": ("natural after one step", "#67a9cf", False),
    "norm_adversarial_purified": ("adversarial after one step", "#ef8a62", False),
}
PAIRS = (("norm_natural", "norm_adversarial"), ("norm_natural_purified", "norm_adversarial_purified"))
BINS = 40
SHOWN = 64  # samples


def norms(path: Path, found: Measured) -> None:
    """Figure 3: histograms of ‖s(x)‖ of natural and attacked images, before and after one purification step."""
    header = ("images", "norm_low", "norm_high", "density", "n", "attack")
    data = found.scores
    if data is None or not data.has("norm_natural", "norm_adversarial"):
        absent(path, header, "score norms")
        return
    there = {name: data[name] for name in KINDS if data.has(name)}
    edges = np.histogram_bin_edges(np.concatenate(list(there.values())), BINS)
    table: list[tuple[object, ...]] = []
    with figure(path, 6.2, 3.8) as made:
        axes = made.subplots()
        for name, values in there.items():
            label, colour, filled = KINDS[name]
            density, _ = np.histogram(values, edges, density=True)
            axes.stairs(density, edges, fill=filled, alpha=0.4 if filled else 1.0, color=colour, label=label, lw=1.5)
            table += [
                (label, low, high, value, len(values), blind_attack_words(data.config) if "adv" in name else "none")
                for low, high, value in zip(edges, edges[1:], density, strict=False)
            ]
        axes.set(xlabel="score norm ‖s(x)‖", ylabel="density")
        axes.set_title(f"{blind_attack_words(data.config)}\n{_areas(data)}", fontsize=8)
        made.legend(loc="outside lower center", ncols=2)
    save_csv(f"{path}.csv", header, table)


def _areas(data: Scores) -> str:
    """The areas under the ROC curves of the norm as a detector, with their intervals."""
    lines = []
    for (natural, attacked), name in zip(PAIRS, ("adversarial above natural", "after one step"), strict=True):
        if data.has(natural, attacked):
            area: Estimate = paired_auc(data[attacked], data[natural])
            lines.append(f"AUC, {name}: {area.value:.3f} [{area.low:.3f}, {area.high:.3f}], n = {area.n}")
    return "\n".join(lines)


def samples(path: Path, found: Measured) -> None:
    """Samples of the score network by annealed Langevin dynamics."""
    header = ("sample", "mean", "sd", "outside")
    data = found.scores
    if data is None or not data.has("samples") or not len(data["samples"]):
        absent(path, header, "samples of the score network")
        return
    drawn = data["samples"]
    side = max(1, min(int(SHOWN**0.5), int(len(drawn) ** 0.5)))
    with figure(path, 4.2, 4.4) as made:
        axes = made.subplots()
        show(axes, mosaic(drawn, side, side))
        axes.set_title(_sampler(data), fontsize=8)
    table = [(k, float(x.mean()), float(x.std()), float(((x < 0) | (x > 1)).mean())) for k, x in enumerate(drawn)]
    save_csv(f"{path}.csv", header, table)


def _sampler(data: Scores) -> str:
    words = ["annealed Langevin dynamics"]
    words += [f"{len(data['levels'])} noise levels"] if data.has("levels") else []
    steps = data.config.get("sampler_steps")
    words += [f"{steps} updates at each"] if steps else []
    return ", ".join(words)


def levels(path: Path, found: Measured) -> None:
    """The loss on validation images at every noise level; 1 is what a network that knows nothing has."""
    header = ("level", "sigma", "loss")
    data = found.scores
    if data is None or not data.has("levels", "level_loss"):
        absent(path, header, "losses of the score network at its noise levels")
        return
    sigmas, losses = data["levels"], data["level_loss"]
    with figure(path, 5.4, 3.6) as made:
        axes = made.subplots()
        axes.plot(sigmas, losses, "o-", color=NATURAL, ms=3, lw=1.2)
        axes.axhline(1, color=GREY, ls=":", lw=1)
        axes.annotate(
            "a network that returns 0", (float(sigmas.max()), 1), xytext=(0, 4), textcoords="offset points", color=GREY,
            ha="right", fontsize=8,
        )  # fmt: skip
        axes.set_xscale("log")
        axes.set_ylim(0, 1.15 * max(1.0, float(losses.max())))
        axes.set(xlabel="noise level σ, pixel units", ylabel="mean ‖s(x + σz) + z‖² / D")
        axes.set_title(f"{len(sigmas)} noise levels, validation images{_median(axes, data)}", fontsize=8)
    save_csv(f"{path}.csv", header, [(k, *pair) for k, pair in enumerate(zip(sigmas, losses, strict=True))])


def _median(axes: Any, data: Scores) -> str:
    """A line at the σ that the defence injects by the median heuristic."""
    if not data.has("median_sigma"):
        return ""
    sigma = float(data["median_sigma"])
    axes.axvline(sigma, color=ATTACKED, ls="--", lw=1)
    return f"; dashed: σ = {sigma:.3g} of the median heuristic"
