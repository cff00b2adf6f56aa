"""Mean areas under ROC curves of several detectors on the same images, and differences of two such means.

DeLong's covariance (1988) with an image as the unit: an image counts once however many detectors judge it, and the
same image's scores under two attacks, or of two networks, may depend on each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from robustgen.errors import UserError
from robustgen.evaluation.statistics import Estimate, placements


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Scores of L detectors at I images: `natural` (I, L), of which those marked `positive` (I, L) should rank above
    the `attacked` (I, L) that are marked `negative` (I, L).
    """

    natural: np.ndarray
    attacked: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    def __post_init__(self) -> None:
        arrays = (self.natural, self.attacked, self.positive, self.negative)
        if any(array.ndim != 2 or array.shape != arrays[0].shape for array in arrays):
            raise UserError(f"scores and marks must be of one shape (I, L), got {[array.shape for array in arrays]}")
        if not (self.positive.any(0) & self.negative.any(0)).all():
            raise UserError("a detector without positive or negative images has no area; leave it out")
        if not (np.isfinite(self.natural).all() and np.isfinite(self.attacked).all()):
            raise UserError("scores hold entries that are not finite; find where they arise")


def mean_auc(ranking: Ranking, confidence: float = 0.95) -> Estimate:
    """The mean over detectors of their areas, in [0, 1]; n is the number of images."""
    value, influence, pairs = _parts(ranking)
    found = _estimate(value, influence, pairs, confidence)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high), found.n)


def mean_auc_difference(a: Ranking, b: Ranking, confidence: float = 0.95) -> Estimate:
    """The mean area of a minus that of b, in [−1, 1], over the same I images in one order; n is I.

    The interval is Wald's. To its variance comes that of one observation more of either extreme (Bonett & Price 2012
    count so), which keeps a width where nothing changes. An observation is one of the disjoint pairs of scores; where
    natural scores are the same in both, as under two attacks on the same networks, it is an attacked image.
    """
    if a.natural.shape != b.natural.shape:
        raise UserError(f"two rankings must be of the same images, got {a.natural.shape} and {b.natural.shape}")
    (value, influence, pairs), (other, theirs, others) = _parts(a), _parts(b)
    alike = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("natural", "positive", "negative"))
    observations = int(a.negative.sum(0).min()) if alike else min(pairs, others)
    return _estimate(value - other, influence - theirs, observations, confidence)


def _estimate(value: float, influence: np.ndarray, observations: int, confidence: float) -> Estimate:
    variance = float(np.square(influence).sum()) + 2 / (observations + 2) ** 2
    half = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(variance)
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half), len(influence))


def _parts(ranking: Ranking) -> tuple[float, np.ndarray, int]:
    """Mean area, each image's influence on it (I,), whose squares sum to DeLong's variance, and disjoint pairs."""
    images, detectors = ranking.natural.shape
    influence = np.zeros(images)
    areas, pairs = [], 0
    for k in range(detectors):
        positive, negative = ranking.positive[:, k], ranking.negative[:, k]
        high = ranking.natural[positive, k].astype(np.float64)
        low = ranking.attacked[negative, k].astype(np.float64)
        above, passed = placements(high, low), 1 - placements(low, high)
        area = float(above.mean())
        influence[positive] += (above - area) / (_spread(len(high)) * detectors)
        influence[negative] += (passed - area) / (_spread(len(low)) * detectors)
        areas.append(area)
        pairs += min(len(high), len(low))
    return float(np.mean(areas)), influence, pairs


def _spread(n: int) -> float:
    """√(n(n − 1)), so that squared deviations sum to the variance of a mean; of one value the deviation is 0."""
    return math.sqrt(n * max(n - 1, 1))
