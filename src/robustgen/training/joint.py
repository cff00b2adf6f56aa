"""Training of the two energy models that Hill et al. (2021) compare with: JEM and IGEBM.

Both descend E(data) − E(samples), the samples coming from a replay buffer by the model's own sampler. JEM (Grathwohl et
al. 2020) samples the marginal and adds the cross-entropy of the labels. IGEBM (Du & Mordatch 2019) samples and compares
given a label and adds α times the squared energies.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.models.energy import energy
from robustgen.models.igebm import IGEBM
from robustgen.models.jem import JEM
from robustgen.progress import log, progress
from robustgen.sampling.langevin import force, generator_noise, langevin
from robustgen.seeding import derive, generator, seeded
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Images, augment
from robustgen.training.divergence import Band

Network = JEM | IGEBM


@dataclass(frozen=True, kw_only=True)
class Recipe:
    updates: int  # weight updates
    batch: int = 64  # images and samples per update
    steps: int = 20  # sampler steps per update; IGEBM 60
    lr: float = 1e-4  # Adam's learning rate; IGEBM 3e-4
    beta1: float = 0.9  # Adam's momentum; IGEBM 0
    warmup: int = 0  # updates in which the learning rate grows linearly to lr
    milestones: tuple[int, ...] = ()  # updates after which the learning rate is multiplied by decay
    decay: float = 0.3  # factor at a milestone
    alpha: float = 0.0  # α, weight of the squared energies of data and samples; IGEBM 1
    data_noise: float = 0.03  # standard deviation of noise on the images, in units of v = 2x − 1; IGEBM 0
    flip: bool = False  # mirror half of the images left to right
    crop: int = 0  # zero padding before a random crop back to size, pixels
    buffer: int = 10_000  # states of the replay buffer, at first uniform noise
    reinit: float = 0.05  # probability that a chain starts from fresh uniform noise instead
    band: float = 1000.0  # energy difference between data and samples, nats, beyond which training has diverged
    restarts: int = 5  # times that training may go back to its last good state
    save_every: int = 500  # updates between checkpoints
    log_every: int = 50  # updates that a row of the curve averages over
    seed: int = 0  # of initialisation, buffer, batches and noise

    def __post_init__(self) -> None:
        if min(self.updates, self.batch, self.steps, self.save_every, self.log_every) < 1 or self.lr <= 0:
            raise UserError("a joint recipe needs updates, batch, steps, save_every, log_every >= 1 and lr > 0")
        if self.buffer < self.batch or not 0 <= self.reinit <= 1:
            raise UserError(
                f"a joint recipe needs a buffer of at least one batch and reinit in [0, 1], not {self.buffer} for a "
                f"batch of {self.batch} and {self.reinit}"
            )
        if min(self.warmup, self.alpha, self.data_noise, self.crop) < 0 or not 0 <= self.beta1 < 1:
            raise UserError("a joint recipe needs warmup, alpha, data_noise, crop >= 0 and beta1 in [0, 1)")
        Band(width=self.band, restarts=self.restarts)

    @property
    def limits(self) -> Band:
        """Where training has diverged, and how often it may."""
        return Band(width=self.band, restarts=self.restarts)

    def rate(self, update: int) -> float:
        """The learning rate of an update, counted from 0."""
        warm = min(1.0, (update + 1) / self.warmup) if self.warmup else 1.0
        return self.lr * warm * self.decay ** sum(update >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class Window:
    """One row of the training curve: means over the updates since the last row, except where said."""

    update: int
    loss: float
    energy_difference: float  # E(data) − E(samples), nats
    largest_difference: float  # in size
    cross_entropy: float | None  # nats; JEM only
    penalty: float  # squared energies of data and samples, before α
    accuracy: float  # of the validation images after the last update, a fraction
    restarts: int  # so far


@dataclass(frozen=True)
class Losses:
    """One update's loss and its parts, as in `Window`."""

    loss: float
    energy_difference: float
    cross_entropy: float | None
    penalty: float


@dataclass
class State:
    """Everything that a training continues from."""

    model: Network
    optimizer: torch.optim.Optimizer
    buffer: Tensor  # (M, C, H, W) states in v scale, on the CPU
    update: int = 0
    restarts: int = 0
    curve: list[Window] = field(default_factory=list)
    recent: list[Losses] = field(default_factory=list)  # since the last row of the curve


def train_joint(
    build: Callable[[], nn.Module],
    train: Images,
    validation: Images,
    recipe: Recipe,
    *,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    label: str = "train",
) -> tuple[Network, list[Window]]:
    """The network that `build` makes (a JEM or an IGEBM) after the last update, in eval mode, and its training curve.

    Every draw is named by (seed, restarts, update), so a training resumed from `checkpoint` ends with the weights of
    an uninterrupted one. Where the loss is not finite or the energy difference leaves its band, training goes back to
    the last good state and goes on with other draws; UserError once it has done so `recipe.restarts` times.
    """
    if len(train.x) < recipe.batch:
        raise UserError(f"{label}: {len(train.x)} training images are fewer than one batch of {recipe.batch}")
    state = initial(build, train, recipe, device)
    if checkpoint is not None and resume(state, checkpoint):
        log(f"{label}: resuming after update {state.update} of {recipe.updates}")
    good = copy.deepcopy(state)
    bar = iter(
        progress(range(state.update, recipe.updates), total=recipe.updates - state.update, label=label, unit="update")
    )
    while state.update < recipe.updates:
        losses = train_step(state, train, recipe)
        if not recipe.limits.holds(losses.energy_difference, losses.loss):
            state = back_to(good, state, recipe, losses, label)
            continue
        next(bar, None)
        account(state, recipe, losses, validation)
        if state.update % recipe.save_every == 0:
            good = copy.deepcopy(state)
            if checkpoint is not None:
                keep(state, checkpoint)
    state.model.eval()
    return state.model, state.curve


def initial(build: Callable[[], nn.Module], train: Images, recipe: Recipe, device: str) -> State:
    """A fresh network and a buffer of uniform noise."""
    torch.manual_seed(derive(recipe.seed, "init"))
    model = cast(Network, build().to(device).to(memory_format=torch.channels_last))
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, betas=(recipe.beta1, 0.999))
    return State(model, optimizer, uniform((recipe.buffer, *train.x.shape[1:]), generator(recipe.seed, "buffer")))


def uniform(shape: Sequence[int], draws: torch.Generator) -> Tensor:
    """Numbers from U[−1, 1)."""
    return torch.rand(tuple(shape), generator=draws) * 2 - 1


def train_step(state: State, train: Images, recipe: Recipe) -> Losses:
    """One update: a batch, samples that continue chains of the buffer, a step of Adam on the loss."""
    device = next(state.model.parameters()).device
    draws = generator(recipe.seed, "update", state.restarts, state.update)
    rows = torch.randperm(len(train.x), generator=draws)[: recipe.batch]
    data = 2 * augment(train.x[rows], flip=recipe.flip, crop=recipe.crop, draws=draws) - 1
    data = (data + recipe.data_noise * torch.randn(data.shape, generator=draws)).to(device)
    slots = torch.randperm(len(state.buffer), generator=draws)[: recipe.batch]
    fresh = torch.rand(len(slots), generator=draws) < recipe.reinit
    state.buffer[slots[fresh]] = uniform((int(fresh.sum()), *data.shape[1:]), draws)
    labels = train.y[rows].to(device)
    noise = torch.Generator(device).manual_seed(derive(recipe.seed, "langevin", state.restarts, state.update))
    samples = sample(state.model, state.buffer[slots].to(device), labels, recipe.steps, noise)
    state.buffer[slots] = samples.cpu()
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.rate(state.update)
    with seeded(device, derive(recipe.seed, "dropout", state.restarts, state.update)):
        losses = descend(state.model, state.optimizer, data, samples, labels, recipe.alpha)
    state.update += 1
    return losses


def sample(model: Network, v: Tensor, labels: Tensor, steps: int, noise: torch.Generator) -> Tensor:
    """States v (N, C, H, W) after `steps` steps of the model's sampler; IGEBM's is given `labels` (N,).

    They are the labels of the data batch, as in its released code: were they drawn anew, the constant that every class
    may add to its energy would walk at random, and it decides which energy is the least.
    """
    model.eval()  # the power iterations behind spectral norms stand still
    push = partial(model.force, y=labels) if isinstance(model, IGEBM) else force(model)
    return langevin(push, v, generator_noise(noise, v.shape, v.device), steps=steps, tau=model.tau)


def descend(
    model: Network, optimizer: torch.optim.Optimizer, data: Tensor, samples: Tensor, labels: Tensor, alpha: float
) -> Losses:
    """One optimizer step on the loss of data and samples (N, C, H, W) in v scale; `labels` (N,) are those of both."""
    model.train()
    optimizer.zero_grad(set_to_none=True)
    both = torch.cat([data, samples])  # one pass: the power iterations move once
    cross_entropy = None
    if isinstance(model, IGEBM):
        positive, negative = model.energy_of(both, labels.repeat(2)).chunk(2)
    else:
        logits = model((both + 1) / 2)
        positive, negative = energy(logits).chunk(2)
        cross_entropy = F.cross_entropy(logits[: len(data)], labels)
    difference = positive.mean() - negative.mean()
    penalty = positive.square().mean() + negative.square().mean()
    loss = difference + alpha * penalty + (0.0 if cross_entropy is None else cross_entropy)
    loss.backward()
    optimizer.step()
    return Losses(
        loss.item(), difference.item(), None if cross_entropy is None else cross_entropy.item(), penalty.item()
    )


def account(state: State, recipe: Recipe, losses: Losses, validation: Images) -> None:
    """Add a finished update to the curve."""
    state.recent.append(losses)
    if state.update % recipe.log_every and state.update < recipe.updates:
        return
    means = {
        name: None if value is None else sum(getattr(one, name) for one in state.recent) / len(state.recent)
        for name, value in vars(losses).items()
    }
    largest = max(abs(one.energy_difference) for one in state.recent)
    state.curve.append(
        Window(
            update=state.update,
            largest_difference=largest,
            accuracy=accuracy(state.model, validation),
            restarts=state.restarts,
            **means,  # type: ignore[arg-type]
        )
    )
    state.recent.clear()


@torch.no_grad()
def accuracy(model: Network, data: Images) -> float:
    """The fraction of images that the model classifies rightly."""
    model.eval()
    device = next(model.parameters()).device
    batches = zip(data.x.split(256), data.y.split(256), strict=True)
    return sum(int((model(x.to(device)).argmax(1).cpu() == y).sum()) for x, y in batches) / len(data.x)


def back_to(good: State, state: State, recipe: Recipe, losses: Losses, label: str) -> State:
    """A copy of the last good state, to go on with other draws; UserError where that was done too often."""
    what = f"{label}: training diverged at update {state.update} (energy difference {losses.energy_difference:.4g} nats"
    what += f", loss {losses.loss:.4g})"
    restarts = recipe.limits.restart(
        state.restarts, what, "lower --recipe.lr, or raise --recipe.steps or --recipe.alpha"
    )
    log(f"{what}; back to update {good.update} with other draws")
    again = copy.deepcopy(good)
    again.restarts = restarts
    return again


def keep(state: State, checkpoint: Checkpoint) -> None:
    facts = {
        "update": state.update,
        "restarts": state.restarts,
        "curve": [vars(row) for row in state.curve],
        "recent": [vars(losses) for losses in state.recent],
    }
    checkpoint.save({"model": state.model}, state.optimizer, facts, {"buffer": state.buffer})


def resume(state: State, checkpoint: Checkpoint) -> bool:
    """Fill `state` from the checkpoint; whether there was one."""
    tensors: dict[str, Tensor] = {}
    facts = checkpoint.restore({"model": state.model}, state.optimizer, tensors)
    if facts is None:
        return False
    state.buffer = tensors["buffer"]
    state.update, state.restarts = facts["update"], facts["restarts"]
    state.curve = [Window(**row) for row in facts["curve"]]
    state.recent = [Losses(**losses) for losses in facts["recent"]]
    return True
