"""Figures by artifact name; each writes its pictures and, as CSV, the numbers it draws.

A figure whose data a scale does without says so in one line, so that every declared file is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from robustgen.papers.adp.figures import network, robustness
from robustgen.papers.adp.measured import Measured

FIGURES: Mapping[str, Callable[[Path, Measured], None]] = {
    "figure2": robustness.by_steps,
    "figure3": network.norms,
    "figure4": robustness.certificates,
    "eot": robustness.by_draws,
    "samples": network.samples,
    "levels": network.levels,
}
