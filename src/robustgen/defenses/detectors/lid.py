"""Local intrinsic dimensionality: Ma et al. (2018), "Characterizing Adversarial Subspaces Using Local Intrinsic
Dimensionality", a baseline of Beadini & Masi's Table 1."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgen.defenses.detectors.base import (
    LabelledImages,
    RegressionDetector,
    device_of,
    finite,
    squared_distances,
    stage_features,
)
from robustgen.errors import UserError
from robustgen.seeding import generator


class LIDDetector(RegressionDetector):
    """A logistic regression on one LID estimate per stage of the classifier.

    Ma et al. take an image's neighbours from the mini-batch it came in. Here they come from one mini-batch of clean
    training images, drawn once, so that an image's score does not depend on its companions.
    """

    def __init__(
        self,
        *,
        neighbours: int = 20,  # k; Ma et al. tune it within 10 to 90 and settle on 20 for most sets
        reference_size: int = 100,  # clean training images; their mini-batch
        seed: int = 0,
        batch_size: int = 256,
    ) -> None:
        super().__init__(seed=seed, batch_size=batch_size)
        if not 2 <= neighbours <= reference_size:
            raise UserError(f"lid needs 2 ≤ neighbours ≤ reference_size, got {neighbours} and {reference_size}")
        self.neighbours, self.reference_size = neighbours, reference_size
        self._reference: list[Tensor]  # per stage (M, D_l)

    def _prepare(self, train: LabelledImages) -> None:
        if len(train.images) < self.neighbours:
            raise UserError(
                f"lid with {self.neighbours} neighbours needs as many training images, got {len(train.images)}"
            )
        order = torch.randperm(len(train.images), generator=generator(self.seed, "reference"))
        rows = order[: self.reference_size].to(train.images.device)
        self._reference = self._stages_of(train.images[rows])

    def _stages_of(self, images: Tensor) -> list[Tensor]:
        """The flattened activations (M, D_l) of every stage l."""
        widths: list[int] = []

        def flat(batch: Tensor) -> Tensor:
            stages = [stage.flatten(1) for stage in stage_features(self._model(), batch)]
            widths[:] = [stage.shape[1] for stage in stages]
            return torch.cat(stages, dim=1)

        joined = finite(self._over_batches(flat, images), "the classifier's activations")
        return list(torch.split(joined.to(device_of(self._model())), widths, dim=1))

    def _statistics(self, images: Tensor) -> Tensor:
        stages = [stage.flatten(1) for stage in stage_features(self._model(), images)]
        pairs = zip(stages, self._reference, strict=True)
        return torch.stack([lid(squared_distances(stage, known), self.neighbours) for stage, known in pairs], dim=1)


def lid(distances: Tensor, neighbours: int) -> Tensor:
    """Maximum-likelihood LID (N,) from squared distances (N, M) to a reference: −1 / mean_i log(r_i / r_k), i ≤ k.

    r_i is the distance of the i-th nearest of `neighbours` = k points (Amsaleg et al. 2015; Ma et al., Eq. 4). It is
    not finite where all k distances are equal.
    """
    nearest = distances.topk(neighbours, dim=1, largest=False).values
    logs = 0.5 * (nearest / nearest.amax(1, keepdim=True)).log()
    return -1 / logs.mean(1)
