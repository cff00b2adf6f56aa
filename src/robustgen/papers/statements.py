"""Claims written before they are decided: a statement, and the verdict that a measurement gives or cannot give."""

from __future__ import annotations

from dataclasses import dataclass, replace

from robustgen.evaluation.claims import Condition, claim
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import Estimate

POSITIVE = Condition(">", 0)
READING = "The bound is our reading."
SHARE = "a share of the test images"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a paper claims, where, and the quantity whose interval decides it."""

    name: str
    text: str
    source: str  # "Sec. 3.2, Fig. 2"
    quantity: str
    condition: Condition = POSITIVE

    def decided(self, estimate: Estimate, note: str = "") -> Claim:
        """The claim with the verdict that the estimate gives."""
        return claim(
            self.name,
            self.text,
            source=self.source,
            quantity=self.quantity,
            condition=self.condition,
            estimate=estimate,
            note=note,
        )

    def shown(self, estimate: Estimate, note: str) -> Claim:
        """The claim left undecided though measured: the note says why the estimate is no evidence for or against it."""
        return replace(self.decided(estimate, note), verdict="not decided")

    def missing(self, what: str) -> Claim:
        """The claim left undecided because a scale does without `what`."""
        return Claim(
            id=self.name,
            statement=self.text,
            source=self.source,
            quantity=self.quantity,
            condition=str(self.condition),
            value=None,
            low=None,
            high=None,
            n=None,
            verdict="not decided",
            note=f"Not run at this scale: {what}.",
        )
