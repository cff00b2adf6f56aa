"""BPDA+EOT (Hill, Mitchell & Zhu 2021, Algorithm 1): the adaptive attack on a defence that draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.attacks.base import BallAttack, BallOptions
from robustgen.data.images import check_images
from robustgen.errors import UserError
from robustgen.models import evaluating
from robustgen.options import Ratio
from robustgen.replicates import Parts, check_logits, joined
from robustgen.seeding import ImageStreams, derive

Progress = Callable[[int, int, int], None]  # restart, updates done, images of the micro-batch that still stand

NEEDED = ("classifier", "purify_draws", "unrolled", "combine")  # of a RandomDefense


@dataclass(frozen=True, kw_only=True)
class Options(BallOptions):
    name: Literal["bpda_eot"] = "bpda_eot"
    step: Ratio = 0.25  # step size α as a fraction of eps (2/255 of 8/255)
    steps: int = 50  # N, updates
    draws: int = 15  # H_adv, replicates behind a gradient and behind the screen
    verify: int = 150  # H_def, fresh replicates that confirm a break
    restarts: int = 1  # random starts (Table 2 takes 5)
    gradient: Literal["bpda", "full"] = "bpda"  # purification's derivative: taken for the identity, or unrolled

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.step > 0 or min(self.draws, self.verify, self.restarts) < 1:
            raise UserError(f"bpda_eot needs step > 0 and draws, verify and restarts >= 1, not {self}")
        if self.gradient not in ("bpda", "full"):
            raise UserError(f"gradient is {self.gradient!r}; bpda or full")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What Algorithm 1 found out about N images; d_m of the paper is natural_correct & ~broken."""

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


class BpdaEot(BallAttack):
    """BPDA+EOT in 'Stochastic Security: Adversarial Defense Using Long-Run Dynamics ...' (arXiv 2005.13525). L∞ and L2.

    For any `RandomDefense`. A step follows the gradient of the cross-entropy of the *combined* logits of H_adv
    purified replicates, taken at the replicates and applied to the image (Eq. 10). An image counts as broken only
    where H_def fresh replicates confirm what H_adv showed. `gradient="full"` goes through the purification instead;
    behind an energy that is piecewise linear, as a leaky ReLU network's, that is the same almost everywhere, because
    Langevin steps then only shift the image.
    Options: eps (pixel units), norm, step, steps, draws, verify, restarts, gradient, seed. `batch` images are attacked
    together: with their replicates they set the memory in use, and results do not depend on them. Where memory does
    not suffice, replicates are classified in parts.
    Example: `BpdaEot(defense, eps=8 / 255, steps=50).evaluate(images, labels).broken`.
    """

    Options = Options

    def __init__(self, model: nn.Module, *, batch: int = 64, **options: Any) -> None:
        missing = [name for name in NEEDED if not hasattr(model, name)]
        if missing:
            raise UserError(f"{type(model).__name__} has no {', '.join(missing)}; bpda_eot attacks a random defence")
        if batch < 1:
            raise UserError(f"batch is {batch}; give at least 1 image")
        super().__init__(model, **options)
        self.batch = batch
        self.parts = Parts("classifying one purified image", "free the accelerator or set device cpu")

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
        Raises UserError where the defence returns NaN or infinite logits.
        """
        check_images(x)
        order = list(range(len(x))) if indices is None else [int(i) for i in indices]
        x, y = x.detach().to(self.device), y.detach().to(self.device)
        parts = []
        with evaluating(self.model):
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
        x, y = x[rows], y[rows]
        state = self.start(x, start)
        for n in range(self.options.steps + 1):
            logits, gradient = self.attack_gradient(state, y, draws, wanted=n < self.options.steps)
            suspects = (logits.argmax(1) != y).nonzero().flatten()
            record.count_check(rows[suspects])
            broken = torch.zeros_like(y, dtype=torch.bool)
            broken[suspects] = self.large_sample(state[suspects], fresh.subset(suspects.tolist())) != y[suspects]
            record.mark(rows[broken], restart, n, state[broken])
            stand = (~broken).nonzero().flatten()
            if len(stand) < len(rows):
                x, y, rows, state, gradient = (each[stand] for each in (x, y, rows, state, gradient))
                draws, fresh = draws.subset(stand.tolist()), fresh.subset(stand.tolist())
            progress(restart, n, len(rows))
            if not len(rows):
                return
            if n < self.options.steps:
                state = self.ball.project(state + self.options.step * self.eps * self.ball.ascent(gradient), x)
        record.adversarial[rows.cpu()] = state.cpu()

    def start(self, x: Tensor, streams: ImageStreams) -> Tensor:
        """X_0: uniform in the ball around x, then in [0, 1]."""
        return self.ball.project(x + self.eps * self.ball.offset(x, streams), x)

    def attack_gradient(
        self, x: Tensor, y: Tensor, streams: ImageStreams, *, wanted: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Logits F̂(x) (N, K) of H_adv draws, and the loss's gradient (N, C, H, W) from the same draws.

        "bpda": Eq. 10, up to its positive factor the derivative with respect to one shift of all replicates at once.
        "full": the derivative with respect to x through the draws. Zero where it is not `wanted`.
        """
        if wanted and self.options.gradient == "full":
            leaf = x.detach().requires_grad_()
            with torch.enable_grad():
                return self._gradient(self.model.unrolled(leaf, self.options.draws, streams), y, leaf)
        purified = self.model.purify_draws(x, self.options.draws, streams).detach()
        if not wanted:
            with torch.no_grad():
                return self.combined(purified), torch.zeros_like(x)
        logits, gradient = self._bpda(purified, y)
        return logits, gradient.sum(1)

    def _bpda(self, purified: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Combined logits (N, K) and the loss's gradient by the replicates (N, H, C, H, W), in parts if need be."""
        total = purified.shape[:2].numel()
        if self.parts.hold(total):
            leaf = purified.requires_grad_()
            found = self.parts.attempt(lambda: self._gradient(leaf, y, leaf), total)
            if found is not None:
                return found
        purified = purified.detach()
        images = as_images(purified)
        with torch.no_grad():
            logits = self.logits(purified).requires_grad_()
        with torch.enable_grad():
            combined = self.model.combine(logits)
            (cotangent,) = torch.autograd.grad(F.cross_entropy(combined, y, reduction="sum"), logits)
        cotangent = cotangent.flatten(0, 1)

        def back(rows: slice) -> Tensor:
            leaf = images[rows].detach().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(self.model.classifier(leaf), leaf, cotangent[rows])
            return gradient

        gradient = joined(self.parts.run(back, total))
        return combined.detach(), gradient.unflatten(0, purified.shape[:2])

    def _gradient(self, purified: Tensor, y: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:
        """Combined logits (N, K) and the loss's gradient by `leaf`, in one pass."""
        with torch.enable_grad():
            logits = self.model.classifier(as_images(purified)).unflatten(0, purified.shape[:2])
            check_logits(logits)
            combined = self.model.combine(logits)
            # the sum, not the mean: no image's step depends on who shares the batch
            (gradient,) = torch.autograd.grad(F.cross_entropy(combined, y, reduction="sum"), leaf)
        return combined.detach(), gradient

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
        found = joined(self.parts.run(lambda rows: self.model.classifier(images[rows]), len(images)))
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


Attack = BpdaEot
