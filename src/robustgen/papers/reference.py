"""The papers' own numbers: one `reference.csv` a paper, each number with the place it stands in."""

from __future__ import annotations

import csv
from importlib import resources


def reference(package: str) -> dict[tuple[str, str, str], float]:
    """{(dataset, row, column): value} of the `reference.csv` in a paper's package."""
    lines = (resources.files(package) / "reference.csv").read_text(encoding="utf-8").splitlines()
    return {(r["dataset"], r["row"], r["column"]): float(r["value"]) for r in csv.DictReader(lines)}
