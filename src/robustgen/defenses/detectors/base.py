"""What all detectors share: evaluation in batches, the classifier left as found, a fit on paired validation images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from robustgen.data.images import check_images
from robustgen.errors import UserError
from robustgen.models import evaluating
from robustgen.progress import progress
from robustgen.seeding import ImageStreams, derive

LONG = 16  # batches; a longer loop reports its progress


class LabelledImages(Protocol):
    """Images (N, C, H, W) in [0, 1] with labels (N,) int64, such as `robustgen.data.ImageSet`."""

    @property
    def images(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...


class Detector(ABC):
    """Scores images by how natural they look to a classifier. Subclasses override `_fit` and `_score`."""

    def __init__(self, *, batch_size: int = 256) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size  # images per forward pass; memory only, no effect on the scores
        self.classifier: nn.Module | None = None

    def fit(
        self, classifier: nn.Module, train: LabelledImages, validation_clean: Tensor, validation_adversarial: Tensor
    ) -> Self:
        """Adapt the detector to `classifier` (images in [0, 1] to logits (N, K)); the threshold is chosen apart.

        `validation_clean` and `validation_adversarial` (N, C, H, W) in [0, 1] are paired: row i of the second is
        the attacked row i of the first. Raises UserError for images that cannot be used.
        """
        check_images(train.images)
        check_images(validation_clean)
        check_images(validation_adversarial)
        if validation_clean.shape != validation_adversarial.shape or not len(validation_clean):
            raise UserError(
                f"clean and adversarial validation images must come in pairs, got {tuple(validation_clean.shape)} and "
                f"{tuple(validation_adversarial.shape)}; take the clean rows that were attacked"
            )
        self.classifier = classifier
        self._fit(train, validation_clean, validation_adversarial)
        return self

    def score(self, x: Tensor) -> Tensor:
        """Scores (N,) float32 of images x (N, C, H, W) in [0, 1]; higher means more natural.

        An image's score does not depend on the others in the call. Raises UserError before `fit`, for images
        that cannot be used and for scores that are not finite.
        """
        if len(x):
            check_images(x)
        self._model()
        if not len(x):
            return x.new_empty(0)
        return finite(self._over_batches(self._score, x), "detector scores").to(x.device)

    @abstractmethod
    def _fit(self, train: LabelledImages, clean: Tensor, adversarial: Tensor) -> None:
        """Adapt to `self.classifier`, which is set."""

    @abstractmethod
    def _score(self, images: Tensor) -> Tensor:
        """Scores (B,) of one batch, on the classifier's device; the classifier is in evaluation mode."""

    def _over_batches(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """`function` of every batch, concatenated on the CPU as float32; without gradients, in evaluation mode."""
        device = device_of(self._model())
        batches = torch.split(images, self.batch_size)
        shown = progress(batches, total=len(batches), label=type(self).__name__) if len(batches) > LONG else batches
        with torch.no_grad(), evaluating(self._model()):
            values = [function(batch.to(device)) for batch in shown]
        return torch.cat([value.float().cpu() for value in values])

    def _model(self) -> nn.Module:
        if self.classifier is None:
            raise UserError(
                f"{type(self).__name__} is not fitted; call fit(classifier, train, clean, adversarial) first"
            )
        return self.classifier


class RegressionDetector(Detector):
    """A logistic regression on a few statistics of an image, natural against adversarial.

    As in Feinman et al. (2017) and Ma et al. (2018), noisy images count as natural, so that the detector cannot
    pass by telling that an image was changed at all: each clean image moves by its own attack's L-infinity size,
    in a random direction of the cube's corners. All validation images are used, also misclassified ones.
    """

    def __init__(self, *, seed: int = 0, batch_size: int = 256) -> None:
        super().__init__(batch_size=batch_size)
        self.seed = seed  # of everything drawn at fit; scoring draws nothing
        self._scaler: Any = None
        self._regression: Any = None

    def _fit(self, train: LabelledImages, clean: Tensor, adversarial: Tensor) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        self._regression = None
        self._prepare(train)
        groups = (clean, corner_noise(clean, adversarial, derive(self.seed, "noise")), adversarial)
        rows = torch.cat([self._finite_statistics(images) for images in groups]).double().numpy()
        natural = torch.cat([torch.ones(2 * len(clean)), torch.zeros(len(adversarial))]).numpy()
        self._scaler = StandardScaler().fit(rows)
        # Balanced weights, since noisy images double the natural ones.
        self._regression = LogisticRegression(class_weight="balanced", max_iter=1000)
        self._regression.fit(self._scaler.transform(rows), natural)

    def _score(self, images: Tensor) -> Tensor:
        if self._regression is None:
            raise UserError(f"{type(self).__name__} is not fitted; its last fit did not finish")
        rows = finite(self._statistics(images), f"{type(self).__name__}'s statistics").double().cpu().numpy()
        return torch.from_numpy(self._regression.decision_function(self._scaler.transform(rows)))

    def _finite_statistics(self, images: Tensor) -> Tensor:
        return finite(self._over_batches(self._statistics, images), f"{type(self).__name__}'s statistics")

    @abstractmethod
    def _prepare(self, train: LabelledImages) -> None:
        """Take from the training images what `_statistics` compares with."""

    @abstractmethod
    def _statistics(self, images: Tensor) -> Tensor:
        """Statistics (B, F) of one batch."""


def stage_features(classifier: nn.Module, images: Tensor) -> list[Tensor]:
    """`classifier.features(images)`: one activation per stage, the last being the penultimate layer (B, D).

    Raises UserError where the classifier offers no such method.
    """
    extract = getattr(classifier, "features", None)
    found = extract(images) if callable(extract) else None
    if not isinstance(found, list | tuple) or not found or found[-1].dim() != 2:
        raise UserError(
            f"{type(classifier).__name__} has no features(x) that lists its stages' activations, the last one (N, D); "
            "add it, or choose the energy detector, which needs logits only"
        )
    return list(found)


def corner_noise(clean: Tensor, adversarial: Tensor, seed: int) -> Tensor:
    """`clean` (N, C, H, W) moved by ±s per pixel, s the L-infinity size of its row's attack, kept in [0, 1]."""
    size = (adversarial - clean).abs().flatten(1).amax(1)
    sign = ImageStreams(seed, range(len(clean))).uniform(clean.shape[1:], clean.device).sub(0.5).sign()
    return (clean + size[:, None, None, None] * sign).clamp(0, 1)


def squared_distances(points: Tensor, reference: Tensor) -> Tensor:
    """Squared Euclidean distances (N, M) between rows (N, D) and (M, D), by one matrix product.

    Centred at the reference's mean and floored at the product's rounding error, so that they stay positive.
    """
    centre = reference.mean(0)
    a, b = points - centre, reference - centre
    norms = a.square().sum(1)[:, None] + b.square().sum(1)
    return (norms - 2 * a @ b.T).clamp_min(1e-6 * norms)


def finite(values: Tensor, what: str) -> Tensor:
    """`values`, or a UserError where one is infinite or not a number."""
    if not torch.isfinite(values).all():
        raise UserError(f"{what} are not finite; check the classifier's weights and activations")
    return values


def device_of(module: nn.Module) -> torch.device:
    """The device of the module's first parameter; the CPU where it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
