"""The papers' own numbers: one `reference.csv` a paper, each number with the place it stands in."""

from __future__ import annotations

import csv
from importlib import resources


def reference(package: str) -> dict[tuple[str, str, str], float]:
    """{(dataset, row, column): value} of the `reference.csv` in a paper's package."""
    with (resources.files(package) / "reference.csv").open(encoding="utf-8", newline="") as file:
        return {(r["dataset"], r["row"], r["column"]): float(r["value"]) for r in csv.DictReader(file)}
