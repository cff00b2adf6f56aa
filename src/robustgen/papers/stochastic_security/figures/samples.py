"""Figures 2, 8 and 10: samples along training, against the noise, and of three models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.evaluation.statistics import mean
from robustgen.io import save_csv
from robustgen.papers.drawing import (
    ATTACKED,
    GREY,
    NATURAL,
    OTHER,
    TRAINED,
    absent,
    mosaic,
    show,
    thinned,
)
from robustgen.papers.reference import reference
from robustgen.papers.stochastic_security.study import Dynamics, Measured

SNAPSHOTS = 8  # columns of Figure 2
STRIPS = 7  # noise strengths that Figure 8 shows samples of
MODELS = {"ours": ("ours", NATURAL), "igebm": ("IGEBM", TRAINED), "jem": ("JEM", OTHER)}
AUTOGRAD = "ours_autograd"  # our EBM's time by plain autograd, as the others are timed
TIMED = {"ours": MODELS["ours"], AUTOGRAD: ("ours, plain autograd", "#92c5de"), **MODELS}
LONG = 1500  # the paper's Langevin steps


def training(path: Path, found: Measured) -> None:
    """Figure 2: short- and long-run samples while the EBM is trained, first with Adam, then with SGD."""
    header = ("update", "phase", "samples", "n", "mean", "sd", "outside")
    data = found.dynamics
    if data is None or not data.has("snapshot_updates", "snapshot_phase", "short_samples", "long_samples"):
        absent(path, header, "samples along the training of the EBM")
        return
    updates, phases = data["snapshot_updates"], data["snapshot_phase"]
    chosen = thinned(len(updates), SNAPSHOTS)
    side = max(1, min(3, int(len(data["short_samples"][0]) ** 0.5)))
    with figure(path, 1.25 * len(chosen) + 0.9, 3.2) as made:
        panels = made.subplots(2, len(chosen), squeeze=False)
        for column, snapshot in enumerate(chosen):
            for row, samples in enumerate(("short_samples", "long_samples")):
                show(panels[row, column], mosaic(data[samples][snapshot], side, side))
            colour = ATTACKED if phases[snapshot] == "adam" else NATURAL
            optimiser = {"adam": "Adam", "sgd": "SGD"}.get(str(phases[snapshot]), str(phases[snapshot]))
            panels[0, column].set_title(f"{optimiser}\n{updates[snapshot]}", color=colour)
        long = data.config.get("long_steps")
        panels[0, 0].set_ylabel("short run")
        panels[1, 0].set_ylabel("long run" + (f"\n{long} steps more" if long else ""))
        made.supxlabel("training update", fontsize=9)
    table = [
        (int(updates[k]), str(phases[k]), run, len(samples[k]), *_pixel_statistics(samples[k]))
        for run, samples in (("short", data["short_samples"]), ("long", data["long_samples"]))
        for k in range(len(updates))
    ]
    save_csv(f"{path}.csv", header, table)


def _pixel_statistics(images: np.ndarray) -> tuple[float, float, float]:
    """Mean, standard deviation and share outside [0, 1] of the pixels."""
    return float(images.mean()), float(images.std()), float(((images < 0) | (images > 1)).mean())


def chaos(path: Path, found: Measured) -> None:
    """Figure 8: maximal Lyapunov exponent against the noise strength η, and samples at some of them."""
    header = ("separation", "eta", "chains", "exponent", "low", "high")
    data = found.dynamics
    if data is None or not data.has("etas", "lyapunov"):
        absent(path, header, "Lyapunov exponents of the Langevin dynamics")
        return
    samples = data["eta_samples"] if data.has("eta_samples") else None
    widths = [4.6, 3.1][: 1 + (samples is not None)]
    with figure(path, sum(widths), max(4.2, 1.2 + 1.3 * len(data.exponents()))) as made:
        left, *right = made.subfigures(1, len(widths), squeeze=False, width_ratios=widths)[0]
        table = _exponents(left, data)
        for part in right:
            _strips(part, data["etas"], samples)
            if steps := sum(data.config.get(f"lyapunov_{which}", 0) for which in ("burn_in", "steps")):
                part.suptitle(f"samples after {steps} steps", fontsize=8)
    save_csv(f"{path}.csv", header, table)


def _exponents(part: Any, data: Dynamics) -> list[tuple[object, ...]]:
    """The exponents, a panel for each separation, as they may differ by far; the reported one on top."""
    etas: list[float] = data["etas"].tolist()
    table: list[tuple[object, ...]] = []
    found = data.exponents()
    panels = part.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
    styles = (("o-", NATURAL), ("s--", TRAINED), ("^:", OTHER))
    for k, (separation, exponents) in enumerate(found.items()):
        axes, (style, colour) = panels[k], styles[k % len(styles)]
        estimates = [mean(values) for values in exponents]
        centre, low, high = (np.array([getattr(e, end) for e in estimates]) for end in ("value", "low", "high"))
        axes.plot(etas, centre, style, color=colour, ms=3.5, lw=1.3)
        axes.fill_between(etas, low, high, color=colour, alpha=0.18, lw=0)
        axes.set_title(separation, fontsize=8)
        table += [(separation, eta, e.n, e.value, e.low, e.high) for eta, e in zip(etas, estimates, strict=True)]
    for axes in panels:
        axes.axhline(0, color=GREY, lw=0.8)
        axes.axvline(1, color=ATTACKED, ls="--", lw=1)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    panels[-1].set_xlabel("noise strength η (dashed: training, defence)")
    part.supylabel("maximal Lyapunov exponent, per step", fontsize=9)
    return table


def _strips(part: Any, etas: np.ndarray, samples: Any) -> None:
    shown = thinned(len(etas), STRIPS)
    nearest = int(np.argmin(np.abs(etas - 1)))  # η = 1 is what everything else uses
    shown = sorted({*(k for k in shown if abs(etas[k] - 1) > abs(etas[nearest] - 1)), nearest})
    for axes, k in zip(part.subplots(len(shown), 1, squeeze=False)[:, 0], reversed(shown), strict=True):
        show(axes, mosaic(samples[k], min(8, len(samples[k]))))
        axes.set_ylabel(f"η = {etas[k]:g}", rotation=0, ha="right", va="center")


def steady_state(path: Path, found: Measured) -> None:
    """Figure 10: samples after many Langevin steps, and the time of one step, of the EBM, IGEBM and JEM."""
    header = ("model", "parameters", "paper_parameters", "ms_per_step", "ratio", "paper_ratio_from", "paper_ratio_to",
              "seconds_1500_steps", "paper_seconds")  # fmt: skip
    data = found.dynamics
    timed = [name for name in TIMED if data is not None and data.has(f"ms_per_step_{name}")]
    shown = [name for name in MODELS if data is not None and data.has(f"steady_{name}")]
    if data is None or not (timed or shown):
        absent(path, header, "samples and running times of the three models")
        return
    widths = [1.9 * len(shown)] * bool(shown) + [3.6] * bool(timed)
    with figure(path, sum(widths), 2.4) as made:
        parts = list(made.subfigures(1, len(widths), squeeze=False, width_ratios=widths)[0])
        if timed:
            _bars(parts.pop().subplots(), data, timed)
        for part in parts:
            for axes, name in zip(part.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
                show(axes, mosaic(data[f"steady_{name}"], *_sides(len(data[f"steady_{name}"]))))
                axes.set_title(_title(data, name), fontsize=8)
    save_csv(f"{path}.csv", header, [_running_time(data, name) for name in timed])


def _title(data: Dynamics, name: str) -> str:
    lost = int((data[f"diverged_{name}"] >= 0).sum()) if data.has(f"diverged_{name}") else 0
    steps = data.config.get("steady_steps")
    words = [MODELS[name][0], f"after {steps} steps" if steps else ""]
    words += [f"({lost} of {len(data[f'diverged_{name}'])} diverged before)"] if lost else []
    return "\n".join(word for word in (" ".join(words[:2]).strip(), *words[2:]) if word)


def _sides(count: int) -> tuple[int, int]:
    side = max(1, min(4, int(count**0.5)))
    return side, side


def _bars(axes: Any, data: Dynamics, timed: list[str]) -> None:
    times = [float(data[f"ms_per_step_{name}"]) for name in timed]
    bars = axes.barh(range(len(timed)), times, color=[TIMED[name][1] for name in timed], height=0.6)
    axes.bar_label(bars, [f"{time:.3g} ms\n{_parameters(data, name)}" for time, name in zip(times, timed, strict=True)],
                   padding=3, fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(timed)), [TIMED[name][0] for name in timed])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.9 * max(times))
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("ms per Langevin step, 100 images")


def _parameters(data: Dynamics, name: str) -> str:
    count = _count(data, name)
    return f"{count / 1e6:.3g} M parameters" if count >= 1e5 else f"{count / 1e3:.3g} k parameters"


def _count(data: Dynamics, name: str) -> int:
    return int(data[f"parameters_{'ours' if name == AUTOGRAD else name}"])


def _running_time(data: Dynamics, name: str) -> tuple[object, ...]:
    """A line of the CSV; the ratio is to our EBM's time by plain autograd where that was taken, like for like."""
    known = reference(__package__.rpartition(".")[0])

    def paper(column: str) -> float | None:
        number = known.get(("CIFAR-10", MODELS[name][0].replace("ours", "Ours"), column)) if name in MODELS else None
        return None if number is None else number.value

    time = float(data[f"ms_per_step_{name}"])
    alike = next((key for key in (AUTOGRAD, "ours") if data.has(f"ms_per_step_{key}")), None)
    ratio = None if alike is None else time / float(data[f"ms_per_step_{alike}"])
    over = [paper(f"time of a Langevin step over ours, {end}") for end in ("from", "to")]
    seconds = paper(f"{LONG} Langevin steps, 100 images")
    return (TIMED[name][0], _count(data, name), paper("parameters"), time, ratio, *over, time * LONG / 1000, seconds)
