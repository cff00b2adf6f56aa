"""Figures by artifact name; each writes its pictures and, as CSV, the numbers it draws.

A figure whose data a scale does without says so in one line, so that every declared file is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from robustgen.papers.e_abs.figures import curves, distances, examples, matrices, reconstructions
from robustgen.papers.e_abs.measured import Measured

FIGURES: Mapping[str, Callable[[Path, Measured], None]] = {
    "mcnemar-matrices": matrices.tests,
    "bound-distances": distances.nearest_errors,
    "figure3": curves.by_radius,
    "figure4": examples.mnist,
    "figure5": examples.svhn,
    "reconstructions": reconstructions.by_decoder,
}
