"""The energy detector of Beadini & Masi (2023), Sec. 4.2: untargeted attacks have low energy."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from robustgen.defenses.detectors.base import Detector, LabelledImages
from robustgen.errors import UserError
from robustgen.models.energy import energy

Fidelity = Literal["paper", "released"]

TEMPERATURES = (0.1, 0.2, 0.5, 1.0, 2.0, 10.0, 20.0)  # the released notebooks' grid


class EnergyDetector(Detector):
    """Score E(x) = −logsumexp of the logits, in nats; Eq. 9 flags an image as attacked where E(x) ≤ t.

    `fidelity="paper"` keeps T = 1 and learns nothing. `fidelity="released"` scores −T·logsumexp(logits / T), with T
    from TEMPERATURES of the greatest ROC-AUC on validation; among equals the T nearest to 1 in ratio, then the lower.
    """

    def __init__(self, *, fidelity: Fidelity = "paper", batch_size: int = 256) -> None:
        super().__init__(batch_size=batch_size)
        if fidelity not in get_args(Fidelity):
            raise UserError(f"unknown fidelity {fidelity!r}; choose one of {', '.join(get_args(Fidelity))}")
        self.fidelity = fidelity
        self.temperature = 1.0

    def _fit(self, train: LabelledImages, clean: Tensor, adversarial: Tensor) -> None:
        self.temperature = 1.0
        if self.fidelity == "paper":
            return
        natural, attacked = (self._over_batches(self._model(), images) for images in (clean, adversarial))
        areas = {t: _auc(energy(natural, t), energy(attacked, t)) for t in TEMPERATURES}
        self.temperature = min(TEMPERATURES, key=lambda t: (-areas[t], abs(math.log(t)), t))

    def _score(self, images: Tensor) -> Tensor:
        logits: Tensor = self._model()(images)
        return energy(logits, self.temperature)


def _auc(natural: Tensor, adversarial: Tensor) -> float:
    """P(adversarial < natural) + P(equal) / 2 over all pairs of scores (N,), (M,)."""
    ordered = adversarial.sort().values
    below = torch.searchsorted(ordered, natural, right=False)
    not_above = torch.searchsorted(ordered, natural, right=True)
    return float((below + not_above).double().mean()) / (2 * len(ordered))
