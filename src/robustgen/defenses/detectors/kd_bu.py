"""Kernel density and Bayesian uncertainty: Feinman, Curtin, Shintre & Gardner (2017), "Detecting Adversarial Samples
from Artifacts", a baseline of Beadini & Masi's Table 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class KDBUDetector(RegressionDetector):
    """A logistic regression on two statistics of the penultimate features f (N, D).

    Kernel density: the log of the mean Gaussian kernel between f and the training features of the predicted class.
    Its constant (2π h²)^(D/2) is left out, as the regression scales the statistic anyway.

    Bayesian uncertainty: the variance of the softmax over `draws` dropout masks, summed over classes. Our ResNets are
    trained without dropout, so the masks fall on f, before the last linear layer. They are drawn once per detector
    and shared by all images: an image's score then depends on nothing but the image.
    """

    def __init__(
        self,
        *,
        bandwidth: float = 1.2,  # h, in the units of the features; Feinman et al.: 1.20 on MNIST, 0.26 on CIFAR-10
        dropout: float = 0.5,  # probability that a feature is dropped
        draws: int = 50,  # masks; Feinman et al. draw 50
        seed: int = 0,
        batch_size: int = 256,
    ) -> None:
        super().__init__(seed=seed, batch_size=batch_size)
        if not (bandwidth > 0 and 0 < dropout < 1 and draws >= 2):
            raise UserError(
                f"kd-bu needs bandwidth > 0, 0 < dropout < 1 and draws ≥ 2, got {bandwidth}, {dropout} and {draws}"
            )
        self.bandwidth, self.dropout, self.draws = bandwidth, dropout, draws
        self._head: nn.Linear
        self._masks: Tensor  # (draws, D): 0 or 1 / (1 − dropout)
        self._class_features: list[Tensor]  # per class (M_k, D)

    def _prepare(self, train: LabelledImages) -> None:
        model = self._model()
        device = device_of(model)
        self._head = _last_linear(model)
        classes, dimension = self._head.weight.shape
        self._check_head(train.images[:2].to(device))
        features = self._over_batches(lambda images: stage_features(model, images)[-1], train.images).to(device)
        labels = train.labels.to(device)
        self._class_features = [features[labels == label] for label in range(classes)]
        empty = [label for label, rows in enumerate(self._class_features) if not len(rows)]
        if empty:
            raise UserError(f"kd-bu has no training image of class {empty[0]}; give a training set with every class")
        kept = torch.rand(self.draws, dimension, generator=generator(self.seed, "dropout")) >= self.dropout
        self._masks = (kept.float() / (1 - self.dropout)).to(device)

    def _check_head(self, images: Tensor) -> None:
        """The last linear layer must map the penultimate features to the logits, or dropout there means nothing."""

        def gap(batch: Tensor) -> Tensor:
            features = stage_features(self._model(), batch)[-1]
            if features.shape[1] != self._head.in_features:
                return torch.full((1,), math.inf)
            logits = finite(self._model()(batch), "the classifier's logits")
            difference: Tensor = self._head(features) - logits
            return (difference.abs().amax() / (1 + logits.abs().amax()))[None]

        if not float(self._over_batches(gap, images).max()) < 1e-2:  # wide enough for TF32
            raise UserError(
                "kd-bu: the classifier's last nn.Linear does not turn features(x)[-1] into its logits; "
                "return that layer's input as the last feature"
            )

    def _statistics(self, images: Tensor) -> Tensor:
        features = stage_features(self._model(), images)[-1]
        density = self._log_density(features, self._head(features).argmax(1))
        return torch.stack([density, self._uncertainty(features)], dim=1)

    def _log_density(self, features: Tensor, predicted: Tensor) -> Tensor:
        """log mean_i exp(−‖f − f_i‖² / 2h²) over the predicted class: (B, D), (B,) -> (B,)."""
        density = features.new_empty(len(features))
        for label in range(len(self._class_features)):
            chosen, reference = predicted == label, self._class_features[label]
            exponents = -squared_distances(features[chosen], reference) / (2 * self.bandwidth**2)
            density[chosen] = exponents.logsumexp(1) - math.log(len(reference))
        return density

    def _uncertainty(self, features: Tensor) -> Tensor:
        """mean_s ‖p_s‖² − ‖mean_s p_s‖² over the masks' softmax outputs p_s: (B, D) -> (B,)."""
        masked = features[:, None] * self._masks
        probabilities = F.linear(masked, self._head.weight, self._head.bias).softmax(2)
        return probabilities.var(dim=1, correction=0).sum(1)


def _last_linear(classifier: nn.Module) -> nn.Linear:
    layers = [module for module in classifier.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UserError(
            f"kd-bu needs a classifier that ends in nn.Linear, and {type(classifier).__name__} has none; "
            "choose another detector"
        )
    return layers[-1]
