"""The papers' own numbers: one `reference.csv` a paper, each number with the place it stands in."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Number:
    """A number of a paper's, or of its released code's, and where it stands."""

    value: float
    source: str

    @property
    def whose(self) -> str:
        """Whose number it is, in words."""
        return "the number beside" if self.source.startswith("not the paper's") else "the paper's number"


def reference(package: str) -> dict[tuple[str, str, str], Number]:
    """{(dataset, row, column): number} of the `reference.csv` in a paper's package."""
    lines = (resources.files(package) / "reference.csv").read_text(encoding="utf-8").splitlines()
    return {
        (r["dataset"], r["row"], r["column"]): Number(float(r["value"]), r["source"]) for r in csv.DictReader(lines)
    }
