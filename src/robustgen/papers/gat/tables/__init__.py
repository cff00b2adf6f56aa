"""Tables 1-18 and the rates of detection and classification, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from robustgen.evaluation.rows import Row
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.tables import cifar, detection, implemented, mnist

MAKERS: Mapping[str, Callable[[Measured], list[Row]]] = {
    "table1": mnist.table1,
    "table2": detection.table2,
    "table3": cifar.table3,
    "table4": detection.table4,
    "table5": implemented.table5,
    "table6": implemented.table6,
    "table7": mnist.table7,
    "table8": mnist.table8,
    "table9": mnist.table9,
    "table10": mnist.table10,
    "table11": mnist.table11,
    "table12": cifar.table12,
    "table13": cifar.table13,
    "table14": cifar.table14,
    "table15": cifar.table15,
    "table16": cifar.table16,
    "table17": cifar.table17,
    "table18": cifar.table18,
    "detection": detection.detection,
}


def tables(found: Measured) -> dict[str, list[Row]]:
    """Every table by artifact name."""
    return {name: make(found) for name, make in MAKERS.items()}
