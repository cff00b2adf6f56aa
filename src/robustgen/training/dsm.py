"""Denoising score matching over noise levels: the training of score networks (Song & Ermon 2020; Yoon et al. 2021).

The parameterisation, once: s_θ(x, σ) = s_θ(x)/σ. The loss at a level is Eq. 9 for it, and Eq. 10 weights it by σ²: at
x̃ = F(x) + σz, z ~ N(0, 1), the score of q(x̃|x) = N(F(x), σ²I) is −z/σ, and

    σ² · ½ ‖s_θ(x̃, σ) + z/σ‖² = ½ ‖s_θ(x̃) + z‖²,

summed over pixels. Levels are drawn uniformly, one per image, so that the loss is the mean over levels where Eq. 10 has
their sum. F is the identity unless the recipe says otherwise: see training/perturbations.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.progress import log, progress
from robustgen.protocols import ScoreModel
from robustgen.seeding import derive, generator
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import augment
from robustgen.training.divergence import Band
from robustgen.training.perturbations import Perturbation, perturb


@dataclass(frozen=True, kw_only=True)
class Recipe:
    updates: int = 300_000  # weight updates; the paper is silent, its code has 300,001
    batch: int = 128  # images per update
    lr: float = 1e-4  # of Adam (β 0.9 and 0.999)
    warmup: int = 0  # first updates, over which the learning rate rises from 0
    milestones: tuple[int, ...] = ()  # updates after which the learning rate is multiplied by gamma
    gamma: float = 0.3  # factor of the learning rate at a milestone
    ema: float = 0.999  # decay per update of the weights' moving average; in update i at most (1 + i)/(10 + i)
    # Which weights become the model: the moving average, as Song & Ermon sample, or the raw ones that ADP's code loads.
    weights: Literal["ema", "raw"] = "ema"
    flip: bool = True  # mirror half of the images left to right
    perturbation: Perturbation = "none"  # F, of the images before the noise
    precision: Literal["float32", "bfloat16"] = "float32"  # of the training pass
    # Loss, as a multiple of what a network scores that always answers 0, beyond which training has diverged.
    band: float = 100.0
    restarts: int = 5  # times that training may go back to its last good state
    save_every: int = 1000  # updates between checkpoints
    log_every: int = 100  # updates that a row of the curve averages over
    seed: int = 0  # of initialisation, batches, levels, perturbations and noise

    def __post_init__(self) -> None:
        least = min(self.updates, self.batch, self.save_every, self.log_every, self.warmup + 1)
        if least < 1 or self.lr <= 0 or not 0 <= self.ema < 1 or not 0 < self.gamma <= 1:
            raise UserError(f"a recipe needs positive counts, lr > 0, 0 <= ema < 1 and 0 < gamma <= 1, not {self}")
        Band(width=self.band, restarts=self.restarts)

    @property
    def limits(self) -> Band:
        """Where training has diverged, and how often it may."""
        return Band(width=self.band, restarts=self.restarts)

    def rate(self, update: int) -> float:
        """The learning rate of an update, counted from 0."""
        rise = min(1.0, (update + 1) / self.warmup) if self.warmup else 1.0
        return self.lr * rise * self.gamma ** sum(update >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class Window:
    """One row of the training curve. Losses are Eq. 10 per level and image: ½ D for a network that always answers 0."""

    update: int
    lr: float  # of the last update
    loss: float  # of the training images and weights, mean over `log_every` updates
    validation_loss: float  # of the validation images as they are, with the weights that become the model
    restarts: int  # so far


@dataclass
class State:
    """Everything that a training continues from."""

    model: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer
    update: int = 0
    restarts: int = 0
    curve: list[Window] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)  # losses since the last row of the curve


def train_dsm(
    build: Callable[[], nn.Module],
    train: Tensor,
    validation: Tensor,
    recipe: Recipe,
    *,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    label: str = "train",
) -> tuple[nn.Module, list[Window]]:
    """A score network of the images `train` (N, C, H, W) in [0, 1], in eval mode, and its training curve.

    `build` makes it, with its noise levels as `sigmas`. Every draw is named by (seed, restarts, update), so a training
    resumed from `checkpoint` ends with the weights of an uninterrupted one. Where the loss is not finite or leaves its
    band, training goes back to the last good state and on with other draws; UserError after `recipe.restarts` times.
    """
    if len(train) < recipe.batch:
        raise UserError(f"{label}: {len(train)} training images are fewer than one batch of {recipe.batch}")
    torch.manual_seed(derive(recipe.seed, "init"))
    model = build().to(device).to(memory_format=torch.channels_last)
    state = State(model, copy.deepcopy(model).requires_grad_(False), optimizer_of(model, recipe))
    if checkpoint is not None and resume(state, checkpoint):
        log(f"{label}: resuming after update {state.update} of {recipe.updates}")
    good = copy.deepcopy(state)
    remaining = range(state.update, recipe.updates)
    bar = iter(progress(remaining, total=len(remaining), label=label, unit="update"))
    while state.update < recipe.updates:
        loss = train_step(state, train, recipe)
        if not recipe.limits.holds(loss / (train[0].numel() / 2)):
            state = back_to(good, state, recipe, loss, label)
            continue
        next(bar, None)
        account(state, recipe, loss, validation)
        if state.update % recipe.save_every == 0:
            good = copy.deepcopy(state)
            if checkpoint is not None:
                keep(state, checkpoint)
    if not math.isfinite(state.curve[-1].validation_loss):  # an update's own loss is that before it
        raise UserError(f"{label}: training diverged in its last updates; lower --recipe.lr")
    return chosen(state, recipe).eval().requires_grad_(True), state.curve


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=recipe.lr)


def chosen(state: State, recipe: Recipe) -> nn.Module:
    """The network whose weights become the model."""
    return state.ema if recipe.weights == "ema" else state.model


def losses(model: ScoreModel, centre: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
    """½ ‖s_θ(x̃) + z‖² (N,) at x̃ = centre + σz; images `centre` and noise z (N, C, H, W), levels sigma (N,)."""
    x = (centre + sigma.view(-1, 1, 1, 1) * z).contiguous(memory_format=torch.channels_last)
    return (model(x).float() + z).square().flatten(1).sum(1) / 2


def train_step(state: State, images: Tensor, recipe: Recipe) -> float:
    """One update of the weights and of their moving average; the loss before it."""
    model = cast(ScoreModel, state.model)
    sigmas = model.sigmas
    draws = generator(recipe.seed, "update", state.restarts, state.update)
    rows = torch.randperm(len(images), generator=draws)[: recipe.batch]
    levels = torch.randint(len(sigmas), (recipe.batch,), generator=draws).to(sigmas.device)
    x = augment(images[rows], flip=recipe.flip, crop=0, draws=draws).to(sigmas.device)
    centre = perturb(x, recipe.perturbation, draws)
    # a GPU draws its own noise: it would wait for a CPU's
    random = torch.Generator(x.device).manual_seed(derive(recipe.seed, "noise", state.restarts, state.update))
    z = torch.randn(x.shape, generator=random, device=x.device)
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.rate(state.update)
    state.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        loss = losses(model, centre, sigmas[levels], z).mean()
    loss.backward()
    state.optimizer.step()
    decay = min(recipe.ema, (1 + state.update) / (10 + state.update))
    with torch.no_grad():
        torch._foreach_lerp_(_tensors(state.ema), _tensors(state.model), 1 - decay)
    state.update += 1
    return float(loss.detach())


def _tensors(model: nn.Module) -> list[Tensor]:
    return list(model.parameters())


def account(state: State, recipe: Recipe, loss: float, validation: Tensor) -> None:
    """Add a finished update to the curve."""
    state.recent.append(loss)
    if state.update % recipe.log_every == 0 or state.update == recipe.updates:
        mean = sum(state.recent) / len(state.recent)
        validated = validation_loss(cast(ScoreModel, chosen(state, recipe)), validation, recipe.seed)
        rate = recipe.rate(state.update - 1)
        state.curve.append(Window(state.update, rate, mean, validated, state.restarts))
        state.recent.clear()


@torch.no_grad()
def validation_loss(model: ScoreModel, images: Tensor, seed: int = 0) -> float:
    """The loss on images (N, C, H, W), the levels spread evenly over them; equal noise for equal seeds."""
    levels = torch.arange(len(images)) * len(model.sigmas) // len(images)
    return float(_batched(model, images, model.sigmas[levels.to(model.sigmas.device)], _noise(images, seed)).mean())


@torch.no_grad()
def level_losses(model: ScoreModel, images: Tensor, seed: int = 0) -> Tensor:
    """The mean of ‖s_θ(x + σ_i z) + z‖² / D over images (N, C, H, W) at each noise level, (L,) on the CPU.

    1 is a network that always answers 0, 0 one that tells all noise from the image. All levels meet the same z.
    """
    z = _noise(images, seed)
    means = [_batched(model, images, sigma.expand(len(images)), z).mean() for sigma in model.sigmas]
    return 2 * torch.stack(means) / images[0].numel()


def _noise(images: Tensor, seed: int) -> Tensor:
    return torch.randn(images.shape, generator=generator(seed, "validation"))


def _batched(model: ScoreModel, images: Tensor, sigma: Tensor, z: Tensor, size: int = 256) -> Tensor:
    parts = zip(images.split(size), sigma.split(size), z.split(size), strict=True)
    device = sigma.device
    return torch.cat([losses(model, x.to(device), level, noise.to(device)).cpu() for x, level, noise in parts])


def back_to(good: State, state: State, recipe: Recipe, loss: float, label: str) -> State:
    """A copy of the last good state, to go on with other draws; UserError where that was done too often."""
    restarts = recipe.limits.restart(
        state.restarts,
        f"{label}: the loss left its band at update {state.update} ({loss:.4g})",
        "lower --recipe.lr, or raise --recipe.warmup",
    )
    log(f"{label}: diverged at update {state.update} (loss {loss:.4g}); back to update {good.update}")
    fresh = copy.deepcopy(good)
    fresh.restarts = restarts
    return fresh


def keep(state: State, checkpoint: Checkpoint) -> None:
    """Write everything that `resume` needs."""
    facts = {
        "update": state.update,
        "restarts": state.restarts,
        "recent": state.recent,
        "curve": [vars(row) for row in state.curve],
    }
    checkpoint.save({"model": state.model, "ema": state.ema}, state.optimizer, facts)


def resume(state: State, checkpoint: Checkpoint) -> bool:
    """Fill `state` with what `keep` wrote; whether there was anything."""
    facts = checkpoint.restore({"model": state.model, "ema": state.ema}, state.optimizer)
    if facts is None:
        return False
    state.update, state.restarts, state.recent = facts["update"], facts["restarts"], facts["recent"]
    state.curve = [Window(**row) for row in facts["curve"]]
    return True
