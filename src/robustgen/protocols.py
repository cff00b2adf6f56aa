"""What a classifier, a defence, a detector and an attack are. Every room below this one relies on these types only.

Images x are float32 (N, C, H, W) in [0, 1]; labels y are int64 (N,); logits are float32 (N, K).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor
from torch.nn import Module

if TYPE_CHECKING:
    from robustgen.seeding import ImageStreams


@runtime_checkable
class Classifier(Protocol):
    """An `nn.Module`: images -> logits. Normalisation is inside."""

    training: bool

    def __call__(self, x: Tensor, /) -> Tensor: ...


@runtime_checkable
class FeatureClassifier(Classifier, Protocol):
    """A classifier that shows its activations: the detectors that look inside need it."""

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations of the successive stages; the last is the penultimate layer (N, D)."""
        ...


@runtime_checkable
class Defense(Protocol):
    """An `nn.Module`: images -> logits, with what an adaptive attacker may know."""

    classifier: Classifier
    draws: int  # random replicates behind one output; 1 for a deterministic defence

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def purify(self, x: Tensor) -> Tensor:
        """The image that reaches the classifier, same shape as x."""
        ...


@runtime_checkable
class RandomDefense(Defense, Protocol):
    """A defence that draws: what an attacker needs to take expectations over it (EOT)."""

    def purify_draws(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        """(N, draws, C, H, W) independent purified images without gradient; `streams` holds one stream per image."""
        ...

    def unrolled(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        """The same, differentiable in x."""
        ...

    def combine(self, logits: Tensor) -> Tensor:
        """The draws' logits (N, draws, K) as one prediction (N, K)."""
        ...


@runtime_checkable
class EnergyModel(Protocol):
    """An `nn.Module` with an energy for Langevin dynamics; `sampling/langevin.py` holds the convention."""

    tau: float  # τ, Langevin noise in units of v = 2x − 1

    def scaled_energy(self, v: Tensor) -> Tensor:
        """(τ²/2) U(v) of states v (N, C, H, W), (N,)."""
        ...


@runtime_checkable
class ScoreModel(Protocol):
    """An `nn.Module`: images, noisy or not, -> s_θ(x); models/ncsnv2.py says how the two scores differ."""

    sigmas: Tensor  # noise levels (L,), falling, pixel units

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """s_θ(x, σ) = s_θ(x) / σ, σ (N,)."""
        ...


@runtime_checkable
class Detector(Protocol):
    """Scores images; an image is flagged where its score is at or below a threshold fitted on validation data."""

    def score(self, x: Tensor) -> Tensor:
        """(N,) scores, higher means more natural."""
        ...


@runtime_checkable
class DetectorBank(Protocol):
    """An `nn.Module`: images -> logits (N, L) of the detectors of L classes (GAT, Eq. 13): higher, more its own."""

    labels: tuple[int, ...]  # classes whose detectors these are, ascending

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def each(self, x: Tensor) -> Tensor:
        """(L, M) logits of detector l on its own images x (L, M, C, H, W)."""
        ...

    def member(self, k: int) -> Module:
        """Detector k, a position among `labels`, as a separate network: images -> logits (N, 1)."""
        ...


@runtime_checkable
class Attack(Protocol):
    """images, labels -> adversarial images in the attack's ball and in [0, 1]; the model keeps its mode.

    `indices` (N,) are the images' positions in their data set: they seed the per-image random streams.
    """

    def __call__(self, x: Tensor, y: Tensor, /, indices: Sequence[int] | None = None) -> Tensor: ...
