"""Detection and classification with a reject option: rates at a threshold (Yin, Kolouri & Rohde 2020, Sec. 4.2, 4.3).

An image is predicted as class k and accepted where its logit, that of class k's detector, is at least a threshold T:
k is argmax z_f in integrated, argmax z_H in generative detection. Rates are shares of all N images of a set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustgen.errors import UserError
from robustgen.evaluation.statistics import Estimate, proportion

ADVICE = "train their network again, with a smaller --recipe.lr"


@dataclass(frozen=True)
class Rates:
    """Shares in [0, 1] of a set of N images, float64 (M,), at M thresholds.

    accepted: of natural images the TPR (Eq. 10). right: predicted as labelled and accepted; of natural images the
    standard accuracy (Eq. 18). wrong: predicted otherwise and accepted; of attacked images the FPR (Eq. 11) and the
    error (Eq. 19).
    """

    accepted: np.ndarray
    right: np.ndarray
    wrong: np.ndarray


def decide(z: np.ndarray, z_h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The predicted classes argmax z, int64 (N,), and their detectors' logits (N,), of logits z, z_h (N, K).

    z is z_f in integrated, z_H itself in generative detection. Raises UserError where the shapes differ or a logit is
    NaN.
    """
    z, z_h = np.asarray(z), np.asarray(z_h)
    if z.ndim != 2 or z.shape != z_h.shape:
        raise UserError(f"logits must both be (N, K), not {z.shape} and {z_h.shape}; use one set of images and classes")
    if np.isnan(z).any() or np.isnan(z_h).any():
        raise UserError(f"logits are NaN; {ADVICE}")
    predicted = z.argmax(1)
    return predicted, np.take_along_axis(z_h, predicted[:, None], 1)[:, 0]


def true_positive_rate(logit: np.ndarray, threshold: float) -> Estimate:
    """Eq. 10: the share of natural images, logits (N,), that are accepted."""
    (logit,) = _checked(logit)
    return _share(logit >= threshold)


def false_positive_rate(predicted: np.ndarray, logit: np.ndarray, y: np.ndarray, threshold: float) -> Estimate:
    """Eq. 11: the share of attacked images, of all N, that are both accepted and predicted wrongly; arrays (N,).

    It is the error of Eq. 19 too: a classifier's word for it.
    """
    logit, predicted, y = _checked(logit, predicted, y)
    return _share((predicted != y) & (logit >= threshold))


def accuracy(predicted: np.ndarray, logit: np.ndarray, y: np.ndarray, threshold: float) -> Estimate:
    """Eq. 18: the share of natural images that are both accepted and predicted as labelled; arrays (N,)."""
    logit, predicted, y = _checked(logit, predicted, y)
    return _share((predicted == y) & (logit >= threshold))


def rates(predicted: np.ndarray, logit: np.ndarray, y: np.ndarray, thresholds: np.ndarray) -> Rates:
    """The rates of a set of images, arrays (N,), at each of the thresholds (M,), in their order."""
    logit, predicted, y = _checked(logit, predicted, y)
    wrong = predicted != y
    return Rates(
        accepted=_at_least(logit, thresholds) / len(logit),
        right=_at_least(logit[~wrong], thresholds) / len(logit),
        wrong=_at_least(logit[wrong], thresholds) / len(logit),
    )


def accepted_logits(predicted: np.ndarray, logit: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N,) the logits where the prediction is wrong, −inf where it is right: an error at every T up to that."""
    logit, predicted, y = _checked(logit, predicted, y)
    return np.where(predicted != y, logit, -np.inf)


def _at_least(logit: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the logits (N,) are at or above each threshold (M,)."""
    return len(logit) - np.searchsorted(np.sort(logit), thresholds, side="left")


def _share(chosen: np.ndarray) -> Estimate:
    return proportion(int(chosen.sum()), len(chosen))


def _checked(logit: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """The arrays; UserError unless they are non-empty vectors (N,) of one length and the logits numbers."""
    arrays = tuple(np.asarray(array) for array in (logit, *others))
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 1 or not len(arrays[0]):
        listed = ", ".join(str(array.shape) for array in arrays)
        raise UserError(f"rates need vectors of one length, at least 1, not {listed}; use the same images")
    if np.isnan(arrays[0]).any():
        raise UserError(f"logits are NaN; {ADVICE}")
    return arrays
