"""Tables 6-8: E-ABS under L∞ PGD by EOT samples, random starts and steps (Appendix B)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from robustgen.evaluation.rows import Row
from robustgen.papers.e_abs.measured import Measured, Sweeps
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables.lines import clean_method, table_of
from robustgen.papers.e_abs.words import E_ABS, SVHN
from robustgen.papers.reference import Number
from robustgen.papers.studies import accuracy
from robustgen.papers.tables import Cell
from robustgen.papers.words import plural

UNCONFIRMED = "errors not confirmed"
PREFIX = "L∞ PGD: "


@dataclass(frozen=True)
class Sweep:
    """A table of Appendix B: which study it shows, which option of the grid it varies, how its lines count it."""

    item: str
    name: str  # of the study among Sweeps
    option: str
    word: str

    def line(self, count: int) -> str:
        """The name of the line of so many."""
        return PREFIX + plural(count, self.word)

    def papers(self, known: Mapping[Cell, Number]) -> list[int]:
        """The counts that the paper's table has."""
        words = [row.removeprefix(PREFIX).split(" ", 1) for where, row, _ in known if where == SVHN and PREFIX in row]
        return sorted({int(count) for count, word in words if word.removesuffix("s") == self.word})

    def study(self, section: Sweeps) -> AttackStudy | None:
        """The study that has the points."""
        found: AttackStudy | None = getattr(section, self.name)
        return found

    def points(self, study: AttackStudy) -> dict[int, int]:
        """The grid point of every count above 0, ascending, all else being equal."""
        if study.main_point("pgd", "linf") is None:
            return {}
        found = study.swept(self.option, attack="pgd", norm="linf", eps=study.main_eps("linf"))
        return {count: point for count, point in found.items() if count > 0}


OF_EOT = Sweep("Table 6", "eot", "draws", "EOT run")
OF_STARTS = Sweep("Table 7", "restarts", "restarts", "random start")
OF_STEPS = Sweep("Table 8", "steps", "steps", "step")


def table6(found: Measured) -> list[Row]:
    """Samples that the attacker averages."""
    return list(_rows(found, OF_EOT))


def table7(found: Measured) -> list[Row]:
    """Random starts."""
    return list(_rows(found, OF_STARTS))


def table8(found: Measured) -> list[Row]:
    """Steps; none are natural images."""
    return list(_rows(found, OF_STEPS))


def accuracies(sweep: Sweep, study: AttackStudy) -> dict[int, np.ndarray]:
    """Which images (N,) stay right, by count, ascending; 0 steps are natural images."""
    natural = {0: study.natural} if sweep is OF_STEPS else {}
    return natural | {count: study.robust(point) for count, point in sweep.points(study).items()}


def _rows(found: Measured, sweep: Sweep) -> Iterator[Row]:
    table, study, dataset = table_of(sweep.item, found.scale), sweep.study(found.sweeps), found.sweeps.dataset
    right = {} if study is None else accuracies(sweep, study)
    for count in sorted({*right, *sweep.papers(table.known)}):
        name = sweep.line(count)
        if study is None or count not in right:
            yield from table.alone(SVHN, name, E_ABS, dataset or SVHN)
            continue
        method = study.method(sweep.points(study)[count]) if count else clean_method(study)
        yield table.row(dataset, name, E_ABS, accuracy(right[count]), method, SVHN)
        unconfirmed = study.false_breaks(sweep.points(study)[count]) if count else None
        if unconfirmed is not None:
            yield table.row(dataset, name, UNCONFIRMED, unconfirmed, "share of the errors that the attacker saw")
