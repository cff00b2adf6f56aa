"""What the attacks on random defences share: the search for states that fresh draws confirm to be misclassified.

The evaluation is Algorithm 1 of Hill, Mitchell & Zhu 2021, for any attack: an attack says which images are suspect at
their present states and where these go next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from robustgen.attacks.base import BallAttack, BallOptions, positions
from robustgen.attacks.objectives import cross_entropy
from robustgen.data.images import check_count, check_images, check_labels
from robustgen.errors import UserError
from robustgen.models import evaluating
from robustgen.options import Ratio
from robustgen.replicates import Parts, check_finite, check_logits, in_company, joined, rewinding
from robustgen.seeding import ImageStreams, derive

Progress = Callable[[int, int, int], None]  # restart, updates done, images of the micro-batch that still stand


@dataclass(frozen=True, kw_only=True)
class EotOptions(BallOptions):
    name: str = "eot"
    steps: int = 50  # N, updates
    draws: int = 15  # H_adv, replicates behind a gradient and behind the screen
    verify: int = 150  # H_def, fresh replicates that confirm a break
    restarts: int = 1  # random starts

    def __post_init__(self) -> None:
        super().__post_init__()
        if not getattr(self, "step", 1) > 0 or min(self.draws, self.verify, self.restarts) < 1:
            raise UserError(f"{self.name} needs step > 0 and draws, verify and restarts >= 1, not {self}")


@dataclass(frozen=True, kw_only=True)
class StepOptions(EotOptions):
    """Of an attack whose steps have one size."""

    step: Ratio = 0.25  # step size α as a fraction of eps (2/255 of 8/255)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an attack found out about N images; d_m of Algorithm 1 is natural_correct & ~broken."""

    natural_correct: np.ndarray  # bool (N,): H_def replicates of the natural image are classified correctly
    broken: np.ndarray  # bool (N,): a break was confirmed; never where natural_correct is False
    broken_step: np.ndarray  # int64 (N,): updates that the breaking state had undergone, -1 where not broken
    broken_restart: np.ndarray  # int64 (N,): the restart it belongs to, -1 where not broken
    checks: np.ndarray  # int64 (N,): confirmations that were asked for, over all restarts
    adversarial: np.ndarray  # (N, C, H, W) in [0, 1]: the breaking state, else the last; natural where not attacked

    @classmethod
    def join(cls, parts: Sequence[Outcome]) -> Outcome:
        """The outcomes of several sets of images as one."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


@dataclass(kw_only=True)
class Climb:
    """The images of one restart that still stand, and all that is kept for each of them."""

    rows: Tensor  # (N,) where they stand in the micro-batch
    x: Tensor  # (N, C, H, W) natural images
    y: Tensor  # (N,) labels
    state: Tensor  # (N, C, H, W) where they are
    draws: ImageStreams  # the attack's randomness
    fresh: ImageStreams  # the confirmations'
    gradient: Tensor = field(init=False)  # (N, C, H, W) of the loss, whatever its length

    def __post_init__(self) -> None:
        self.gradient = torch.zeros_like(self.state)

    def subset(self, rows: Tensor) -> Self:
        """The climb of some of the images; what is not kept per image stays."""
        chosen = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, ImageStreams):
                setattr(chosen, name, value.subset(rows.tolist()))
            elif isinstance(value, Tensor):
                setattr(chosen, name, value[rows])
        return chosen


class EotAttack(BallAttack, ABC):
    """Base of the attacks on a `RandomDefense`. A subclass says what `propose` does and may change `objective`,
    `direction`, `move`, `start` and `climb`.

    An image counts as broken only where H_def fresh replicates confirm what the attack suspects. `batch` images are
    attacked together: with their replicates they set the memory in use, and results do not depend on them. Where
    memory does not suffice, replicates are classified in parts.
    """

    Options: type[Any] = EotOptions
    needs: ClassVar[tuple[str, ...]] = ("classifier", "purify_draws", "unrolled", "combine")  # of a defence

    def __init__(self, model: nn.Module, *, batch: int = 64, **options: Any) -> None:
        missing = [name for name in self.needs if not hasattr(model, name)]
        if missing:
            kind = "random defence with a score" if "score" in missing else "random defence"
            name = self.Options.name
            raise UserError(f"{type(model).__name__} has no {', '.join(missing)}; {name} attacks a {kind}")
        if batch < 1:
            raise UserError(f"batch is {batch}; give at least 1 image")
        super().__init__(model, **options)
        self.batch = batch
        self.parts = Parts("classifying one purified image", "free the accelerator or set device cpu")
        self.images = Parts("taking one image's gradient through the purification", "lower draws")

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.model.classifier,)

    @abstractmethod
    def propose(self, climb: Climb, wanted: bool) -> Tensor:
        """(N,) bool: the images to be checked by fresh draws where they are.

        Where a further step is `wanted` it leaves in `climb` what `move` takes, as a rule the loss's gradient.
        """

    def objective(self, logits: Tensor, y: Tensor) -> Tensor:
        """(N,) values to raise, of the replicates' logits (N, H, K): by default their losses' mean."""
        losses = self.loss(logits.flatten(0, 1), y.repeat_interleave(logits.shape[1]))
        mean: Tensor = losses.unflatten(0, logits.shape[:2]).mean(1)
        return mean

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """(N,) losses of logits (N, K)."""
        return cross_entropy(logits, y)

    def direction(self, climb: Climb) -> Tensor:
        """The step, of length 1 at most in the ball's norm: by default the steepest ascent."""
        return self.ball.ascent(climb.gradient)

    def move(self, climb: Climb) -> None:
        """Take the images of a climb to their next states."""
        step: Tensor = self.options.step * self.eps * self.direction(climb)
        climb.state = self.ball.project(climb.state + step, climb.x)

    def start(self, x: Tensor, streams: ImageStreams) -> Tensor:
        """X_0: uniform in the ball around x, then in [0, 1]."""
        return self.ball.project(x + self.eps * self.ball.offset(x, streams), x)

    def climb(self, **images: Any) -> Climb:
        """A restart's beginning; `images` are the fields of `Climb`."""
        return Climb(**images)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.from_numpy(self.evaluate(x, y, self._order).adversarial).to(x)

    def evaluate(
        self,
        x: Tensor,
        y: Tensor,
        indices: Sequence[int] | Tensor | None = None,
        *,
        natural_correct: np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> Outcome:
        """Algorithm 1 on images x (N, C, H, W) in [0, 1] with labels y (N,).

        `indices` (N,), default 0..N-1, seed the images' random streams. `natural_correct` (N,) saves its computation
        where it is known from the same seed, H_def and defence. `progress` is called after every check of the states.
        Raises UserError for images and labels that are none, for labels, indices or `natural_correct` that are not as
        many as the images, and where the defence returns NaN or infinite logits.
        """
        check_images(x)
        check_labels(y, len(x))
        if natural_correct is not None:
            check_count(len(x), len(natural_correct), "entry of natural_correct", "entries of natural_correct")
        order = list(positions(indices, len(x)))
        x, y = x.detach().to(self.device), y.detach().to(self.device).long()
        parts = []
        with evaluating(self.model), self.checking(y):
            for first in range(0, len(x), self.batch):
                rows = slice(first, first + self.batch)
                known = None if natural_correct is None else torch.from_numpy(natural_correct[rows])
                parts.append(self._run(x[rows], y[rows], order[rows], known, progress or (lambda *_: None)))
        return Outcome.join([part.outcome() for part in parts])

    def _run(self, x: Tensor, y: Tensor, order: list[int], known: Tensor | None, progress: Progress) -> Record:
        if known is None:
            streams = ImageStreams(derive(self.options.seed, "natural"), order, x.device)
            known = self.large_sample(x, streams) == y
        record = Record(x, known)
        for restart in range(self.options.restarts):
            if len(record.standing()):
                self._restart(record, x, y, order, restart, progress)
        return record

    def _restart(
        self, record: Record, x: Tensor, y: Tensor, order: list[int], restart: int, progress: Progress
    ) -> None:
        """Algorithm 1's inner loop for the images of a micro-batch that still stand, all of them at once."""
        rows = record.standing().to(x.device)
        start, draws, fresh = (
            ImageStreams(derive(self.options.seed, name, restart), [order[row] for row in rows.tolist()], x.device)
            for name in ("start", "attack", "verify")
        )
        state = self.start(x[rows], start)
        climb = self.climb(rows=rows, x=x[rows], y=y[rows], state=state, draws=draws, fresh=fresh)
        for n in range(self.options.steps + 1):
            wanted = n < self.options.steps
            suspects = self.propose(climb, wanted).nonzero().flatten()
            record.count_check(climb.rows[suspects])
            broken = self._confirmed(climb, suspects)
            record.mark(climb.rows[broken], restart, n, climb.state[broken])
            if broken.any():
                climb = climb.subset((~broken).nonzero().flatten())
            progress(restart, n, len(climb.rows))
            if not len(climb.rows):
                return
            if wanted:
                self.move(climb)
        record.adversarial[climb.rows.cpu()] = climb.state.cpu()

    def _confirmed(self, climb: Climb, suspects: Tensor) -> Tensor:
        """(N,) bool: the suspects that fresh draws misclassify too."""
        labels = self.large_sample(climb.state[suspects], climb.fresh.subset(suspects.tolist()))
        broken = torch.zeros_like(climb.y, dtype=torch.bool)
        broken[suspects] = labels != climb.y[suspects]
        return broken

    def replicate_gradients(self, purified: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The replicates' logits (N, H, K) and the objective's gradient by them (N, H, C, H, W), in parts if need be.

        `purified` (N, H, C, H, W) are replicates without gradient.
        """
        total = purified.shape[:2].numel()
        if self.parts.hold(total):
            leaf = purified.detach().requires_grad_()
            found = self.parts.attempt(lambda: self._gradient(leaf, y, leaf), total)
            if found is not None:
                return found
        images = as_images(purified.detach())
        with torch.no_grad():
            logits = self.logits(purified).requires_grad_()
        with torch.enable_grad():
            (cotangent,) = torch.autograd.grad(self.objective(logits, y).sum(), logits)
        cotangent = cotangent.flatten(0, 1)

        def back(rows: slice) -> Tensor:
            leaf = images[rows].detach().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(in_company(self.model.classifier, leaf), leaf, cotangent[rows])
            return gradient

        gradient = joined(self.parts.run(back, total))
        return logits.detach(), gradient.unflatten(0, purified.shape[:2])

    def full_gradient(self, x: Tensor, y: Tensor, streams: ImageStreams) -> tuple[Tensor, Tensor]:
        """Logits (N, H, K) of H_adv draws and the objective's gradient by x through them, in parts if need be.

        Raises UserError where the gradient is NaN or infinite.
        """

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            chosen = streams.subset(range(len(x))[rows])
            leaf = x[rows].detach().requires_grad_()
            with rewinding(chosen), torch.enable_grad():
                return self._gradient(self.model.unrolled(leaf, self.options.draws, chosen), y[rows], leaf)

        logits, gradient = (joined(list(found)) for found in zip(*self.images.run(part, len(x)), strict=True))
        check_finite(gradient, "gradients through the purification", "; take fewer of its steps, or attack by BPDA")
        return logits, gradient

    def _gradient(self, purified: Tensor, y: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, H, K) and the objective's gradient by `leaf`, in one pass."""
        with torch.enable_grad():
            logits = in_company(self.model.classifier, purified.flatten(0, 1)).unflatten(0, purified.shape[:2])
            check_logits(logits)
            # the sum, not the mean: no image's step depends on who shares the batch
            (gradient,) = torch.autograd.grad(self.objective(logits, y).sum(), leaf)
        return logits.detach(), gradient

    def screen(self, climb: Climb) -> Tensor:
        """(N,) bool: the images that H_adv replicates misclassify where they are."""
        with torch.no_grad():
            purified = self.model.purify_draws(climb.state, self.options.draws, climb.draws)
            wrong: Tensor = self.combined(purified).argmax(1) != climb.y
        return wrong

    @torch.no_grad()
    def large_sample(self, x: Tensor, streams: ImageStreams) -> Tensor:
        """(N,) labels ĉ(x) of Eq. 6 from H_def fresh draws, as many images at once as an attack step has replicates."""
        size = max(1, self.batch * self.options.draws // self.options.verify)
        labels = [torch.empty(0, dtype=torch.long, device=x.device)]
        for first in range(0, len(x), size):
            rows = range(first, min(first + size, len(x)))
            purified = self.model.purify_draws(x[rows.start : rows.stop], self.options.verify, streams.subset(rows))
            labels.append(self.combined(purified).argmax(1))
        return torch.cat(labels)

    def combined(self, purified: Tensor) -> Tensor:
        """F̂_H (N, K): what the defence makes of the logits of purified images (N, H, C, H, W)."""
        combined: Tensor = self.model.combine(self.logits(purified))
        return combined

    def logits(self, purified: Tensor) -> Tensor:
        """The classifier's logits (N, H, K) of purified images (N, H, C, H, W)."""
        images = as_images(purified)
        found = joined(self.parts.run(lambda rows: in_company(self.model.classifier, images[rows]), len(images)))
        logits: Tensor = found.unflatten(0, purified.shape[:2])
        check_logits(logits)
        return logits


def as_images(purified: Tensor) -> Tensor:
    """Replicates (N, H, C, H, W) as a batch of images, in the memory format that convolutions like."""
    return purified.flatten(0, 1).contiguous(memory_format=torch.channels_last)


class Record:
    """The outcome of a micro-batch while it is being found out; on the CPU."""

    def __init__(self, x: Tensor, natural_correct: Tensor) -> None:
        self.natural_correct = natural_correct.cpu()
        self.broken_step = torch.full((len(x),), -1)
        self.broken_restart = torch.full((len(x),), -1)
        self.checks = torch.zeros(len(x), dtype=torch.long)
        self.adversarial = x.cpu().clone()

    @property
    def broken(self) -> Tensor:
        return self.broken_step >= 0

    def standing(self) -> Tensor:
        """Rows of the images that are still classified correctly."""
        return (self.natural_correct & ~self.broken).nonzero().flatten()

    def count_check(self, rows: Tensor) -> None:
        self.checks[rows.cpu()] += 1

    def mark(self, rows: Tensor, restart: int, step: int, states: Tensor) -> None:
        """Record confirmed breaks."""
        rows = rows.cpu()
        self.broken_step[rows], self.broken_restart[rows] = step, restart
        self.adversarial[rows] = states.cpu()

    def outcome(self) -> Outcome:
        return Outcome(**{f.name: getattr(self, f.name).numpy() for f in fields(Outcome)})
