"""Tables 1-9, McNemar's test, attacks without gradients, bounds and open choices, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from robustgen.evaluation.rows import Row
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.tables import ablation, comparisons, implemented, settings, sweeps
from robustgen.papers.e_abs.tables.bounds import bounds

MAKERS: Mapping[str, Callable[[Measured], list[Row]]] = {
    "table1": comparisons.table1,
    "table2": comparisons.table2,
    "table3": comparisons.table3,
    "table4": comparisons.table4,
    "mcnemar": comparisons.significance,
    "table5": ablation.table5,
    "table6": sweeps.table6,
    "table7": sweeps.table7,
    "table8": sweeps.table8,
    "table9": implemented.table9,
    "training": implemented.training,
    "attacks": settings.attacks,
    "gradient-free": ablation.gradient_free,
    "bounds": bounds,
    "sensitivity": ablation.sensitivity,
}


def tables(found: Measured) -> dict[str, list[Row]]:
    """Every table by artifact name."""
    return {name: make(found) for name, make in MAKERS.items()}
