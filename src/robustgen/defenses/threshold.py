"""The threshold of a detector, chosen on validation scores.

`fit_threshold` knows attacked images too; an image is flagged where score ≤ t (Robust-Generative, Eq. 9).
`accepting_threshold` knows natural images only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from robustgen.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Rule = Literal["g-mean", "youden"]
ROUNDING = 1e-9  # of share · n: 0.07 · 100 is not 7


def fit_threshold(natural: Tensor | np.ndarray, adversarial: Tensor | np.ndarray, rule: Rule = "g-mean") -> float:
    """The t that maximises the rule on scores (N,) and (M,), higher meaning more natural.

    With TPR the share of adversarial and FPR the share of natural scores ≤ t: "g-mean" is sqrt(TPR · (1 − FPR)), the
    paper's (Sec. 5.1); "youden" is TPR − FPR, the released code's. Adversarial always means low: scores that run the
    other way are not turned round. Among equally good splits the lowest wins, which flags fewest natural images; t is
    then the midpoint between the highest flagged and the lowest unflagged score. Where flagging nothing is best,
    t lies just below all scores; it is finite always.
    Raises UserError for an unknown rule, no scores, or scores that are not finite.
    """
    low, high = _sorted(natural, "natural"), _sorted(adversarial, "adversarial")
    values = np.unique(np.concatenate([low, high]))
    # Candidate j flags the j smallest distinct scores; candidate 0 flags nothing.
    fpr, tpr = (np.concatenate([[0.0], np.searchsorted(s, values, side="right") / len(s)]) for s in (low, high))
    if rule == "g-mean":
        quality = tpr * (1 - fpr)  # the root keeps the order
    elif rule == "youden":
        quality = tpr - fpr
    else:
        raise UserError(f"unknown threshold rule {rule!r}; choose one of {', '.join(get_args(Rule))}")
    # Equal splits may differ in the last bits: 0.3 − 0.1 against 0.2 − 0.
    best = int(np.flatnonzero(quality >= quality.max() - 1e-12)[0])
    return _between(values, best)


def accepting_threshold(natural: Tensor | np.ndarray, share: float = 0.95) -> float:
    """The largest t with at least `share` of the natural scores (N,) at or above it: on validation images the true
    positive rate asked for (GAT, Yin et al. 2020, Sec. 4.2), an image being accepted where score ≥ t.

    Raises UserError for a share outside (0, 1], no scores, or scores that are not finite.
    """
    if not 0 < share <= 1:
        raise UserError(f"share is {share:g}; give a share of images above 0, up to 1")
    values = _sorted(natural, "natural")
    return float(values[len(values) - math.ceil(share * len(values) - ROUNDING)])


def _between(values: np.ndarray, flagged: int) -> float:
    """A threshold that flags exactly the `flagged` smallest of the sorted distinct `values`, never all of them.

    Flagging all is as good as flagging nothing under both rules, and the lowest of equals wins.
    """
    if flagged == 0:
        return float(np.nextafter(values[0], -np.inf))
    below, above = float(values[flagged - 1]), float(values[flagged])
    middle = below + (above - below) / 2
    return middle if middle < above else below  # neighbouring floats have nothing between them


def _sorted(scores: Tensor | np.ndarray, what: str) -> np.ndarray:
    values = np.sort(np.asarray(scores, dtype=np.float64).reshape(-1))
    if not len(values) or not np.isfinite(values).all():
        raise UserError(f"a threshold needs finite {what} scores, at least one; check the detector and its images")
    return values
