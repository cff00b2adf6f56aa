"""Fréchet distance between Gaussian fits of two sets of features (Heusel et al. 2017), and the features.

The number depends on the features and on how many images there are: only distances with equal features and equal
counts compare. The published FIDs use a TensorFlow Inception network; torchvision's Inception v3 is another training of
nearly the same network behind another resizing, so its distances are not comparable with published ones, and those of
a classifier's penultimate layer still less. `Extractor.name` says which features a distance is of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.evaluation.statistics import Estimate
from robustgen.protocols import FeatureClassifier

INCEPTION_FILE = "inception_v3_google-0cc3c7bd.pth"  # torchvision's IMAGENET1K_V1, in the cache of torch.hub
INCEPTION_SIDE = 299  # pixels


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) ≥ 0 of features (N, D) and (M, D), in float64.

    With Σ = XᵀX, X the centred features over √(N − 1), the trace of the root is the sum of the singular values of
    X_a X_bᵀ. That needs neither a matrix square root nor full rank, and loses no digits where eigenvalues are near 0.
    With N not well above D the fits are poor and the distance is far too large: it is 0 for equal sets, but of two
    samples of one distribution it grows with D²/N.
    Raises UserError unless both are finite, with at least two rows and the same D.
    """
    x, y = _features(a), _features(b)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"features have {x.shape[1]} and {y.shape[1]} columns; take both from one network")
    mean = float(np.square(x.mean(0) - y.mean(0)).sum())
    p, q = _factor(x), _factor(y)
    root = float(np.linalg.svd(p @ q.T, compute_uv=False).sum())
    return max(0.0, mean + float(np.square(p).sum() + np.square(q).sum()) - 2 * root)


def bootstrapped(
    a: np.ndarray, b: np.ndarray, *, resamples: int = 100, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """`frechet_distance` with an interval from drawing the rows of a and of b again, with replacement.

    A Fréchet distance of finitely many images is biased upwards, and a resample has the bias twice. So the interval is
    the percentile interval moved by the difference between the distance and the resamples' median: it tells how
    far the distance would vary with other images of the same number, not where that of infinitely many lies.
    """
    if resamples < 2 or not 0 < confidence < 1:
        raise UserError(f"a bootstrap needs 2 resamples and a confidence in (0, 1), not {resamples} and {confidence}")
    value = frechet_distance(a, b)
    random = np.random.default_rng(seed)
    drawn = [
        frechet_distance(a[random.integers(len(a), size=len(a))], b[random.integers(len(b), size=len(b))])
        for _ in range(resamples)
    ]
    low, middle, high = np.quantile(drawn, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2])
    return Estimate(value, max(0.0, value + float(low - middle)), value + float(high - middle), min(len(a), len(b)))


def _features(values: np.ndarray) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise UserError(f"features must be a matrix of at least two rows, one an image, not of shape {x.shape}")
    if not np.isfinite(x).all():
        raise UserError(f"{int((~np.isfinite(x)).sum())} features are not finite; find the images they come from")
    return x


def _factor(x: np.ndarray) -> np.ndarray:
    """P with PᵀP = the covariance of x (N, D), with min(N, D) rows."""
    centred: np.ndarray = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return centred if len(x) <= x.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


@dataclass(frozen=True)
class Extractor:
    """images (N, C, H, W) -> features (N, D) float64. `name` says what they are."""

    name: str
    network: Callable[[Tensor], Tensor]  # a batch of images in [0, 1] -> (N, D)
    device: str | torch.device = "cpu"
    batch: int = 100  # images computed together

    @torch.no_grad()
    def __call__(self, x: Tensor) -> np.ndarray:
        """x is clipped to [0, 1] first: an image is what can be displayed. UserError where it is not finite."""
        if not torch.isfinite(x).all():
            raise UserError(f"images for {self.name} are not finite; find where they arise")
        parts = [
            self.network(part.to(self.device, memory_format=torch.channels_last).clamp(0, 1)).double().cpu()
            for part in x.split(self.batch)
        ]
        return torch.cat(parts).numpy()


def classifier_features(model: nn.Module, label: str, device: str | torch.device = "cpu") -> Extractor:
    """The penultimate layer of a classifier in eval mode; `label` names it."""
    if not isinstance(model, FeatureClassifier):
        raise UserError(f"{label} ({type(model).__name__}) shows no features; use a classifier that has `features`")
    classifier: FeatureClassifier = model
    return Extractor(f"penultimate layer of {label}", lambda x: classifier.features(x)[-1].flatten(1), device)


def inception_weights(path: Path | None = None) -> Path | None:
    """The weights file of torchvision's Inception v3: `path`, else the one in torch.hub's cache, else None.

    Nothing is downloaded. UserError where `path` is given and not there.
    """
    if path is not None:
        if not path.is_file():
            raise UserError(f"Inception weights not found: {path}; leave the option out to look in torch.hub's cache")
        return path
    cached = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    return cached if cached.is_file() else None


def inception_features(path: Path, device: str | torch.device = "cpu") -> Extractor:
    """The 2048 pooled features of torchvision's Inception v3 with the weights in `path` (a state dict).

    Images are brought to 299×299 bilinearly, grey ones to three channels. UserError where the file does not fit.
    """
    network = build_inception()
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: nothing in it is run
        network.load_state_dict(weights)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} does not hold the weights of torchvision's Inception v3 ({reason}); get {INCEPTION_FILE}"
        ) from error
    network.fc = nn.Identity()
    network.eval().to(device).to(memory_format=torch.channels_last)

    def pooled(x: Tensor) -> Tensor:
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        x = F.interpolate(x, size=(INCEPTION_SIDE,) * 2, mode="bilinear", antialias=True)
        features: Tensor = network(2 * x - 1)  # this network was trained on [−1, 1]
        return features

    return Extractor("torchvision Inception v3, not the network of published FIDs", pooled, device)


def build_inception() -> Any:
    """torchvision's Inception v3, uninitialised."""
    from torchvision.models import inception_v3

    return inception_v3(weights=None, init_weights=False, transform_input=False)
