"""Names of columns, which the tables share with the headline, and the rows of areas under ROC curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from robustgen.evaluation.rows import Row
from robustgen.papers.gat.probe import Probe
from robustgen.papers.reference import reference
from robustgen.papers.tables import Table

FIRST_TWO = (0, 1)  # positions of the paper's d1 and d2
AREA = "AUC"
ACCEPTED, STANDARD, ERROR = "TPR", "Standard accuracy", "FPR = error"
DISTORTION, REACHED = "mean L2 distortion", "FPR reached"


def table_of(item: str, scale: str) -> Table:
    """An empty table of this paper's, which knows its numbers."""
    return Table("gat", item, scale, reference("robustgen.papers.gat"))


def name(position: int) -> str:
    """A detector as the paper calls it: d1 is the first."""
    return f"d{position + 1}"


def areas(
    table: Table,
    dataset: str,
    probe: Probe,
    point: int | None,
    line: str,
    shown: str,
    *,
    key: str = "",
    positions: Sequence[int] = FIRST_TWO,
) -> Iterator[Row]:
    """A line of the areas of some detectors; the paper's, on `shown`, stand beside under the line `key`."""
    for position in positions:
        if position in probe.usable:
            estimate, method = probe.area(point, position), probe.method(point)
            row = table.number(dataset, key or line, name(position), estimate, "", method, shown)
            yield replace(row, row=line)


def alone(table: Table, dataset: str, line: str, shown: str, columns: Sequence[str] = ("d1", "d2")) -> Iterator[Row]:
    """The paper's numbers of a line, without ours."""
    for column in columns:
        yield from table.alone(shown, line, column, dataset or shown, "")


def listed(table: Table, dataset: str, probe: Probe | None, shown: str, key: str) -> Iterator[Row]:
    """A line for every attack in the training's ball that begins at the image; the paper's beside, in its order."""
    points = [] if probe is None else probe.fixed()
    for number, point in enumerate(points, 1):
        assert probe is not None
        yield from areas(table, dataset, probe, point, f"{key}, attack {number}", shown)
    number = len(points) + 1
    while any((shown, f"{key}, attack {number}", column) in table.known for column in ("d1", "d2")):
        yield from alone(table, dataset, f"{key}, attack {number}", shown)
        number += 1


def every(table: Table, dataset: str, probe: Probe | None, point: int | None, shown: str, role: str) -> Iterator[Row]:
    """Every detector of a model, one a line, in the column of its role."""
    column = f"{AREA}, {role}"
    count = 10 if probe is None else len(probe.detectors)
    for position in range(count):
        if probe is None or position not in probe.usable:
            yield from table.alone(shown, name(position), column, dataset or shown, "")
        else:
            estimate, method = probe.area(point, position), probe.method(point)
            yield table.number(dataset, name(position), column, estimate, "", method, shown)


def restarts(table: Table, dataset: str, probe: Probe | None, shown: str, role: str) -> Iterator[Row]:
    """An attack from the image and from random points, of which the worst counts."""
    pair = None if probe is None else probe.restarted()
    for number, start in enumerate(("random restarts", "fixed start")):
        line = f"{role}, {start}"
        if probe is None or pair is None:
            yield from alone(table, dataset, line, shown)
        else:
            yield from areas(table, dataset, probe, pair[number], line, shown)
