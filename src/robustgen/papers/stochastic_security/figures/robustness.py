"""Figures 4-6: accuracy against Langevin steps, radius, attack steps and replicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.evaluation.statistics import Estimate
from robustgen.io import save_csv
from robustgen.papers.drawing import (
    ATTACKED,
    GREY,
    NATURAL,
    OTHER,
    TRAINED,
    absent,
    banner,
    curve,
    log_axis,
    mosaic,
    percent_axis,
    show,
)
from robustgen.papers.langevin import Defense
from robustgen.papers.stochastic_security.study import Measured
from robustgen.papers.studies import accuracy
from robustgen.papers.words import NORMS, pixels

NUMBERS = ("n", "accuracy", "low", "high")
METHOD = "method"
EBM_LINE, TRAINED_LINE = "EBM defence, BPDA+EOT", "adversarial training (L∞), PGD"
Line = tuple[object, ...]


def _numbers(estimate: Estimate) -> Line:
    return (estimate.n, estimate.value, estimate.low, estimate.high)


def by_langevin_steps(path: Path, found: Measured) -> None:
    """Figure 4: natural accuracy and accuracy under BPDA+EOT against K, convergent and non-convergent EBM."""
    header = ("ebm", "images", "langevin_steps", *NUMBERS, METHOD)
    studies = {"convergent": found.steps_ours, "non-convergent": found.steps_twin}
    if not any(studies.values()):
        absent(path, header, "defences with different numbers of Langevin steps")
        return
    strips = _long_run(found)
    table: list[Line] = []
    with figure(path, 9.2, 3.3 + 1.1 * bool(strips)) as made:
        panels = made.subplots(1 + bool(strips), 2, squeeze=False, height_ratios=[3.3, 0.8][: 1 + bool(strips)])
        for axes, (ebm, study) in zip(panels[0], studies.items(), strict=True):
            if study is None:
                banner(axes, f"{ebm} EBM")
                continue
            steps = study.values("langevin_steps", norm="linf", eps=found.eps)
            points = [study.point(norm="linf", eps=found.eps, langevin_steps=k) for k in steps]
            for name, which, colour in (("natural", "natural", NATURAL), ("BPDA+EOT", "robust", ATTACKED)):
                estimates = [accuracy(getattr(study, which)(point)) for point in points]
                curve(axes, steps, estimates, label=name, colour=colour)
                table += [
                    (ebm, name, k, *_numbers(e), study.method(point))
                    for k, e, point in zip(steps, estimates, points, strict=True)
                ]
            log_axis(axes, steps, "Langevin steps K")
            percent_axis(axes)
            axes.set_title(f"{ebm} EBM, L∞ eps {pixels(found.eps)}\n{study.settings(points)}", fontsize=8)
        for axes, strip in zip(panels[-1] if strips else (), strips, strict=True):
            if strip is None:
                axes.set_axis_off()
            else:
                show(axes, mosaic(strip, min(10, len(strip))))
                axes.set_title(_strip_title(found), fontsize=8)
        _legend(panels[0])
    save_csv(f"{path}.csv", header, table)


def _long_run(found: Measured) -> list[np.ndarray | None]:
    """Samples of the convergent and of the non-convergent EBM after equally many steps; empty without either."""
    data = found.dynamics
    strips = [data[name] if data is not None and data.has(name) else None for name in ("steady_ours", "steady_twin")]
    return strips if any(strip is not None for strip in strips) else []


def _strip_title(found: Measured) -> str:
    steps = found.dynamics.config.get("steady_steps") if found.dynamics is not None else None
    return f"after {steps or 'many'} steps from training images"


def by_radius(path: Path, found: Measured) -> None:
    """Figure 5: accuracy against the radius for L∞ and L2 attacks, beside adversarial training."""
    header = ("norm", "defence", "eps", *NUMBERS, METHOD)
    table: list[Line] = []
    curves = {norm: list(_defences(found, norm)) for norm in NORMS}
    if not any(curves.values()):
        absent(path, header, "attacks of different radii")
        return
    with figure(path, 9.2, 3.3) as made:
        panels = made.subplots(1, 2)
        for axes, (norm, defences) in zip(panels, curves.items(), strict=True):
            if not defences:
                banner(axes, f"{NORMS[norm]} attacks")
                continue
            for name, study, colour, style in defences:
                x, points, estimates = _over_radii(study, norm)
                curve(axes, x, estimates, label=_label(name, study), colour=colour, style=style)
                table += [
                    (NORMS[norm], name, eps, *_numbers(e), "natural images of: " * (eps == 0) + study.method(point))
                    for eps, point, e in zip(x, points, estimates, strict=True)
                ]
            percent_axis(axes)
            axes.set_xlabel(f"{NORMS[norm]} radius, images in [0, 1]")
            name, study, _, _ = defences[0]
            settings = f"\n{name.split(',')[0]}: {study.settings(_over_radii(study, norm)[1])}"
            axes.set_title(f"{NORMS[norm]} attacks{settings}", fontsize=8)
        _legend(panels)
    save_csv(f"{path}.csv", header, table)


def _defences(found: Measured, norm: str) -> Iterator[tuple[str, Defense, str, str]]:
    lines = (
        (EBM_LINE, found.linf if norm == "linf" else found.l2, ATTACKED, "o-"),
        (TRAINED_LINE, found.at_linf, TRAINED, "s--"),
        ("adversarial training (L2), PGD", found.at_l2, OTHER, "^:"),
    )
    for name, study, colour, style in lines:
        if study is not None and any(eps > 0 for eps in study.values("eps", norm=norm)):
            yield name, study, colour, style


def _label(name: str, study: Defense) -> str:
    """A line's name with the attack's number of updates and the number of images."""
    return f"{name}-{study.restarts * study.attack_steps}, n = {len(study.labels)}"


def _over_radii(study: Defense, norm: str) -> tuple[list[float], list[int], list[Estimate]]:
    """Radii, grid points and accuracies, from the natural images at 0 (of the first point) on."""
    radii = [eps for eps in study.values("eps", norm=norm) if eps > 0]
    points = [study.point(norm=norm, eps=eps) for eps in radii]
    estimates = [accuracy(study.natural(points[0])), *(accuracy(study.robust(point)) for point in points)]
    return [0.0, *radii], [points[0], *points], estimates


def by_attack(path: Path, found: Measured) -> None:
    """Figure 6: accuracy against the number of attack steps (left), and against H_adv and H_def (right)."""
    header = ("against", "defence", "at", *NUMBERS, METHOD)
    if found.attack_steps is None and found.draws is None:
        absent(path, header, "long attacks, and attacks with different numbers of replicates")
        return
    table: list[Line] = []
    with figure(path, 9.2, 3.5) as made:
        left, right = made.subplots(1, 2)
        table += _against_updates(left, found) if found.attack_steps else []
        table += _against_replicates(right, found.draws, found.eps) if found.draws else []
        for axes, study, what in (
            (left, found.attack_steps, "a long attack"),
            (right, found.draws, "different replicates"),
        ):
            if study is None:
                banner(axes, what)
            else:
                percent_axis(axes)
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8, ncols=1)
    save_csv(f"{path}.csv", header, table)


def _against_updates(axes: Any, found: Measured) -> list[Line]:
    assert found.attack_steps is not None
    lines = [(EBM_LINE, found.attack_steps, found.eps, ATTACKED, "-")]
    if found.attack_steps.has(norm="linf", eps=0.0):
        lines.append(("EBM defence, zero radius (control)", found.attack_steps, 0.0, GREY, ":"))
    if found.at_linf is not None and found.at_linf.has(norm="linf", eps=found.eps):
        lines.append((TRAINED_LINE, found.at_linf, found.eps, TRAINED, "--"))
    table: list[Line] = []
    for name, study, eps, colour, style in lines:
        point = study.point(norm="linf", eps=eps)
        natural, broken_at = study.natural(point), study.updates_to_break(point)
        updates = list(range(study.restarts * study.attack_steps + 1))
        estimates = [accuracy(natural & ~(study.broken(point) & (broken_at <= n))) for n in updates]
        label = _label(name, study) if eps > 0 else name
        curve(axes, updates, estimates, label=label, colour=colour, style=style, band=eps > 0)
        method = study.method(point)
        table += [("attack updates", name, n, *_numbers(e), method) for n, e in zip(updates, estimates, strict=True)]
    axes.set_xlabel("attack updates, restarts one after the other")
    first = found.attack_steps
    axes.set_title(f"EBM defence: {first.settings([first.point(norm='linf', eps=found.eps)])}", fontsize=8)
    return table


def _against_replicates(axes: Any, study: Defense, eps: float) -> list[Line]:
    table: list[Line] = []
    ticks: set[float] = set()
    shown: list[int] = []
    wanted = {"norm": "linf", "eps": eps}
    most = {name: study.values(name, **wanted)[-1] for name in ("draws", "verify")}
    for varied, fixed, symbol, other, colour, style in (
        ("draws", "verify", "H_adv", "H_def", ATTACKED, "o-"),
        ("verify", "draws", "H_def", "H_adv", NATURAL, "s--"),
    ):
        counts = study.values(varied, **wanted, **{fixed: most[fixed]})
        points = [study.point(**wanted, **{fixed: most[fixed], varied: count}) for count in counts]
        estimates = [accuracy(study.robust(point)) for point in points]
        name = f"{symbol}, at {other} = {most[fixed]}"
        curve(axes, counts, estimates, label=name, colour=colour, style=style)
        table += [
            (symbol, name, h, *_numbers(e), study.method(point))
            for h, e, point in zip(counts, estimates, points, strict=True)
        ]
        ticks.update(counts)
        shown += points
    log_axis(axes, sorted(ticks), "replicates")
    axes.set_title(f"EBM defence: {study.settings(shown)}", fontsize=8)
    return table


def _legend(panels: Sequence[Any]) -> None:
    """One legend for all panels, below them so that it never covers a line."""
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    panels[0].figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named))
