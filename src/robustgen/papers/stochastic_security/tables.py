"""Tables 1, 2 and 3: accuracies on natural images and under attack, in percent, beside the paper's."""

from __future__ import annotations

from collections.abc import Iterator

from robustgen.evaluation.rows import Row
from robustgen.papers.langevin import Defense
from robustgen.papers.reference import reference
from robustgen.papers.stochastic_security.study import Measured
from robustgen.papers.stochastic_security.words import ELSEWHERE, SHOWN
from robustgen.papers.studies import Attacked, accuracy
from robustgen.papers.tables import Table

NATURAL, ADVERSARIAL, FALSE_BREAKS = "natural", "adversarial", "false breaks"
OURS, AT_LINF, AT_L2 = "EBM defence: BPDA+EOT", "Adversarial training (L∞): PGD", "Adversarial training (L2): PGD"
ZERO, BLIND, NONE = "EBM defence: BPDA+EOT at zero radius", "EBM defence: PGD blind to it", "No defence: PGD"
MODELS = {"ours": "Ours", "twin": "Ours, non-convergent EBM", "igebm": "IGEBM", "jem": "JEM"}
RUNS = ("base classifier", "short run", "long run")


def _table(item: str, found: Measured) -> Table:
    return Table("stochastic-security", item, found.scale, reference(__package__))


def table1(found: Measured) -> list[Row]:
    """Accuracy of each energy-based defence against PGD on its base classifier."""
    table = _table("Table 1", found)
    rows: list[Row] = []
    for role, line in MODELS.items():
        study = getattr(found, role)
        for run, steps in zip(RUNS, (0, found.short, found.long), strict=True):
            for column, attacked in ((NATURAL, False), (ADVERSARIAL, True)):
                name = f"{run}, {column}"
                if study is None:
                    rows += table.alone(SHOWN, line, name, found.dataset)
                else:
                    estimate = accuracy(study.correct(steps, attacked=attacked))
                    method = study.method(steps, attacked=attacked)
                    rows.append(table.row(found.dataset, line, name, estimate, method, SHOWN))
    return rows


def table2(found: Measured) -> list[Row]:
    """Defences under white-box L∞ attacks at one radius; first ours, then controls, then what the paper borrows."""
    table = _table("Table 2", found)

    def both(line: str, study: Defense, point: int) -> Iterator[Row]:
        method = study.method(point)
        right = {NATURAL: study.natural(point), ADVERSARIAL: study.robust(point)}
        for column, which in right.items():
            yield table.row(found.dataset, line, column, accuracy(which), method, SHOWN)

    rows: list[Row] = []
    if found.main is None:
        for column in (NATURAL, ADVERSARIAL):
            rows += table.alone(SHOWN, OURS, column, found.dataset)
    else:
        rows += both(OURS, found.main, found.main.point(norm="linf", eps=found.eps, langevin_steps=found.long))
    control = None if found.control is None else Attacked(*found.control)
    rows += table.false_breaks(found.dataset, ZERO, FALSE_BREAKS, control)
    for line, study in ((AT_LINF, found.at_linf), (AT_L2, found.at_l2)):
        if study is not None and study.has(norm="linf", eps=found.eps):
            rows += both(line, study, study.point(norm="linf", eps=found.eps))
    if found.ours is not None:
        for line, steps in ((BLIND, found.long), (NONE, 0)):
            for column, attacked in ((NATURAL, False), (ADVERSARIAL, True)):
                right = found.ours.correct(steps, attacked=attacked)
                method = found.ours.method(steps, attacked=attacked)
                rows.append(table.row(found.dataset, line, column, accuracy(right), method, SHOWN))
    for line, study, point in unrolled_pairs(found):
        rows += both(line, study, point)
    return [*rows, *table.borrowed(SHOWN, found.dataset)]


def unrolled_pairs(found: Measured) -> Iterator[tuple[str, Defense, int]]:
    """Few-step defences under the full gradient, each followed by the same defence under BPDA+EOT where that was run.

    (line, study, grid point).
    """
    if found.full_gradient is None:
        return
    for steps in found.full_gradient.values("langevin_steps", norm="linf", eps=found.eps):
        wanted = {"norm": "linf", "eps": found.eps, "langevin_steps": steps}
        name = f"EBM defence of {steps} Langevin steps"
        yield f"{name}: full gradient", found.full_gradient, found.full_gradient.point(**wanted)
        if found.steps_ours is not None and found.steps_ours.has(**wanted):
            yield f"{name}: BPDA+EOT", found.steps_ours, found.steps_ours.point(**wanted)


def table3(found: Measured) -> list[Row]:
    """Other data sets under the parameters of Table 2."""
    table = _table("Table 3", found)
    rows: list[Row] = []
    for dataset, ours, trained in found.others:
        for line, study in ((OURS, ours), (AT_LINF, trained)):
            point = study.point(norm="linf", eps=found.eps)
            for column, right in ((NATURAL, study.natural(point)), (ADVERSARIAL, study.robust(point))):
                rows.append(table.row(dataset, line, column, accuracy(right), study.method(point)))
    here = [dataset for dataset, _, _ in found.others]
    for dataset in (*here, *(name for name in ELSEWHERE if name not in here)):
        if dataset not in here:
            for line in (OURS, AT_LINF):
                for column in (NATURAL, ADVERSARIAL):
                    rows += table.alone(dataset, line, column)
        rows += table.borrowed(dataset, dataset)
    return rows
