"""Figures 2 and 4 and the sweep over EOT draws: accuracy against T, the certified radius, and the attack's draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.evaluation.smoothing import ALPHA, certified_accuracy
from robustgen.evaluation.statistics import Estimate
from robustgen.io import save_csv
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import Certification, ScoreDefense
from robustgen.papers.adp.words import ATTACKS
from robustgen.papers.drawing import ATTACKED, GREY, NATURAL, OTHER, TRAINED, absent, curve, log_axis, percent_axis
from robustgen.papers.studies import accuracy
from robustgen.papers.words import pixels, plural

NUMBERS = ("n", "accuracy", "low", "high")
METHOD = "method"
RADII = 121  # points of a curve of certified accuracy
LINES = (  # of Figure 4: whose, by which certificate, name, colour, style
    ("adp", "point", "ADP, point estimate (the paper's)", ATTACKED, "--"),
    ("adp", "renyi", "ADP, Li et al., point estimate", OTHER, ":"),
    ("adp", "certify", "ADP, CERTIFY", ATTACKED, "-"),
    ("cohen", "point", "Cohen et al., point estimate", GREY, "--"),
    ("cohen", "certify", "Cohen et al., CERTIFY", GREY, "-"),
)
BANDS = ("certify",)
Line = tuple[object, ...]


def _numbers(estimate: Estimate) -> Line:
    return (estimate.n, estimate.value, estimate.low, estimate.high)


def by_steps(path: Path, found: Measured) -> None:
    """Figure 2: accuracy under BPDA against the purification steps T, for both models and both kinds of update."""
    header = ("model", "updates", "purification_steps", *NUMBERS, METHOD)
    lines = list(_sweeps(found))
    if not lines:
        absent(path, header, "purifications of different numbers of steps")
        return
    table: list[Line] = []
    ticks: set[int] = set()
    with figure(path, 6.4, 3.9) as made:
        axes = made.subplots()
        for model, updates, study, colour, style in lines:
            steps = study.values("purification_steps", attack="bpda", norm="linf", eps=found.eps)
            points = [study.point(attack="bpda", norm="linf", eps=found.eps, purification_steps=t) for t in steps]
            estimates = [accuracy(study.robust(point)) for point in points]
            name = ", ".join([model, updates, *_line_settings(study, points)])
            curve(axes, steps, estimates, label=name, colour=colour, style=style)
            ticks.update(steps)
            table += [
                (model, updates, t, *_numbers(e), study.method(point))
                for t, e, point in zip(steps, estimates, points, strict=True)
            ]
        log_axis(axes, sorted(ticks), "purification steps T")
        percent_axis(axes)
        axes.set_title(_attack_title(found, [study for _, _, study, _, _ in lines]), fontsize=8)
        made.legend(loc="outside lower center", ncols=2, fontsize=7.5)
    save_csv(f"{path}.csv", header, table)


def _sweeps(found: Measured) -> Iterator[tuple[str, str, ScoreDefense, str, str]]:
    lines = (
        ("DSM", "deterministic", found.dsm_deterministic, NATURAL, "o-"),
        ("DSM", "Langevin", found.dsm_langevin, NATURAL, "s--"),
        ("ML", "deterministic", found.ml_deterministic, ATTACKED, "o-"),
        ("ML", "Langevin", found.ml_langevin, ATTACKED, "s--"),
    )
    for model, updates, study, colour, style in lines:
        if study is not None and found.under(study) is not None:
            yield model, updates, study, colour, style


def _line_settings(study: ScoreDefense, points: list[int]) -> list[str]:
    """What tells a line from the others: step size, temperature, EOT draws."""
    defense = study.config.get("defense", {})
    words = [f"α {defense['step']:g}"] if defense.get("step") is not None else []
    words += [f"temperature {defense.get('temperature', 1):g}"] if defense.get("updates") == "langevin" else []
    draws = {study.options(point)["eot"] for point in points}
    words += [f"EOT {count}" for count in draws if study.random and len(draws) == 1]
    return words


def _attack_title(found: Measured, studies: list[ScoreDefense]) -> str:
    """What the attacks on all of these have in common."""
    words = [f"BPDA, L∞ eps {pixels(found.eps)}"]
    updates = {study.attack_steps for study in studies}
    words += [plural(count, "update") for count in updates if len(updates) == 1]
    sigmas = {round(study.sigma, 6) for study in studies}
    words += [f"injected σ {sigma:.3g}" for sigma in sigmas if len(sigmas) == 1]
    images = sorted({len(study.labels) for study in studies})
    return ", ".join([*words, f"n = {' to '.join(map(str, {images[0]: 0, images[-1]: 0}))}"])


def by_draws(path: Path, found: Measured) -> None:
    """Accuracy under BPDA+EOT, and any other attack that was swept, against the draws behind a gradient."""
    header = ("attack", "draws", *NUMBERS, METHOD)
    study = found.eot
    attacks = [] if study is None else [a for a in study.attacks if study.has(attack=a, norm="linf", eps=found.eps)]
    if study is None or not attacks:
        absent(path, header, "attacks of different numbers of EOT draws")
        return
    table: list[Line] = []
    ticks: set[int] = set()
    with figure(path, 5.4, 3.6) as made:
        axes = made.subplots()
        for attack, colour, style in zip(attacks, (ATTACKED, NATURAL, TRAINED, OTHER) * 2, "osD^v<>", strict=False):
            wanted = {"attack": attack, "norm": "linf", "eps": found.eps}
            name = f"{ATTACKS[attack].name}+EOT, n = {len(study.labels)}"
            draws = study.values("eot", **wanted)
            points = [study.point(**wanted, eot=count) for count in draws]
            estimates = [accuracy(study.robust(point)) for point in points]
            curve(axes, draws, estimates, label=name, colour=colour, style=f"{style}-")
            ticks.update(draws)
            table += [
                (attack, count, *_numbers(e), study.method(point))
                for count, e, point in zip(draws, estimates, points, strict=True)
            ]
        log_axis(axes, sorted(ticks), "EOT draws behind a gradient")
        percent_axis(axes)
        axes.set_title(
            f"ADP of σ {study.sigma:.3g}, L∞ eps {pixels(found.eps)}, {plural(study.attack_steps, 'update')}",
            fontsize=8,
        )
        made.legend(loc="outside lower center", ncols=2)
    save_csv(f"{path}.csv", header, table)


def certificates(path: Path, found: Measured) -> None:
    """Figure 4: certified accuracy against the L2 radius, a panel a noise level, by every certificate."""
    header = ("sigma", "classifier", "certificate", "radius", *NUMBERS, METHOD)
    levels = sorted({sigma for study in (found.certified, *found.cohen) if study is not None for sigma in study.sigmas})
    if not levels:
        absent(path, header, "certificates")
        return
    table: list[Line] = []
    with figure(path, max(5.2, 4.4 * len(levels)), 4.2) as made:
        panels = made.subplots(1, len(levels), squeeze=False, sharey=True)[0]
        for axes, sigma in zip(panels, levels, strict=True):
            table += _panel(axes, found, sigma)
        percent_axis(panels[0])
        panels[0].set_ylabel("certified accuracy, %")
        named: dict[str, Any] = {}
        for axes in panels:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                named.setdefault(label, handle)
        made.legend(named.values(), named.keys(), loc="outside lower center", ncols=2)
    save_csv(f"{path}.csv", header, table)


def _panel(axes: Any, found: Measured, sigma: float) -> list[Line]:
    ours = found.certified if found.certified is not None and found.certified.has(sigma) else None
    studies: dict[str, Certification | None] = {"adp": ours, "cohen": found.rival(sigma)}
    curves: list[tuple[str, str, str, str, str, Certification]] = [
        (whose, kind, name, colour, style, study)
        for whose, kind, name, colour, style in LINES
        if (study := studies[whose]) is not None
    ]
    furthest = max(float(study.radii(sigma, kind).max()) for _, kind, _, _, _, study in curves)
    radii = np.linspace(0, 1.05 * furthest or sigma, RADII).tolist()
    table: list[Line] = []
    for whose, kind, name, colour, style, study in curves:
        estimates = certified_accuracy(study.certificates(sigma, kind), study.labels, radii)
        curve_of(axes, radii, estimates, name, colour, style, band=kind in BANDS)
        method = f"{study.settings}" + (f", α {ALPHA:g}" if kind == "certify" else "")
        table += [(sigma, whose, kind, r, *_numbers(e), method) for r, e in zip(radii, estimates, strict=True)]
    axes.set_xlabel("L2 radius, pixel units")
    settings = [
        f"{word}: {study.settings}, at most {study.cap(sigma, 'certify'):.3g} / {study.cap(sigma, 'point'):.3g}"
        for word, study in (("ADP", ours), ("Cohen et al.", studies["cohen"]))
        if study is not None
    ]
    axes.set_title(f"σ = {sigma:g}, α = {ALPHA:g} of CERTIFY\n" + "\n".join(settings), fontsize=8)
    return table


def curve_of(
    axes: Any, radii: list[float], estimates: list[Estimate], name: str, colour: str, style: str, *, band: bool
) -> None:
    """A falling step function in percent, its interval as a band where asked for, down to where nothing is left."""
    value, low, high = (100 * np.array([getattr(e, end) for e in estimates]) for end in ("value", "low", "high"))
    axes.step(radii, value, where="pre", ls=style, color=colour, lw=1.3, label=name)
    if band:
        axes.fill_between(radii, low, high, where=value > 0, step="pre", color=colour, alpha=0.15, lw=0)
