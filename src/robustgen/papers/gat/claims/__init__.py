"""The paper's claims, each with the number that decides it; one whose study a scale lacks stays undecided."""

from __future__ import annotations

from robustgen.evaluation.rows import Claim
from robustgen.papers.gat.claims import classification, detection, detectors, generation
from robustgen.papers.gat.measured import Measured


def claims(found: Measured) -> list[Claim]:
    """Every claim, in the order of the paper's sections."""
    modules = (detectors, detection, classification, generation)
    return [claim for module in modules for claim in module.claims(found)]
