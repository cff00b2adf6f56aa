"""Tables 3 and 12-18: single detectors fine-tuned from a classifier, under attacks of every kind (Sec. 5.2, App. C)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from robustgen.evaluation.rows import Row
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.probe import Probe
from robustgen.papers.gat.tables.lines import alone, areas, every, listed, name, restarts, table_of
from robustgen.papers.gat.words import CIFAR, IMAGENET, L2, LINF_LARGE, LINF_SMALL
from robustgen.papers.tables import Table

OTHERS = {"L2": f"{LINF_LARGE} under L2 attack", "small": f"{LINF_LARGE} under {LINF_SMALL} attack"}
FINE, COARSE = "fine training steps", "coarse training steps"  # columns of Table 17


def table3(found: Measured) -> list[Row]:
    """Steps and step sizes."""
    cifar = found.cifar
    return list(listed(table_of("Table 3", found.scale), cifar.dataset, cifar.large, CIFAR, LINF_LARGE))


def table12(found: Measured) -> list[Row]:
    """Random restarts."""
    table, cifar = table_of("Table 12", found.scale), found.cifar
    return [
        row
        for role, probe in ((LINF_SMALL, cifar.small), (LINF_LARGE, cifar.large))
        for row in restarts(table, cifar.dataset, probe, CIFAR, role)
    ]


def table13(found: Measured) -> list[Row]:
    """Other norms and radii."""
    table, cifar = table_of("Table 13", found.scale), found.cifar
    rows: list[Row] = []
    for key, point in others(found).items():
        if cifar.large is None or point is None:
            rows += alone(table, cifar.dataset, OTHERS[key], CIFAR)
        else:
            rows += areas(table, cifar.dataset, cifar.large, point, OTHERS[key], CIFAR)
    return rows


def others(found: Measured) -> dict[str, int | None]:
    """The grid points of Table 13: an L2 attack, and one of a smaller L∞ radius; None where there is none."""
    probe = found.cifar.large
    if probe is None:
        return {"L2": None, "small": None}
    norm, eps = probe.ball
    points = {"L2": probe.matching(norm="l2", starts="image"), "small": probe.matching(norm=norm, starts="image")}
    points["small"] = [point for point in points["small"] if probe.options(point)["eps"] < eps * (1 - 1e-6)]
    return {key: next(iter(found), None) for key, found in points.items()}


def table14(found: Measured) -> list[Row]:
    """The L2 model."""
    cifar = found.cifar
    return list(listed(table_of("Table 14", found.scale), cifar.dataset, cifar.l2, CIFAR, L2))


def table15(found: Measured) -> list[Row]:
    """All detectors of the smaller radius."""
    return _all(found, "Table 15", found.cifar.small, LINF_SMALL)


def table16(found: Measured) -> list[Row]:
    """All detectors of the larger radius."""
    return _all(found, "Table 16", found.cifar.large, LINF_LARGE)


def _all(found: Measured, item: str, probe: Probe | None, role: str) -> list[Row]:
    point = None if probe is None else as_trained(probe)
    return list(every(table_of(item, found.scale), found.cifar.dataset, probe, point, CIFAR, role))


def as_trained(probe: Probe) -> int | None:
    """The attack with the settings of training, as in Tables 15 and 16; where it was not made, the shortest one."""
    own = probe.own()
    return probe.short() if own is None else own


def table17(found: Measured) -> list[Row]:
    """Two models of one radius, trained with a fine and with a coarse step, under the fine one's attacks."""
    return list(_steps(table_of("Table 17", found.scale), found))


def _steps(table: Table, found: Measured) -> Iterator[Row]:
    dataset = found.cifar.dataset
    for (line, column), cell in steps(found).items():
        if cell is None:
            yield from table.alone(CIFAR, line, column, dataset or CIFAR, "")
        else:
            probe, point = cell
            yield table.number(dataset, line, column, probe.area(point, 0), "", probe.method(point), CIFAR)


def steps(found: Measured) -> Mapping[tuple[str, str], tuple[Probe, int] | None]:
    """The model and the grid point of every line and column of Table 17; None where there is none."""
    fine, coarse = found.cifar.fine, found.cifar.coarse
    attacks = (None, None) if fine is None else (fine.short(), fine.long())
    cells: dict[tuple[str, str], tuple[Probe, int] | None] = {}
    for number, attack in enumerate(attacks, 1):
        for column, probe in ((FINE, fine), (COARSE, coarse)):
            cell = None
            if fine is not None and probe is not None and attack is not None and 0 in probe.usable:
                same = probe.matching(**fine.options(attack))
                cell = (probe, same[0]) if same else None
            cells[f"{name(0)}, attack {number}", column] = cell
    return cells


def table18(found: Measured) -> list[Row]:
    """The ImageNet detector; d1 is the dogs'."""
    imagenet, table = found.imagenet, table_of("Table 18", found.scale)
    rows = listed(table, imagenet.dataset, imagenet.probe, IMAGENET, "dog")
    return [replace(row, column="AUC") for row in rows if row.column == name(0)]
