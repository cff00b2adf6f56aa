"""Estimates with intervals, and tests on paired results. Intervals are two-sided, of 95 % unless said otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from robustgen.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    Values = Sequence[float] | Sequence[bool] | np.ndarray | Tensor


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval [low, high], from n observations."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class DetectionRates:
    """DR, the share of attacked images that are flagged, and FPR, the share of natural ones; both in [0, 1]."""

    detection: Estimate
    false_positive: Estimate


def proportion(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """successes / n in [0, 1] with the exact interval of Clopper & Pearson (1934)."""
    if n < 1 or not 0 <= successes <= n:
        raise UserError(f"a proportion needs 0 ≤ successes ≤ n and n ≥ 1, got {successes} of {n}")
    low, high = _clopper_pearson(successes, n, _checked(confidence))
    return Estimate(successes / n, low, high, n)


def _clopper_pearson(successes: float, n: int, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low = 0.0 if successes <= 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes >= n else float(stats.beta.ppf(1 - tail, successes + 1, n - successes))
    return low, high


def mean(values: Values, confidence: float = 0.95) -> Estimate:
    """The mean of values (n,), n ≥ 2, with Student's t interval; in the values' unit."""
    x = _vector(values, "values")
    if len(x) < 2:
        raise UserError("the interval of a mean needs at least 2 values, got 1; report the value alone")
    centre = float(x.mean())
    quantile = float(stats.t.ppf((1 + _checked(confidence)) / 2, len(x) - 1))
    half = quantile * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Estimate(centre, centre - half, centre + half, len(x))


def bounded_mean(values: Values, confidence: float = 0.95) -> Estimate:
    """The mean of values (n,) in [0, 1], n ≥ 1.

    The interval is Wald's after one value more at either end, as `share_difference` counts one pair more of either
    extreme: it keeps a width where all values agree, as Student's does not, and stays within [0, 1].
    """
    x = _vector(values, "values")
    if x.min() < 0 or x.max() > 1:
        raise UserError(f"values must lie in [0, 1], got {x.min():g} to {x.max():g}; give shares")
    n = len(x) + 2
    value, centre, square = float(x.mean()), float(x.sum() + 1) / n, float(np.square(x).sum() + 1) / n
    half = float(stats.norm.ppf((1 + _checked(confidence)) / 2)) * math.sqrt((square - centre**2) / n)
    return Estimate(value, max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half)), len(x))


def mean_difference(a: Values, b: Values, confidence: float = 0.95) -> Estimate:
    """The mean of a − b over pairs (n,), (n,) with the paired t interval; in the values' unit."""
    x, y = _pairs(a, b)
    return mean(x - y, confidence)


def proportion_difference(a_correct: Values, b_correct: Values, confidence: float = 0.95) -> Estimate:
    """Accuracy of a minus that of b on the same n images, from 0/1 vectors (n,), in [−1, 1].

    The interval is the adjusted Wald interval for paired proportions of Bonett & Price (2012), which keeps a width
    where a and b never disagree.
    """
    _discordant(a_correct, b_correct)  # refuses what is not 0 or 1
    return share_difference(a_correct, b_correct, confidence=confidence)


def share_difference(a: Values, b: Values, largest: float = 1.0, confidence: float = 0.95) -> Estimate:
    """The mean of a − b over pairs (n,), (n,) whose difference lies in [−largest, largest], in the values' unit.

    The interval of Bonett & Price (2012), which counts one pair more of either extreme, for values between them too:
    it keeps a width where all pairs agree, as Student's does not.
    """
    x, y = _pairs(a, b)
    d, n = (x - y) / largest, len(x)
    value, centre, square = float(d.mean()), float(d.sum() / (n + 2)), float((np.square(d).sum() + 2) / (n + 2))
    half = float(stats.norm.ppf((1 + _checked(confidence)) / 2)) * math.sqrt((square - centre**2) / (n + 2))
    low, high = max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half))
    return Estimate(largest * value, largest * low, largest * high, n)


def auc(natural: Values, adversarial: Values, confidence: float = 0.95) -> Estimate:
    """Area under the ROC curve in [0, 1]: P(natural > adversarial) + P(equal) / 2, for scores (N,), (M,).

    1 means that every natural image scores above every adversarial one. The interval is DeLong's (1988) on the logit
    scale, which stays within [0, 1]. Where DeLong's variance is 0 (perfect separation, all scores equal) or undefined
    (a single score), the interval is Clopper & Pearson's for min(N, M) disjoint pairs of one natural and one
    adversarial score: independent of the scores' distribution, and wide. n is N + M.
    """
    x, y = _vector(natural, "natural scores"), _vector(adversarial, "adversarial scores")
    above, below = placements(x, y), placements(y, x)
    pairs = min(len(x), len(y))
    variance = above.var(ddof=1) / len(x) + below.var(ddof=1) / len(y) if pairs > 1 else 0.0
    return _area(float(above.mean()), float(variance), pairs, len(x) + len(y), _checked(confidence))


def paired_auc(natural: Values, adversarial: Values, confidence: float = 0.95) -> Estimate:
    """The same area where both scores (N,), (N,) are of the same images, in one order; n is N.

    The interval is DeLong's with an image as the unit (Obuchowski 1997), so that an image's two scores may depend on
    each other. Where its variance is 0 or undefined, Clopper & Pearson's for N / 2 pairs of scores of two images each.
    """
    x, y = _pairs(natural, adversarial)
    above, below = placements(x, y), placements(y, x)
    n = len(x)
    variance = (above - below).var(ddof=1) / n if n > 1 else 0.0
    return _area(float(above.mean()), float(variance), max(1, n // 2), n, _checked(confidence))


def _area(value: float, variance: float, pairs: int, n: int, level: float) -> Estimate:
    """An area with the interval of its variance on the logit scale, or of so many independent pairs."""
    if variance <= 0 or not 0 < value < 1:
        low, high = _clopper_pearson(value * pairs, pairs, level)
    else:
        centre = math.log(value / (1 - value))
        half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(variance) / (value * (1 - value))
        low, high = (float(end) for end in stats.logistic.cdf([centre - half, centre + half]))
    return Estimate(value, low, high, n)


def placements(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For every x the share of y below it, ties counting one half."""
    ordered = np.sort(y)
    ranks = np.searchsorted(ordered, x, side="left") + np.searchsorted(ordered, x, side="right")
    return ranks / (2 * len(ordered))


def detection_rates(natural: Values, adversarial: Values, threshold: float, confidence: float = 0.95) -> DetectionRates:
    """DR and FPR of "flag where score ≤ threshold" on scores (N,), (M,), with Clopper & Pearson's intervals.

    All images count: attacks that did not change the prediction, and natural images that were misclassified.
    """
    if math.isnan(threshold):
        raise UserError("the threshold is not a number; fit it on finite validation scores")
    # In double precision: the threshold may lie between two neighbouring float32 scores.
    flags = [
        _vector(s, f"{what} scores") <= threshold for s, what in ((adversarial, "adversarial"), (natural, "natural"))
    ]
    return DetectionRates(*(proportion(int(flag.sum()), len(flag), confidence) for flag in flags))


def mcnemar(a_correct: Values, b_correct: Values) -> float:
    """McNemar's exact two-sided p-value for two classifiers or attacks on the same images, from 0/1 vectors (n,).

    Binomial on the discordant pairs; 1 where there are none.
    """
    only_a, only_b, _ = _discordant(a_correct, b_correct)
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(min(only_a, only_b), only_a + only_b, 0.5).pvalue)


def holm(p_values: Values) -> np.ndarray:
    """Holm's (1979) adjusted p-values (m,) in the order given: compare each with the family-wise level."""
    p = _vector(p_values, "p-values")
    if p.min() < 0 or p.max() > 1:
        raise UserError("p-values must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _discordant(a: Values, b: Values) -> tuple[int, int, int]:
    """Images only a has right, images only b has right, and all images."""
    x, y = _pairs(a, b)
    if not np.isin(np.concatenate([x, y]), (0.0, 1.0)).all():
        raise UserError("correctness must be given as 0 and 1, or False and True")
    return int((x > y).sum()), int((y > x).sum()), len(x)


def _pairs(a: Values, b: Values) -> tuple[np.ndarray, np.ndarray]:
    x, y = _vector(a, "values"), _vector(b, "values")
    if len(x) != len(y):
        raise UserError(f"paired values must be of equal number, got {len(x)} and {len(y)}; use the same images")
    return x, y


def _vector(values: Values, what: str) -> np.ndarray:
    """`values` as float64 (n,), n ≥ 1, all finite; otherwise a UserError."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x):
        raise UserError(f"{what} must be a non-empty vector, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise UserError(
            f"{what} hold {int((~np.isfinite(x)).sum())} entries that are not finite; find where they arise"
        )
    return x


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise UserError(f"confidence must lie in (0, 1), got {confidence}")
    return confidence
