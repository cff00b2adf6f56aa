"""From an estimate and a condition to a claim's verdict: one rule for all papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robustgen.evaluation.rows import Claim, Verdict
from robustgen.evaluation.statistics import Estimate


@dataclass(frozen=True)
class Condition:
    """`value > bound`, `value < bound`, or `|value| < bound`, in the estimate's unit."""

    relation: Literal[">", "<", "within"]
    bound: float

    def __str__(self) -> str:
        return f"|value| < {self.bound:g}" if self.relation == "within" else f"{self.relation} {self.bound:g}"


def verdict(estimate: Estimate, condition: Condition) -> Verdict:
    """holds where the whole 95 % interval meets the condition, fails where none of it does, else not decided."""
    low, high, bound = estimate.low, estimate.high, condition.bound
    if condition.relation == ">":
        meets, misses = low > bound, high <= bound
    elif condition.relation == "<":
        meets, misses = high < bound, low >= bound
    else:
        meets, misses = max(-low, high) < bound, low >= bound or high <= -bound
    return "holds" if meets else "fails" if misses else "not decided"


def claim(
    name: str,
    statement: str,
    *,
    source: str,
    quantity: str,
    condition: Condition,
    estimate: Estimate,
    note: str = "",
) -> Claim:
    """A claim with its verdict, ready for a paper's list."""
    return Claim(
        id=name,
        statement=statement,
        source=source,
        quantity=quantity,
        condition=str(condition),
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        verdict=verdict(estimate, condition),
        note=note,
    )
