"""The maximal Lyapunov exponent of Langevin dynamics by the method of Benettin et al. (1976): Hill et al., App. C.2.

A chain and a second one at a small distance take the same steps with the same noise (Eq. 13). Their separation is
brought back to its first length every so often, and the logarithms of its growth add up to the exponent (Eq. 12).

Two choices, with their reasons:

The separation is finite. Its tangent form, one Hessian-vector product a step, costs the same and would be exact, but
a network of leaky ReLUs is piecewise linear: its Hessian is zero wherever it exists, so the tangent never changes and
the exponent of an infinitesimal separation is 0 for every energy and every η. What differs between two chains is how
many kinks lie between them, hence the exponent depends on the distance at which it is measured, and the distance is
part of the result: several are followed at once. Below a kink's spacing growth is rare and sudden, above it a single
kink outweighs the distance, and both tell of the network's facets. From about a third of τ√D, the length of one step's
noise, a pair feels the energy as the chain itself does, and the exponents of the networks tried here no longer change
with the distance. For a smooth energy all small distances give the same exponent.

The separation is a state of its own, in float64: δ ← δ − (F(v + δ) − F(v)). Noise cancels in it exactly, and what
float32 rounds is v + δ, by about 10⁻⁷ |v| √D, and the forces, by less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustgen.errors import UserError
from robustgen.sampling.langevin import CHUNK, Callback, Force, Noise
from robustgen.seeding import generator


@dataclass(frozen=True)
class Growth:
    """What the pairs of chains did. R distances, B chains."""

    exponents: Tensor  # (R, B) float64: mean logarithm of the growth of the separation per step
    steps: Tensor  # (B,) int64: the steps behind it; fewer than asked for where a chain left the finite numbers
    states: Tensor  # (B, *shape): the last finite states


@torch.no_grad()
def lyapunov(
    force: Force,
    v: Tensor,
    noise: Noise,
    *,
    steps: int,
    tau: float,
    distances: Sequence[float],
    eta: float = 1.0,
    burn_in: int = 0,
    every: int = 1,
    seed: int = 0,
    callback: Callback | None = None,
) -> Growth:
    """Maximal Lyapunov exponents, per step, of v ← v − force(v) + η τ Z from the states v (B, *shape).

    `distances` are L2 lengths in units of v, each followed for every chain from a random direction drawn from `seed`.
    `burn_in` steps come first: the chain settles and the separation turns into the direction of fastest growth. The
    separation is measured and brought back to its length every `every` steps. `callback(k, v)` after every step.
    Any map f serves: with force(v) = v − f(v) and tau 0 the exponents are those of f.
    Raises UserError for counts or distances that are not positive.
    """
    if steps < 1 or burn_in < 0 or every < 1 or not distances or min(distances) <= 0:
        raise UserError(f"exponents need positive steps, every and distances, not {steps}, {every}, {distances}")
    lengths = torch.tensor(distances, dtype=torch.float64, device=v.device)[:, None].expand(-1, len(v))
    separation = _rescaled(_directions(v, seed).expand(len(distances), *v.shape), lengths)
    alive = torch.ones(len(v), dtype=torch.bool, device=v.device)
    counted = torch.zeros(len(v), dtype=torch.int64, device=v.device)
    logs = torch.zeros_like(lengths)
    draws, measured = v[None], burn_in
    for k in range(burn_in + steps):
        if k % CHUNK == 0:
            draws = noise(min(CHUNK, burn_in + steps - k))
        drift, difference = _drift(force, v, separation)
        moved = v - drift + eta * tau * draws[k % CHUNK]
        separation = separation - difference
        alive = alive & (moved.isfinite() & separation.isfinite().all(0)).flatten(1).all(1)
        v = torch.where(_wide(alive, v), moved, v)
        done = k + 1
        if (done - burn_in) % every == 0 or done == burn_in + steps:
            separation = torch.where(_wide(alive, v), separation, 1)
            if done > burn_in:
                # the logarithm exists for a separation that vanished, too
                norm = _norm(separation).clamp_min(torch.finfo(torch.float64).tiny)
                logs += torch.where(alive, (norm / lengths).log(), 0)
                counted += alive * (done - measured)
                measured = done
            separation = _rescaled(separation, lengths)
        if callback is not None:
            callback(done, v)
    return Growth(logs / counted.clamp_min(1), counted, v)


def _drift(force: Force, v: Tensor, separation: Tensor) -> tuple[Tensor, Tensor]:
    """F(v), and F(v + δ) − F(v) of every separation δ (R, B, *shape) in float64; one call of the force."""
    apart = (v + separation).to(v.dtype)
    states = torch.cat([v[None], apart]).flatten(0, 1)
    if states.dim() == 4:
        states = states.contiguous(memory_format=torch.channels_last)
    forces = force(states).unflatten(0, (len(separation) + 1, len(v)))
    return forces[0], forces[1:].double() - forces[0].double()


def _directions(v: Tensor, seed: int) -> Tensor:
    """Normal numbers like v in float64; a chain's do not depend on how many chains there are."""
    shape = v.shape[1:]
    rows = [torch.randn(shape, generator=generator(seed, "direction", i), dtype=torch.float64) for i in range(len(v))]
    return torch.stack(rows).to(v.device)


def _norm(separation: Tensor) -> Tensor:
    """L2 norms (R, B)."""
    norm: Tensor = torch.linalg.vector_norm(separation.flatten(2), dim=2)
    return norm


def _rescaled(separation: Tensor, lengths: Tensor) -> Tensor:
    """Separations (R, B, *shape) brought to `lengths` (R, B); one that vanished takes a direction of its own."""
    separation = torch.where(_wide(_norm(separation) == 0, separation), 1.0, separation)
    return separation * _wide(lengths / _norm(separation), separation)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """`values` with trailing dimensions to broadcast against `like`."""
    return values.reshape(*values.shape, *(1,) * (like.dim() - values.dim()))
