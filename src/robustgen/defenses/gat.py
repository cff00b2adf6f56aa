"""Detection and classification by one detector a class, with a reject option (GAT, Yin et al. 2020, Sec. 3).

A network says the class k of an image, and the image is accepted where the logit of detector d_k is at least T.
Integrated: a classifier f says it. Generative (Eq. 9): the detectors themselves do, as unnormalised densities p(x|k).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from robustgen.data.images import check_images
from robustgen.defenses.threshold import accepting_threshold
from robustgen.errors import UserError
from robustgen.models import evaluating
from robustgen.protocols import Classifier
from robustgen.replicates import check_finite, in_company

REJECTED = -1  # in place of a class


class Rejecting(nn.Module, ABC):
    """Base of both: images (N, C, H, W) in [0, 1] -> logits (N, K) of what predicts; a `Defense` and a `Detector`.

    `detectors` map images to logits z_H (N, K), one column a class. At `threshold` −inf nothing is rejected.
    """

    classifier: Classifier
    draws = 1

    def __init__(self, detectors: nn.Module, threshold: float = -math.inf, *, batch: int = 256) -> None:
        super().__init__()
        if math.isnan(threshold) or batch < 1:
            raise UserError(f"threshold is {threshold} and batch {batch}; give a number, and at least 1 image")
        self.detectors = detectors
        self.threshold = threshold
        self.batch = batch

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The logits that predict, differentiable."""

    def purify(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    @torch.no_grad()
    def decide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted classes k (N,) int64, and the logits of their detectors z_{d_k}(x) (N,).

        Raises UserError where images are none, and where logits are not finite.
        """
        check_images(x)
        with evaluating(self):
            parts = [self._read(each) for each in x.split(self.batch)]
        z, z_h = (torch.cat(values) for values in zip(*parts, strict=True))
        for logits, whose in ((z_h, "detectors"), (z, "classifier")):
            check_finite(logits, f"logits of the {whose}", "; train the network again, with a smaller --recipe.lr")
        predicted = z.argmax(1)
        return predicted, z_h.gather(1, predicted[:, None])[:, 0]

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logits that predict, and the detectors'."""
        return in_company(self, x), in_company(self.detectors, x)

    def score(self, x: Tensor) -> Tensor:
        """z_{d_k}(x) (N,): higher means more natural."""
        return self.decide(x)[1]

    def predict(self, x: Tensor) -> Tensor:
        """Classes (N,) int64, REJECTED (−1) where the logit is below the threshold."""
        predicted, logits = self.decide(x)
        return torch.where(logits >= self.threshold, predicted, REJECTED)

    def fit(self, validation: Tensor, share: float = 0.95) -> Self:
        """Set the threshold to the largest that accepts at least `share` of natural validation images."""
        self.threshold = accepting_threshold(self.score(validation).cpu().numpy(), share)
        return self


class Generative(Rejecting):
    """The detectors alone: k = argmax z_{d_k}(x) (Eq. 9)."""

    def __init__(self, detectors: nn.Module, threshold: float = -math.inf, *, batch: int = 256) -> None:
        super().__init__(detectors, threshold, batch=batch)
        self.classifier = detectors

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.detectors(x)
        return logits

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = in_company(self, x)
        return z, z


class Integrated(Rejecting):
    """A classifier f and the detector of the class that it names (Sec. 3)."""

    def __init__(
        self, classifier: nn.Module, detectors: nn.Module, threshold: float = -math.inf, *, batch: int = 256
    ) -> None:
        super().__init__(detectors, threshold, batch=batch)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x)
