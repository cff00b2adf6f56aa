"""Replicates of images, for random defences and the attack on them: computed in parts as memory allows, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from robustgen.errors import UserError
from robustgen.seeding import ImageStreams

T = TypeVar("T")


class Parts:
    """How many rows are computed at once: all, until memory runs out; then half as many, in later calls too.

    `what` and `advice` are for the UserError where memory does not suffice for a single row.
    """

    def __init__(self, what: str, advice: str) -> None:
        self.what = what
        self.advice = advice
        self.size: int | None = None  # rows at once; None: all

    def hold(self, total: int) -> bool:
        """Whether so many rows are one part."""
        return self.size is None or total <= self.size

    def attempt(self, compute: Callable[[], T], rows: int) -> T | None:
        """What `compute` makes of so many rows; None where memory ran out, and parts are half as large from now on."""
        try:
            return compute()
        except torch.OutOfMemoryError as error:
            if rows <= 1:
                raise UserError(f"out of memory {self.what}; {self.advice}") from error
        torch.cuda.empty_cache()  # only here: the error held the tensors of the attempt
        self.size = rows // 2
        return None

    def run(self, compute: Callable[[slice], T], total: int, at_most: int | None = None) -> list[T]:
        """What `compute` makes of each part of `total` rows, in order; no part is larger than `at_most`."""
        done: list[T] = []
        first = 0
        while True:
            rows = min(self.size or total, at_most or total, total - first)
            found = self.attempt(partial(compute, slice(first, first + rows)), rows)
            if found is None:
                continue
            done.append(found)
            first += rows
            if first >= total:
                return done


LEAST = 8  # images in a pass of a network on a CPU


def in_company(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """`network(images)`, images (N, C, H, W), differentiable, the same bits for an image in any batch of a CPU.

    Kernels for a few images round differently from those for many, so that a few get copies of the last for company.
    """
    n = len(images)
    if 0 < n < LEAST and images.device.type == "cpu":
        images = torch.cat([images, images[-1:].expand(LEAST - n, -1, -1, -1)])
    return network(images.contiguous(memory_format=torch.channels_last))[:n]


def joined(parts: list[Tensor]) -> Tensor:
    """The parts as one, without a copy where there is only one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@contextmanager
def rewinding(streams: ImageStreams) -> Iterator[None]:
    """Set streams back where the work within runs out of memory, so that another attempt meets the same draws."""
    states = [generator.get_state() for generator in streams.generators]
    try:
        yield
    except torch.OutOfMemoryError:
        for generator, state in zip(streams.generators, states, strict=True):
            generator.set_state(state)
        raise


def check_logits(logits: Tensor) -> None:
    """Raise UserError where a defence's logits (N, draws, K) are not finite."""
    advice = "lower its step (tau of Langevin dynamics) or train its generative model again"
    check_finite(logits, "defence's logits", f": its purification diverged; {advice}")


def check_finite(values: Tensor, what: str, then: str) -> None:
    """Raise UserError where values (N, ...) are not finite; `then` ends the sentence: cause, and what to do."""
    lost = int((~values.isfinite()).flatten(1).any(1).sum())
    if lost:
        raise UserError(f"the {what} are NaN or infinite for {lost} of {len(values)} images{then}")
