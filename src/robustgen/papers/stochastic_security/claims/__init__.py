"""The paper's claims, each with the number that decides it. A bound that is ours is noted as such."""

from __future__ import annotations

from robustgen.evaluation.rows import Claim
from robustgen.papers.stochastic_security.claims import attacked, blind, sampling
from robustgen.papers.stochastic_security.study import Measured


def claims(found: Measured) -> list[Claim]:
    """Every claim whose studies the scale has, in the order of the paper's sections."""
    return [*blind.claims(found), *attacked.claims(found), *sampling.claims(found)]
