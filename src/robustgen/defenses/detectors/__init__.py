"""Detectors of adversarial images: `fit` once, then `score(images)`, where higher means more natural."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from robustgen.defenses.detectors.base import Detector
from robustgen.defenses.detectors.energy import EnergyDetector
from robustgen.defenses.detectors.kd_bu import KDBUDetector
from robustgen.defenses.detectors.lid import LIDDetector
from robustgen.defenses.detectors.score_norm import ScoreNorm
from robustgen.defenses.threshold import Rule, fit_threshold

__all__ = [
    "DETECTORS",
    "Detector",
    "DetectorKind",
    "EnergyDetector",
    "KDBUDetector",
    "LIDDetector",
    "Rule",
    "ScoreNorm",
    "fit_threshold",
]


@dataclass(frozen=True, kw_only=True)
class DetectorKind:
    """How to build a detector, and the rule by which its threshold is chosen. Calling it builds one."""

    build: Callable[..., Detector]
    threshold_rule: Rule

    def __call__(self, **options: Any) -> Detector:
        """An unfitted detector; `options` are its class's keyword arguments."""
        return self.build(**options)


DETECTORS: dict[str, DetectorKind] = {
    "energy": DetectorKind(build=EnergyDetector, threshold_rule="g-mean"),
    # The released notebooks tune a temperature and maximise Youden's J where the paper says G-mean at T = 1.
    "energy-released": DetectorKind(build=partial(EnergyDetector, fidelity="released"), threshold_rule="youden"),
    "kd-bu": DetectorKind(build=KDBUDetector, threshold_rule="g-mean"),
    "lid": DetectorKind(build=LIDDetector, threshold_rule="g-mean"),
}
"""Detectors that need the classifier only. `ScoreNorm` is built with a score network, so it is not among them."""
