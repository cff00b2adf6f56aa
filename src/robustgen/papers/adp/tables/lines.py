"""Names of lines and columns, which the tables share with the claims and the headline."""

from __future__ import annotations

from robustgen.papers.adp.measured import Measured
from robustgen.papers.reference import reference
from robustgen.papers.tables import Table

STANDARD, NATURAL, ROBUST, FALSE_BREAKS = "Standard", "Natural", "Robust", "False breaks"
ADP, ZERO, SMALL, RAW = "ADP", "ADP, σ = 0", "ADP, smaller σ", "Raw classifier"
HILL, TRAINED = "EBM defence of Hill et al. 2021", "Adversarial training (L∞)"
UNDER = {  # lines of Table 3
    "bpda": "BPDA+EOT",
    "joint-score": "joint attack (score)+EOT",
    "joint-full": "joint attack (full)+EOT",
    "spsa": "SPSA",
    "full": "full gradient+EOT",
    "apgd": "APGD+EOT",
}
BPDA, LONGER = f"{ADP}: {UNDER['bpda']}", f"{ADP}: {UNDER['bpda']}, longer"
REEVALUATION = f"{ADP}: {UNDER['apgd']}, as in the re-evaluation"
WORST = f"{ADP}: the worst of all attacks, image by image"
WORST_BUT_SPSA = f"{ADP}: the worst of all attacks but SPSA, image by image"
CONTROL = f"{ADP}: {UNDER['bpda']} at zero radius"
TRAINED_PGD = f"{TRAINED}: PGD"
ACCURACY = "Accuracy"


def table_of(item: str, found: Measured) -> Table:
    """An empty table of this paper's, which knows its numbers."""
    return Table("adp", item, found.scale, reference("robustgen.papers.adp"))
