"""Tables 1-4, the data sets of Sec. 5.1.5 and the choices that paper and code differ in, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from robustgen.evaluation.rows import Row
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.tables.accuracy import extra, table2, table3
from robustgen.papers.adp.tables.corruptions import table4
from robustgen.papers.adp.tables.fidelity import fidelity
from robustgen.papers.adp.tables.implemented import table1

MAKERS: Mapping[str, Callable[[Measured], list[Row]]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "extra": extra,
    "fidelity": fidelity,
}


def tables(found: Measured) -> dict[str, list[Row]]:
    """Every table by artifact name."""
    return {name: make(found) for name, make in MAKERS.items()}
