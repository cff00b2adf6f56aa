"""Langevin chains watched along their way, and what a step of them costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.progress import progress
from robustgen.protocols import EnergyModel
from robustgen.sampling.langevin import CHUNK, Force, Noise, force, generator_noise, langevin, micro_batch, stream_noise
from robustgen.seeding import ImageStreams, generator

Look = Callable[[Tensor], np.ndarray]  # images (B, C, H, W) -> a row for each


@dataclass(frozen=True)
class Chains:
    """N chains of one model after their last step."""

    images: Tensor  # (N, C, H, W) on the CPU, x = (v + 1) / 2: not clamped, so they may leave [0, 1]
    diverged: Tensor  # (N,) int64: the step by which a chain had left the finite numbers, −1 for those that did not
    seen: list[np.ndarray]  # what `look` made of the images at each step in `at`, (N, ...)


def run_chains(
    model: nn.Module,
    x: Tensor,
    *,
    steps: int,
    seed: int,
    label: str,
    eta: float = 1.0,
    at: Sequence[int] = (),
    look: Look | None = None,
    may_diverge: bool = False,
    batch: int = 100,
) -> Chains:
    """`steps` Langevin steps (Eq. 13) of an energy-based model from images x (N, C, H, W), one chain an image.

    Chain i has the random stream i below `seed`, so `batch`, the chains moved together, does not matter. `look` is
    shown the images after each number of steps in `at`, ascending; 0 is the start. A chain whose state is no longer
    finite stands still where it was last seen finite, at most 25 steps before, if it `may_diverge`; otherwise it is a
    UserError that names `label` and the step.
    """
    ebm = checked(model, label)
    parts = torch.arange(len(x)).split(batch)
    bar = progress(range(len(parts) * steps), total=len(parts) * steps, label=label, unit="step")
    device = next(model.parameters()).device
    done = []
    for rows in parts:
        noise = stream_noise(ImageStreams(seed, rows.tolist(), device), x.shape[1:], 1, device)
        watch = _Watch(2 * x[rows].to(device) - 1, label, look, at, may_diverge)
        done.append(_walk(ebm, watch, noise, steps, eta, bar))
    for _ in bar:
        pass
    return Chains(
        torch.cat([part.images for part in done]),
        torch.cat([part.diverged for part in done]),
        [np.concatenate(seen) for seen in zip(*(part.seen for part in done), strict=True)],
    )


class _Watch:
    """Looks at the states on their way and says what to do where they are not finite."""

    def __init__(self, v: Tensor, label: str, look: Look | None, at: Sequence[int], may_diverge: bool) -> None:
        self.v = v  # the states at the last check, all finite
        self.done = 0  # steps until then
        self.diverged = torch.full((len(v),), -1, device=v.device)
        self.label, self.look, self.at, self.may_diverge = label, look, at, may_diverge
        self.seen: list[np.ndarray] = []
        self.show(0, v)

    def __call__(self, k: int, state: Tensor) -> None:
        """Called `k` steps after the last check."""
        if not self.may_diverge and not torch.isfinite(state).all():
            raise UserError(
                f"{self.label}: states are no longer finite after {self.done + k} Langevin steps; train the model "
                "longer, or take fewer steps"
            )
        self.show(self.done + k, torch.where(_finite(state)[:, None, None, None], state, self.v))

    def show(self, step: int, v: Tensor) -> None:
        if self.look is not None and step in self.at:
            self.seen.append(self.look((v + 1) / 2))

    def check(self, steps: int, moved: Tensor) -> None:
        """Go on to the states `moved`, `steps` further on; those that are not finite stay where they are for good."""
        self.done += steps
        self.diverged = torch.where((self.diverged < 0) & ~_finite(moved), self.done, self.diverged)
        self.v = torch.where((self.diverged < 0)[:, None, None, None], moved, self.v)


def _walk(ebm: EnergyModel, watch: _Watch, noise: Noise, steps: int, eta: float, bar: Iterator[int]) -> Chains:
    """`steps` steps of the states in `watch`, in stretches with a check between them."""
    drift = force(ebm)
    for start in range(0, steps, CHUNK):
        count = min(CHUNK, steps - start)
        moved = langevin(
            drift,
            watch.v,
            noise,
            steps=count,
            tau=ebm.tau,
            eta=eta,
            callback=watch,
            at={count, *(k - start for k in watch.at if start < k <= start + count)},
            micro_batch=micro_batch(ebm, watch.v.device),
        )
        watch.check(count, moved)
        for _ in zip(range(count), bar, strict=False):  # the bar moves on by as much
            pass
    return Chains(((watch.v + 1) / 2).cpu().contiguous(), watch.diverged.cpu(), watch.seen)


def _finite(v: Tensor) -> Tensor:
    """(N,) bool: whether all of a state is finite."""
    return torch.isfinite(v).flatten(1).all(1)


def checked(model: nn.Module, label: str) -> EnergyModel:
    """`model` as an energy-based one; UserError where it has no energy."""
    if not isinstance(model, EnergyModel):
        raise UserError(f"{label}: {type(model).__name__} has no scaled_energy and tau; give an energy-based model")
    return model


def milliseconds_per_step(
    model: nn.Module, x: Tensor, *, steps: int, repetitions: int = 3, push: Force | None = None
) -> float:
    """Wall time of one Langevin step, noise included, of all images x (N, C, H, W) together, in milliseconds.

    `push` replaces the force that the sampler would take.
    The best of `repetitions` runs of `steps` steps, after one step to warm up: what else the machine does only adds.
    """
    if steps < 1 or repetitions < 1:
        raise UserError(f"a time needs steps and repetitions of at least 1, not {steps} and {repetitions}")
    ebm = checked(model, "timing")
    device = next(model.parameters()).device
    v = 2 * x.to(device) - 1
    noise = generator_noise(generator(0, "timing"), v.shape, device)
    step, together = push or force(ebm), micro_batch(ebm, device)
    best = float("inf")
    for run in range(repetitions + 1):
        count = steps if run else 1
        _finish(device)
        start = time.perf_counter()
        langevin(step, v, noise, steps=count, tau=ebm.tau, micro_batch=together)
        _finish(device)
        if run:
            best = min(best, (time.perf_counter() - start) / count)
    return 1000 * best


def _finish(device: torch.device) -> None:
    """Wait for a GPU to have done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
