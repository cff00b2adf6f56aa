"""Langevin dynamics of an energy-based model (Hill, Mitchell & Zhu 2021, Eq. 3 and 13).

The convention, once: images x in [0, 1] become states v = 2x − 1 in [−1, 1], and τ is in units of v. U(v) is the
energy of Eq. 1 in nats, p(v) ∝ exp(−U(v)). Networks compute the scaled energy (τ²/2) U, so that one update is

    v ← v − ∇ scaled_energy(v) + η τ Z,    Z ~ N(0, 1),    η = 1 for Eq. 3

without a factor (the paper writes the factor; its released networks hold it). In units of x the same dynamics have
noise τ/2 and a quarter of the gradient of U. States are never clamped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from robustgen.protocols import EnergyModel
from robustgen.seeding import ImageStreams

Force = Callable[[Tensor], Tensor]  # v (B, C, H, W) -> ∇ scaled_energy(v), same shape
Noise = Callable[[int], Tensor]  # number of steps -> that many draws (steps, B, C, H, W) from N(0, 1)
Callback = Callable[[int, Tensor], None]  # steps done, the states there

CHUNK = 25  # steps whose noise is drawn at once: few calls, little memory; part of what a seed means


def force(model: EnergyModel, dtype: torch.dtype = torch.float32) -> Force:
    """v -> ∇ scaled_energy(v) for the weights as they are now.

    A model may have its own: `prepared_force(dtype)`, which returns a faster one, or `force(v)`, which its dynamics
    change. `dtype` is that of the convolutions of a prepared force; states, noise and other forces keep their own.
    """
    own: Any = model
    if hasattr(own, "prepared_force"):
        return own.prepared_force(dtype)  # type: ignore[no-any-return]
    if hasattr(own, "force"):
        return own.force  # type: ignore[no-any-return]
    return by_autograd(model)


def by_autograd(model: EnergyModel) -> Force:
    """v -> ∇ scaled_energy(v) by differentiation, whatever else the model offers."""

    def differentiated(v: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = v.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(model.scaled_energy(leaf).sum(), leaf)
        return gradient

    return differentiated


@torch.no_grad()
def langevin(
    force: Force,
    v: Tensor,
    noise: Noise,
    *,
    steps: int,
    tau: float,
    eta: float = 1.0,
    callback: Callback | None = None,
    at: Collection[int] | None = None,
    micro_batch: int | None = None,
) -> Tensor:
    """`steps` Langevin updates of the states v (B, C, H, W); the final states, v itself is left alone.

    Eq. 3, with `eta` Eq. 13. `callback(k, v)` sees the states after k = 1..steps steps, or after those in `at`.
    `micro_batch` states are moved together so that their activations stay in cache; the result does not depend on it.
    """
    stops = set(range(1, steps + 1) if at is None else at) if callback else set()
    v, done, draws = v.contiguous(memory_format=torch.channels_last), 0, v
    while done < steps:
        first = done % CHUNK
        if first == 0:
            draws = noise(min(CHUNK, steps - done))
        until = min([done - first + CHUNK, steps, *(stop for stop in stops if stop > done)])
        v = _advance(force, v, draws[first : first + until - done], tau * eta, micro_batch)
        done = until
        if callback is not None and done in stops:
            callback(done, v)
    return v


def _advance(force: Force, v: Tensor, noise: Tensor, scale: float, micro_batch: int | None) -> Tensor:
    moved = []
    for rows in _parts(len(v), micro_batch or len(v)):
        part = v[rows]
        if len(part) == 1:  # kernels for one image round differently: it gets company, so that no batch split shows
            part = part.expand(2, -1, -1, -1)
        part = part.contiguous(memory_format=torch.channels_last)
        for z in noise[:, rows]:
            part = (part - force(part)).add_(z, alpha=scale)
        moved.append(part[: rows.stop - rows.start])
    return torch.cat(moved) if len(moved) > 1 else moved[0]


def _parts(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def micro_batch(model: EnergyModel, device: torch.device) -> int | None:
    """States to move together: on a CPU what the model says its cache holds, elsewhere all of them."""
    return getattr(model, "micro_batch", None) if device.type == "cpu" else None


def stream_noise(streams: ImageStreams, shape: Sequence[int], draws: int, device: torch.device | str) -> Noise:
    """Noise for `draws` replicates of every image; state i·draws + h is replicate h of image i.

    Each image draws from its own stream, so it meets the same noise in any batch.
    """

    def normal(count: int) -> Tensor:
        z = streams.normal((count, draws, *shape), device)
        return z.transpose(0, 1).flatten(1, 2)

    return normal


def generator_noise(generator: torch.Generator, shape: Sequence[int], device: torch.device | str = "cpu") -> Noise:
    """Noise for a batch of states of `shape` (B, C, H, W) from one generator, for training."""
    return lambda count: torch.randn((count, *shape), generator=generator, device=generator.device).to(device)


def energy(model: EnergyModel, x: Tensor) -> Tensor:
    """U of images x (N, C, H, W) in [0, 1], (N,) in nats, up to the constant log Z."""
    return model.scaled_energy(2 * x - 1) / (model.tau**2 / 2)
