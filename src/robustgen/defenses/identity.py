"""No defence at all, in the shape of one: the classifier alone under attacks that are written for defences."""

from __future__ import annotations

from torch import Tensor, nn

from robustgen.protocols import Classifier
from robustgen.seeding import ImageStreams


class Undefended(nn.Module):
    """The classifier itself as a random defence whose purification is the identity: BPDA+EOT becomes PGD."""

    classifier: Classifier

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.draws = 1

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x)

    def purify(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def purify_draws(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        """(N, draws, C, H, W): every draw is x; `streams` stay where they are."""
        return self.unrolled(x.detach(), draws, streams)

    def unrolled(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        """The same, differentiable in x."""
        del streams
        return x.unsqueeze(1).expand(-1, draws, *x.shape[1:])

    def combine(self, logits: Tensor) -> Tensor:
        """The mean of equal logits (N, draws, K), (N, K)."""
        return logits.mean(1)
