"""What the attacks within a ball share: their options, per-image starts, the model's mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torchattacks.attack import Attack

from robustgen.attacks.ascent import Callback
from robustgen.attacks.ball import Ball, Norm, ball_of, check_radius
from robustgen.data.images import check_count, check_images, check_labels
from robustgen.errors import UserError
from robustgen.models import evaluating
from robustgen.options import ADDED, Ratio
from robustgen.seeding import ImageStreams


@dataclass(frozen=True, kw_only=True)
class BallOptions:
    eps: Ratio = 8 / 255  # radius of the ball, pixel units in [0, 1]; of an L2 ball the length of the whole change
    norm: Norm = field(default="linf", metadata=ADDED)  # in which radius and steps are measured
    seed: int = 0  # of the per-image random streams

    def __post_init__(self) -> None:
        if not self.eps >= 0 or getattr(self, "steps", 0) < 0 or not getattr(self, "alpha", 1) > 0:
            raise UserError(f"an attack needs eps >= 0, alpha > 0 and steps >= 0, not {self}")
        check_radius(self.norm, self.eps)


@dataclass(frozen=True, kw_only=True)
class LinfOptions(BallOptions):
    norm: Literal["linf"] = field(default="linf", metadata=ADDED)  # this attack has no other

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm != "linf":
            raise UserError(f"norm is {self.norm}, but this attack is for linf only; use pgd")


class BallAttack(Attack):  # type: ignore[misc]
    """Base of the attacks: a torchattacks `Attack` with keyword-only options that leaves the model as it was.

    `Options` is the attack's frozen dataclass; `HePGD(model, eps=8 / 255, lam=1.2)` fills it. The call takes images
    (N, C, H, W) in [0, 1], labels (N,) and the images' positions in their data set (default 0..N-1), which seed the
    random streams, and returns images of the same shape within eps (asserted) and within [0, 1]. It raises UserError
    for images outside [0, 1], labels that are no classes, and labels or positions that are not as many as the images.
    """

    Options: type[Any] = BallOptions

    def __init__(self, model: nn.Module, **options: Any) -> None:
        Attack.__init__(self, type(self).__name__, model)  # not super(): torchattacks' own subclasses ask for more
        self.options = self.Options(**options)
        self.eps: float = self.options.eps
        self.callback: Callback | None = None
        self._order: Sequence[int] = ()
        self._streams: ImageStreams | None = None

    def __call__(
        self, inputs: Tensor, labels: Tensor, indices: Sequence[int] | Tensor | None = None, **_: Any
    ) -> Tensor:
        check_images(inputs)
        check_labels(labels, len(inputs))
        self._remember(positions(indices, len(inputs)), None)
        x, y = inputs.detach().to(self.device), labels.detach().to(self.device).long()
        with evaluating(self.model), self.checking(y):
            adversarial: Tensor = self.forward(x, y).detach()
        check_images(adversarial)
        self.ball.check(adversarial, x, type(self).__name__)
        return adversarial

    @property
    def ball(self) -> Ball:
        """The ball that the options name."""
        return ball_of(self.options.norm, self.options.eps)

    @property
    def streams(self) -> ImageStreams:
        """The streams of this call's images; made when first asked for, as many attacks draw nothing."""
        if self._streams is None:
            self._remember(self._order, ImageStreams(self.options.seed, self._order))
        assert self._streams is not None
        return self._streams

    def networks(self) -> tuple[nn.Module, ...]:
        """Those that give logits (N, K) of the classes."""
        return (self.model,)

    @contextmanager
    def checking(self, y: Tensor) -> Iterator[None]:
        """Within, logits of fewer classes than labels y (N,) name are a UserError, without a forward pass of its own.

        Nothing else says how many classes a network has, and an attack that only compares labels would take such a one
        for a misclassification.
        """

        def check(_: nn.Module, __: object, logits: object) -> None:
            if isinstance(logits, Tensor) and logits.ndim == 2 and highest >= logits.shape[1]:
                check_labels(y, len(y), logits.shape[1])

        highest = int(y.max())
        with ExitStack() as stack:
            for network in self.networks():
                stack.callback(network.register_forward_hook(check).remove)
            yield

    def _remember(self, order: Sequence[int], streams: ImageStreams | None) -> None:
        # not by plain assignment: torchattacks keeps every value ever assigned to an attack
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_streams", streams)

    def uniform_start(self, x: Tensor) -> Tensor:
        """Offsets shaped as x, uniform in the ball of radius 1, each image from its own stream."""
        return self.ball.offset(x, self.streams)


def positions(indices: Sequence[int] | Tensor | None, n: int) -> Sequence[int]:
    """The positions of n images in their data set, 0..n-1 where none are given; UserError unless each has one."""
    order = range(n) if indices is None else [int(i) for i in indices]
    check_count(n, len(order), "index", "indices")
    return order
