"""Figures 2-10 by artifact name; each writes its pictures and, as CSV, the numbers it draws.

A figure whose data a scale does without says so in one line, so that every declared file is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from robustgen.papers.stochastic_security.figures import distributions, robustness, samples
from robustgen.papers.stochastic_security.study import Measured

FIGURES: Mapping[str, Callable[[Path, Measured], None]] = {
    "figure2": samples.training,
    "figure3": distributions.logits,
    "figure4": robustness.by_langevin_steps,
    "figure5": robustness.by_radius,
    "figure6": robustness.by_attack,
    "figure7": distributions.energies,
    "figure8": samples.chaos,
    "figure9": distributions.distances,
    "figure10": samples.steady_state,
}
