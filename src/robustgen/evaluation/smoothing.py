"""Certified L2 radii of smoothed classifiers, from how often the base classifier names each class under Gaussian noise.

Counts are integers (N, K): of n noisy copies of image i, `counts[i, k]` were given class k. Radii and the noise level σ
are in pixel units of [0, 1], lengths of the whole change. Of equal counts the lowest class goes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from robustgen.errors import UserError
from robustgen.evaluation.statistics import Estimate, proportion

ABSTAIN = -1  # in place of a class
ALPHA = 0.001  # the failure probability of Cohen et al.'s certificates


@dataclass(frozen=True)
class Certificates:
    """classes int64 (N,): the smoothed classifier's, or ABSTAIN. radii float64 (N,): within which it stays, 0 where it
    abstains.
    """

    classes: np.ndarray
    radii: np.ndarray


def certify(selection_counts: np.ndarray, counts: np.ndarray, sigma: float, alpha: float = ALPHA) -> Certificates:
    """CERTIFY of Cohen, Rosenfeld & Kolter 2019: the class that leads `selection_counts`, and σΦ⁻¹(p_A).

    p_A is the lower confidence bound of that class's probability from `counts`, other draws than those that chose it.
    Where p_A <= 1/2 it abstains. An image's certificate is wrong with a probability of at most `alpha`.
    """
    votes, level = _checked_counts(counts), _checked_sigma(sigma)
    chosen = _checked_counts(selection_counts)
    if chosen.shape != votes.shape:
        raise UserError(
            f"selection counts are {chosen.shape} where counts are {votes.shape}; count the same images and classes"
        )
    classes = chosen.argmax(1)
    bound = lower_bound(np.take_along_axis(votes, classes[:, None], 1)[:, 0], votes.sum(1), alpha)
    return _certificates(classes, np.where(bound > 0.5, level * stats.norm.ppf(bound), 0.0), bound > 0.5)


def point_estimates(counts: np.ndarray, sigma: float) -> Certificates:
    """The radius (σ/2)(Φ⁻¹(p_A) − Φ⁻¹(p_B)) of Yoon, Hwang & Lee 2021 (Eq. 19): an estimate, which certifies nothing.

    p_A and p_B are the two largest relative frequencies of one sample, which chooses the class too; it never abstains.
    Where all n copies agree the radius would be infinite. Counts are therefore held between ½ and n − ½: the largest
    radius is σΦ⁻¹(1 − 1/(2n)), 2.58σ for the paper's n = 100.
    """
    votes, level = _checked_counts(counts), _checked_sigma(sigma)
    first, second = _held(votes)
    return Certificates(votes.argmax(1), level / 2 * (stats.norm.ppf(first) - stats.norm.ppf(second)))


def renyi(
    counts: np.ndarray,
    sigma: float,
    bounds: Literal["point", "clopper-pearson"] = "point",
    alpha: float = ALPHA,
    selection_counts: np.ndarray | None = None,
) -> Certificates:
    """The radius of Li, Chen, Wang & Carin 2018 from the Rényi divergence of two Gaussians; see `renyi_radius`.

    point: p₁ and p₂ are the two largest relative frequencies, held between ½ and n − ½ of n as in `point_estimates`.
    clopper-pearson: the class leads `selection_counts`; p₁ is its lower confidence bound from `counts` and p₂ the
    largest upper bound of the others, all K of them at once at confidence 1 − `alpha` (Bonferroni). It abstains where
    p₁ <= p₂, and then an image's certificate is wrong with a probability of at most `alpha`.
    """
    votes, level = _checked_counts(counts), _checked_sigma(sigma)
    if bounds == "point":
        return Certificates(votes.argmax(1), renyi_radius(*_held(votes), level))
    if bounds != "clopper-pearson":
        raise UserError(f"unknown bounds {bounds!r}; use point or clopper-pearson")
    chosen = None if selection_counts is None else _checked_counts(selection_counts)
    if chosen is None or chosen.shape != votes.shape:
        raise UserError(f"Clopper-Pearson bounds need selection counts of shape {votes.shape}; count other draws too")
    classes, share = chosen.argmax(1), alpha / votes.shape[1]
    mine = np.arange(votes.shape[1]) == classes[:, None]
    n = votes.sum(1, keepdims=True)
    first = lower_bound(votes, n, share)[mine]
    second = np.where(mine, 0.0, 1 - lower_bound(n - votes, n, share)).max(1)
    second = np.minimum(second, 1 - first)
    certain = first > second
    radii = np.zeros(len(votes))
    radii[certain] = renyi_radius(first[certain], second[certain], level)
    return _certificates(classes, radii, certain)


def renyi_radius(first: np.ndarray, second: np.ndarray, sigma: float) -> np.ndarray:
    """The radii (N,) with square sup_{a>1} −(2σ²/a) log(1 − p₁ − p₂ + 2(½(p₁^(1−a) + p₂^(1−a)))^(1/(1−a))).

    `first` and `second` (N,) are the probabilities p₁ >= p₂ of the two likeliest classes, p₁ < 1 and p₁ + p₂ <= 1. The
    supremum is sought on a grid, and again between the best point's neighbours; any point of it is a valid bound.
    """
    p, q = (np.asarray(values, dtype=np.float64)[:, None] for values in (first, second))
    if not ((q <= p) & (q >= 0) & (p > 0) & (p < 1) & (p + q <= 1 + 1e-9)).all():
        raise UserError("probabilities must be p₁ >= p₂ >= 0, p₁ < 1 and p₁ + p₂ <= 1; order and hold them")
    above = np.broadcast_to(np.r_[0.0, np.geomspace(1e-4, 1e4, 257)], (len(p), 258))  # a − 1
    best = _divergence(above, p, q)
    peak = best.argmax(1)[:, None]
    around = [np.take_along_axis(above, np.clip(peak + step, 0, 257), 1) for step in (-1, 1)]
    fine = _divergence(around[0] + (around[1] - around[0]) * np.linspace(0, 1, 257), p, q)
    exponent = np.maximum(best.max(1), fine.max(1))
    return np.asarray(_checked_sigma(sigma) * np.sqrt(2 * np.maximum(exponent, 0.0)))


def _divergence(above: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """−log(1 − p − q + 2 M)/a with the power mean M of p and q of exponent 1 − a, at a = 1 + above >= 1.

    M is q exp((log 2 − log(1 + (p/q)^−above)) / above), the geometric mean at a = 1, and 0 where q is.
    """
    least = np.maximum(q, np.finfo(np.float64).tiny)
    ratio = np.log(p) - np.log(least)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.where(above > 0, (np.log(2) - np.log1p(np.exp(-ratio * above))) / above, ratio / 2)
    return np.asarray(-np.log1p(2 * least * np.exp(growth) - p - q) / (1 + above))


def lower_bound(successes: np.ndarray, n: np.ndarray | int, alpha: float = ALPHA) -> np.ndarray:
    """The one-sided lower confidence bound of Clopper & Pearson (1934) of a probability, at confidence 1 − `alpha`.

    `successes` of `n` trials each, of shapes that broadcast. The upper bound is 1 − lower_bound(n − successes, n).
    """
    if not 0 < alpha < 1:
        raise UserError(f"alpha is {alpha}; a failure probability lies between 0 and 1")
    bound = stats.beta.ppf(alpha, np.maximum(successes, 1), n - successes + 1)
    return np.where(np.asarray(successes) > 0, bound, 0.0)


def certified_accuracy(certificates: Certificates, labels: np.ndarray, radii: Sequence[float]) -> list[Estimate]:
    """For each of `radii` the share of images whose certified class is their label, out to this radius or further.

    `labels` is int64 (N,). At radius 0 it is the accuracy, abstentions counting as wrong. Intervals are exact, 95 %.
    """
    truth = np.asarray(labels)
    if truth.shape != certificates.classes.shape:
        raise UserError(f"{len(certificates.classes)} certificates, but labels of shape {truth.shape}; give one each")
    if not all(radius >= 0 for radius in radii):
        raise UserError(f"radii are {tuple(radii)}; give numbers from 0 on")
    right = certificates.classes == truth
    return [proportion(int((right & (certificates.radii >= radius)).sum()), len(truth)) for radius in radii]


def _certificates(classes: np.ndarray, radii: np.ndarray, certain: np.ndarray) -> Certificates:
    return Certificates(np.where(certain, classes, ABSTAIN), np.where(certain, radii, 0.0))


def _held(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two largest relative frequencies (N,), (N,), counts held between ½ and n − ½."""
    n = counts.sum(1)
    ordered = np.sort(counts, axis=1)
    first, second = (np.clip(ordered[:, -rank], 0.5, n - 0.5) / n for rank in (1, 2))
    return first, second


def _checked_counts(counts: np.ndarray) -> np.ndarray:
    """`counts` as int64 (N, K), N >= 1, K >= 2, every row with a count; otherwise a UserError."""
    found = np.asarray(counts)
    if found.ndim != 2 or found.shape[0] < 1 or found.shape[1] < 2:
        raise UserError(f"counts are of shape {found.shape}; give (images, classes), two classes at least")
    if not np.issubdtype(found.dtype, np.integer) or found.min() < 0:
        raise UserError("counts must be whole numbers from 0 on; count the draws, do not average them")
    if found.sum(1).min() < 1:
        raise UserError("an image has no counts; draw at least one sample of every image")
    return found.astype(np.int64)


def _checked_sigma(sigma: float) -> float:
    if not 0 < sigma < np.inf:
        raise UserError(f"sigma is {sigma}; smoothing needs noise, so give a number above 0")
    return float(sigma)
