"""Names of lines and columns, which the tables share with coverage and headline, and single cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import Estimate
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.words import CLEAN, UNDER_PGD
from robustgen.papers.reference import reference
from robustgen.papers.studies import accuracy
from robustgen.papers.tables import Table


def table_of(item: str, scale: str) -> Table:
    """An empty table of this paper's, which knows its numbers."""
    return Table("e-abs", item, scale, reference("robustgen.papers.e_abs"))


def recipe(paper: str, line: str) -> str:
    """The name of a line where several data sets of the paper stand in one table, perhaps on one data set here."""
    return f"{paper}'s recipe: {line}"


def shown(
    table: Table,
    dataset: str,
    paper: str,
    line: str,
    column: str,
    value: Estimate | float | None,
    unit: str,
    method: str = "",
    name: str = "",
) -> Iterator[Row]:
    """A number of a line called after the paper's recipe, the paper's beside; or that alone, where ours is None.

    `line` finds the paper's number; the line is called `name`, or as that.
    """
    if value is None:
        rows = table.alone(paper, line, column, dataset or paper, unit)
    else:
        rows = iter([table.number(dataset, line, column, value, unit, method, paper)])
    for row in rows:
        yield replace(row, row=recipe(paper, name or line))


def nothing(table: Table, dataset: str) -> Row:
    """The only row of a table of which the paper has no number, at a scale that does without."""
    return table.number(dataset, "not run at this scale", "studies", 0.0, "", "not run at this scale")


def clean_method(study: AttackStudy) -> str:
    """How natural images were judged, in words."""
    return "; ".join(filter(None, ["natural images", study.inference, f"seed {study.config['seed']}"]))


def under_pgd(table: Table, dataset: str, paper: str, line: str, study: AttackStudy) -> Iterator[Row]:
    """A line of accuracies, natural and under PGD of the norms' main radii."""
    yield table.row(dataset, line, CLEAN, accuracy(study.natural), clean_method(study), paper)
    for norm, column in UNDER_PGD.items():
        if norm not in study.norms:
            continue
        if (point := study.main_point("pgd", norm)) is not None:
            yield table.row(dataset, line, column, accuracy(study.robust(point)), study.method(point), paper)
        else:
            yield from table.alone(paper, line, column, dataset)


def percent(estimate: Estimate) -> Estimate:
    """A share in percent."""
    return Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high, estimate.n)


def share(mask: np.ndarray) -> Estimate:
    """The share of images (N,) that have a property, in percent, with its exact interval."""
    return percent(accuracy(mask))
