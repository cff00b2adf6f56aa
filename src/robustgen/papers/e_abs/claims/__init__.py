"""The paper's claims, each with the number that decides it; one whose data a scale does without is left out."""

from __future__ import annotations

from robustgen.evaluation.rows import Claim
from robustgen.papers.e_abs.claims import ablation, adaptive, bound, comparison, curve, inference, sweeps
from robustgen.papers.e_abs.measured import Measured


def claims(found: Measured) -> list[Claim]:
    """Every claim that the scale has data for, in the order of the paper's sections."""
    modules = (inference, bound, comparison, curve, adaptive, ablation, sweeps)
    return [claim for module in modules for claim in module.claims(found)]
