"""Maximum-likelihood training of an energy-based model (Hill, Mitchell & Zhu 2021, Algorithm 2).

A first phase with Adam gives realistic short-run samples, a second with SGD aligns the long-run samples with them;
Adam throughout gives the non-convergent twin. Energies are scaled ones: see sampling/langevin.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.progress import log, progress
from robustgen.protocols import EnergyModel
from robustgen.sampling.langevin import force, generator_noise, langevin, micro_batch
from robustgen.seeding import derive, generator
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.divergence import Band
from robustgen.training.snapshots import BANK, Snapshot

SCHEDULES = {"paper": (150_000, 50_000), "released": (250_000, 125_000)}  # J and J_SGD
SHOWN = 16  # states of the bank that a snapshot keeps


@dataclass(frozen=True, kw_only=True)
class Recipe:
    fidelity: Literal["paper", "released"] = "paper"  # whose J and J_SGD: Algorithm 2's, or the released code's
    updates: int | None = None  # J, weight updates; unset: as fidelity says
    switch: int | None = None  # J_SGD, updates with Adam before SGD takes over; unset: as fidelity says
    second: Literal["sgd", "adam"] = "sgd"  # optimizer after the switch; adam makes the non-convergent twin
    batch: int = 100  # m, images and states per update
    steps: int = 100  # K, Langevin steps per update
    data_noise: float = 0.02  # τ_data, noise on the data images, in units of v = 2x − 1
    lr_adam: float = 1e-4  # γ_Adam
    lr_sgd: float = 5e-5  # γ_SGD, of scaled energies as released; taken literally, of U, it would be 2/τ² times as much
    # Energy difference between data and states, nats, beyond which training has diverged. Typical are hundreds of nats
    # at the start and tens later.
    band: float = 1e5
    restarts: int = 5  # times that training may go back to its last good state
    save_every: int = 500  # updates between checkpoints
    log_every: int = 50  # updates that a row of the curve averages over
    snapshots: int = 0  # models kept along the way, evenly spaced, the last one included; at the switch one more
    seed: int = 0  # of initialisation, bank, batches and noise

    def __post_init__(self) -> None:
        least = min(self.batch, self.steps + 1, self.save_every, self.log_every, self.schedule[0], self.schedule[1] + 1)
        if least < 1 or min(self.lr_adam, self.lr_sgd) <= 0 or self.data_noise < 0:
            raise UserError(f"an EBM recipe needs positive counts and rates, not {self}")

        Band(width=self.band, restarts=self.restarts)

    @property
    def limits(self) -> Band:
        """Where training has diverged, and how often it may."""
        return Band(width=self.band, restarts=self.restarts)

    @property
    def schedule(self) -> tuple[int, int]:
        """J and J_SGD."""
        updates, switch = SCHEDULES[self.fidelity]
        return updates if self.updates is None else self.updates, switch if self.switch is None else self.switch

    def phase(self, update: int) -> Literal["adam", "sgd"]:
        """The optimizer of an update, counted from 0."""
        return self.second if update >= self.schedule[1] else "adam"


@dataclass(frozen=True)
class Window:
    """One row of the training curve: means over `log_every` updates, and the bank after them."""

    update: int
    phase: str
    energy_difference: float  # U(data) − U(states), nats
    largest_difference: float  # in size
    bank_mean: float
    bank_std: float
    restarts: int  # so far


@dataclass
class State:
    """Everything that a training continues from."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    bank: Tensor  # one persistent state per training image, v scale, on the CPU
    update: int = 0
    restarts: int = 0
    curve: list[Window] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)  # energy differences since the last row of the curve


@dataclass(frozen=True)
class Trained:
    model: nn.Module
    curve: list[Window]
    snapshots: list[Snapshot]
    bank: Tensor


def train_ebm(
    build: Callable[[], nn.Module],
    images: Tensor,
    recipe: Recipe,
    *,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    label: str = "train",
) -> Trained:
    """An energy model of `images` (N, C, H, W) in [0, 1] by Algorithm 2, in eval mode.

    Every draw is named by (seed, restarts, update), so a training resumed from `checkpoint` ends with the weights of
    an uninterrupted one. Where the energy difference is not finite or leaves its band, training goes back to the last
    good state and goes on with other draws; UserError once it has done so `recipe.restarts` times.
    """
    if len(images) < recipe.batch:
        raise UserError(f"{label}: {len(images)} training images are fewer than one batch of {recipe.batch}")
    torch.manual_seed(derive(recipe.seed, "init"))
    model = build().to(device).to(memory_format=torch.channels_last)
    bank = torch.rand(images.shape, generator=generator(recipe.seed, "bank")) * 2 - 1
    state = State(model, optimizer_of(model, recipe, 0), bank)
    if checkpoint is not None and resume(state, recipe, checkpoint):
        log(f"{label}: resuming after update {state.update} of {recipe.schedule[0]}")
    good = copy.deepcopy(state)
    remaining = range(state.update, recipe.schedule[0])
    bar = iter(progress(remaining, total=len(remaining), label=label, unit="update"))
    while state.update < recipe.schedule[0]:
        difference = train_step(state, images, recipe)
        if not recipe.limits.holds(difference):
            state = back_to(good, state, recipe, difference, label)
            continue
        next(bar, None)
        account(state, recipe, difference)
        if state.update % recipe.save_every == 0:
            good = copy.deepcopy(state)
            if checkpoint is not None:
                keep(state, checkpoint)
    return Trained(state.model.eval(), state.curve, state.snapshots, state.bank)


def scale_of(model: nn.Module) -> float:
    """τ²/2: scaled energy per nat."""
    return cast(EnergyModel, model).tau ** 2 / 2


def optimizer_of(model: nn.Module, recipe: Recipe, update: int) -> torch.optim.Optimizer:
    """Fresh: the switch discards Adam's state."""
    if recipe.phase(update) == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.lr_adam)
    return torch.optim.SGD(model.parameters(), lr=recipe.lr_sgd)


def train_step(state: State, images: Tensor, recipe: Recipe) -> float:
    """One pass of Algorithm 2's loop; the energy difference U(data) − U(states) before the update, nats."""
    model, ebm, j = state.model, cast(EnergyModel, state.model), state.update
    if j and recipe.phase(j) != recipe.phase(j - 1):
        state.optimizer = optimizer_of(model, recipe, j)
    device = next(model.parameters()).device
    draws = generator(recipe.seed, "update", state.restarts, j)
    rows = torch.randperm(len(images), generator=draws)[: recipe.batch]
    data = 2 * images[rows] - 1
    data = (data + recipe.data_noise * torch.randn(data.shape, generator=draws)).to(device)
    drawn = torch.randperm(len(state.bank), generator=draws)[: recipe.batch]
    random = torch.Generator(device).manual_seed(derive(recipe.seed, "langevin", state.restarts, j))
    states = langevin(
        force(ebm),
        state.bank[drawn].to(device),
        generator_noise(random, data.shape, device),
        steps=recipe.steps,
        tau=ebm.tau,
        micro_batch=micro_batch(ebm, device),
    )
    state.bank[drawn] = states.cpu()
    state.optimizer.zero_grad(set_to_none=True)
    both = ebm.scaled_energy(torch.cat([data, states]))
    scaled = both[: len(data)].mean() - both[len(data) :].mean()
    # Adam sees nats: its epsilon would be felt beside gradients that are τ²/2 times as small
    (scaled / scale_of(model) if recipe.phase(j) == "adam" else scaled).backward()
    state.optimizer.step()
    state.update += 1
    return float(scaled.detach()) / scale_of(model)


def account(state: State, recipe: Recipe, difference: float) -> None:
    """Add a finished update to the curve and, at its turn, the model to the snapshots."""
    phase = recipe.phase(state.update - 1)
    state.recent.append(difference)
    if state.update % recipe.log_every == 0 or state.update == recipe.schedule[0]:
        mean, largest = sum(state.recent) / len(state.recent), max(map(abs, state.recent))
        spread = state.bank.std().item()
        state.curve.append(Window(state.update, phase, mean, largest, state.bank.mean().item(), spread, state.restarts))
        state.recent.clear()
    if state.update in snapshot_updates(recipe):
        weights = {name: value.detach().cpu().clone() for name, value in state.model.state_dict().items()}
        state.snapshots.append(Snapshot(state.update, phase, weights, state.bank[:SHOWN].clone()))


def snapshot_updates(recipe: Recipe) -> set[int]:
    """Updates after which a snapshot is kept: evenly spaced ones, and the last one before the switch."""
    updates, switch = recipe.schedule
    even = {round(updates * k / recipe.snapshots) for k in range(1, recipe.snapshots + 1)}
    return even | {switch} if even and 0 < switch < updates else even


def back_to(good: State, state: State, recipe: Recipe, difference: float, label: str) -> State:
    """A copy of the last good state, to go on with other draws; UserError where that was done too often."""
    restarts = recipe.limits.restart(
        state.restarts,
        f"{label}: the energy difference left its band at update {state.update} ({difference:.4g} nats)",
        "lower --recipe.lr-adam or --recipe.lr-sgd, or raise --recipe.steps",
    )
    log(f"{label}: diverged at update {state.update} ({difference:.4g} nats); back to update {good.update}")
    fresh = copy.deepcopy(good)
    fresh.restarts = restarts
    return fresh


def keep(state: State, checkpoint: Checkpoint) -> None:
    """Write everything that `resume` needs."""
    tensors = {"bank": state.bank}
    for number, snapshot in enumerate(state.snapshots):
        tensors |= {f"{number}/{name}": value for name, value in (snapshot.weights | {BANK: snapshot.bank}).items()}
    facts = {
        "update": state.update,
        "restarts": state.restarts,
        "recent": state.recent,
        "curve": [vars(row) for row in state.curve],
        "snapshots": [(snapshot.update, snapshot.phase) for snapshot in state.snapshots],
    }
    checkpoint.save({"model": state.model}, state.optimizer, facts, tensors)


def resume(state: State, recipe: Recipe, checkpoint: Checkpoint) -> bool:
    """Fill `state` with what `keep` wrote; whether there was anything."""
    tensors: dict[str, Tensor] = {}
    facts = checkpoint.restore({"model": state.model}, state.optimizer, tensors)
    if facts is None:
        return False
    state.update, state.restarts, state.recent = facts["update"], facts["restarts"], facts["recent"]
    state.bank = tensors.pop("bank")
    state.curve = [Window(**row) for row in facts["curve"]]
    for number, (update, phase) in enumerate(facts["snapshots"]):
        mark = f"{number}/"
        weights = {name.removeprefix(mark): value for name, value in tensors.items() if name.startswith(mark)}
        state.snapshots.append(Snapshot(update, phase, weights, weights.pop(BANK)))
    if recipe.phase(state.update - 1) == "sgd":
        state.optimizer = optimizer_of(state.model, recipe, state.update - 1)  # plain SGD has no state
    return True
