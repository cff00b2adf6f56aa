"""Tables 3 and 12-18: single detectors fine-tuned from a classifier, under attacks of every kind (Sec. 5.2, App. C)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from robustgen.evaluation.rows import Row
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.tables.lines import (
    L2,
    LINF_LARGE,
    LINF_SMALL,
    alone,
    areas,
    every,
    listed,
    name,
    restarts,
    table_of,
)
from robustgen.papers.gat.words import CIFAR, IMAGENET
from robustgen.papers.tables import Table

OTHERS = {"L2": f"{LINF_LARGE} under L2 attack", "small": f"{LINF_LARGE} under {LINF_SMALL} attack"}
FINE, COARSE = "fine training steps", "coarse training steps"


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
    probe = found.cifar.small
    point = None if probe is None else probe.short()
    return list(every(table_of("Table 15", found.scale), found.cifar.dataset, probe, point, CIFAR, LINF_SMALL))


def table16(found: Measured) -> list[Row]:
    """All detectors of the larger radius."""
    probe = found.cifar.large
    point = None if probe is None else probe.short()
    return list(every(table_of("Table 16", found.scale), found.cifar.dataset, probe, point, CIFAR, LINF_LARGE))


def table17(found: Measured) -> list[Row]:
    """Two models of one radius, trained with a fine and with a coarse step, under the coarse one's attacks."""
    return list(_steps(table_of("Table 17", found.scale), found))


def _steps(table: Table, found: Measured) -> Iterator[Row]:
    cifar = found.cifar
    points = [] if cifar.coarse is None else cifar.coarse.fixed()
    for number in range(1, 1 + max(2, len(points))):
        line = f"d1, attack {number}"
        for column, probe in ((FINE, cifar.fine), (COARSE, cifar.coarse)):
            point = None
            if probe is not None and cifar.coarse is not None and number <= len(points):
                same = probe.matching(**cifar.coarse.options(points[number - 1]))
                point = same[0] if same else None
            if probe is None or point is None or 0 not in probe.usable:
                yield from table.alone(CIFAR, line, column, cifar.dataset or CIFAR, "")
            else:
                estimate, method = probe.area(point, 0), probe.method(point)
                yield table.number(cifar.dataset, line, column, estimate, "", method, CIFAR)


def table18(found: Measured) -> list[Row]:
    """The ImageNet detector; d1 is the dogs'."""
    imagenet, table = found.imagenet, table_of("Table 18", found.scale)
    rows = listed(table, imagenet.dataset, imagenet.probe, IMAGENET, "dog")
    return [replace(row, column="AUC") for row in rows if row.column == name(0)]
