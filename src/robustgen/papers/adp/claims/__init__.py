"""The paper's claims, each with the number that decides it; one whose study a scale lacks stays undecided."""

from __future__ import annotations

from robustgen.evaluation.rows import Claim
from robustgen.papers.adp.claims import attacked, purification, smoothing
from robustgen.papers.adp.measured import Measured


def claims(found: Measured) -> list[Claim]:
    """Every claim, in the order of the paper's sections."""
    return [*purification.claims(found), *attacked.claims(found), *smoothing.claims(found)]
