from __future__ import annotations

import pytest

from robustgen.evaluation.claims import Condition, claim, verdict
from robustgen.evaluation.statistics import Estimate


@pytest.mark.parametrize(
    ("relation", "low", "high", "expected"),
    [
        (">", 0.6, 1.0, "holds"),
        (">", 0.5, 1.0, "not decided"),
        (">", 0.4, 0.6, "not decided"),
        (">", 0.1, 0.5, "fails"),
        ("<", 0.1, 0.4, "holds"),
        ("<", 0.1, 0.5, "not decided"),
        ("<", 0.5, 0.9, "fails"),
        ("within", -0.4, 0.4, "holds"),
        ("within", -0.6, 0.4, "not decided"),
        ("within", -0.6, 0.6, "not decided"),
        ("within", 0.5, 0.9, "fails"),
        ("within", -0.9, -0.5, "fails"),
    ],
)
def test_verdict_asks_the_whole_interval(relation: str, low: float, high: float, expected: str) -> None:
    estimate = Estimate((low + high) / 2, low, high, 10)
    assert verdict(estimate, Condition(relation, 0.5)) == expected  # type: ignore[arg-type]


def test_claim_carries_its_estimate() -> None:
    found = claim(
        "a", "b", source="c", quantity="d", condition=Condition(">", 0), estimate=Estimate(1, 0.5, 2, 9), note="e"
    )
    assert (found.value, found.low, found.high, found.n) == (1, 0.5, 2, 9)
    assert (found.verdict, found.condition, found.note) == ("holds", "> 0", "e")


def test_conditions_are_readable() -> None:
    assert str(Condition("<", 0.02)) == "< 0.02"
    assert str(Condition("within", 0.5)) == "|value| < 0.5"
