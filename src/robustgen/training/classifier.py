"""Natural training of classifiers, under an adversary (Madry et al. 2018) or under Gaussian noise (Cohen et al. 2019).

The best validation epoch is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.attacks.ascent import ascend
from robustgen.attacks.ball import Norm, ball_of
from robustgen.errors import UserError
from robustgen.options import ADDED, Ratio
from robustgen.progress import log, progress
from robustgen.seeding import BatchStream, derive, generator, seeded
from robustgen.training.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """PGD from a uniform start. eps 0 stands for no adversary."""

    eps: Ratio = 0.0  # radius of the ball, pixel units in [0, 1]; of an L2 ball the length of the whole change
    alpha: Ratio = 2 / 255  # length of a step in the norm, pixel units
    steps: int = 10  # ascent steps
    norm: Norm = field(default="linf", metadata=ADDED)  # in which radius and steps are measured
    # Mode of the model while images are crafted for its training. train: attack passes see the batch's own statistics
    # and move the running ones, as in the code that Madry et al. and Hill et al. released.
    craft: Literal["eval", "train"] = field(default="eval", metadata=ADDED)

    def __post_init__(self) -> None:
        if self.eps < 0 or self.alpha <= 0 or self.steps < 0:
            raise UserError(f"an adversary needs eps >= 0, alpha > 0 and steps >= 0, not {self}")
        ball_of(self.norm, self.eps)
        if self.craft not in ("eval", "train"):
            raise UserError(f"an adversary crafts in eval or train mode, not {self.craft!r}")


OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    epochs: int  # passes over the training images
    batch: int = 64  # images per update
    optimizer: Literal["adam", "sgd"] = field(default="adam", metadata=ADDED)  # which rule moves the weights
    momentum: float = field(default=0.9, metadata=ADDED)  # of sgd, not Nesterov's; adam keeps its own averages
    lr: float = 1e-3  # initial learning rate
    weight_decay: float = 5e-4  # L2 penalty, part of the gradient
    milestones: tuple[int, ...] = ()  # epochs after which the learning rate is multiplied by gamma
    gamma: float = field(default=0.1, metadata=ADDED)  # factor of the learning rate at a milestone
    flip: bool = False  # mirror half of the images left to right
    crop: int = 0  # zero padding before a random crop back to size, pixels
    # σ of the Gaussian noise on training and validation images, pixel units, not clipped to [0, 1] (Cohen et al. 2019)
    noise: Ratio = field(default=0.0, metadata=ADDED)
    adversary: Adversary = Adversary()  # trains on its images where eps > 0
    monitor: Adversary = Adversary()  # attacks the validation images after each epoch
    select: Literal["clean", "robust"] = "clean"  # validation accuracy that picks the epoch
    precision: Literal["float32", "bfloat16"] = "float32"  # of the training pass
    seed: int = 0  # of initialisation, order, augmentation and attack starts

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or self.lr <= 0 or self.weight_decay < 0 or self.crop < 0:
            raise UserError(
                "a recipe needs epochs >= 1, batch >= 2 (batch norm), lr > 0, weight_decay >= 0 and crop >= 0, "
                f"not {self.epochs}, {self.batch}, {self.lr}, {self.weight_decay} and {self.crop}"
            )
        if self.optimizer not in OPTIMIZERS or not 0 <= self.momentum < 1 or not 0 < self.gamma <= 1:
            raise UserError(
                "a recipe needs optimizer adam or sgd, 0 <= momentum < 1 and 0 < gamma <= 1, "
                f"not {self.optimizer}, {self.momentum} and {self.gamma}"
            )
        if self.noise < 0 or (self.noise and (self.adversary.eps or self.monitor.eps)):
            raise UserError(
                f"a recipe needs noise >= 0, and at noise {self.noise:g} no adversary and no monitor: "
                "they keep images in [0, 1], which noise leaves"
            )
        if self.monitor.craft != "eval":
            raise UserError("a monitor crafts in eval mode: it must not move the batch-norm statistics it judges")


@dataclass(frozen=True)
class Epoch:
    """One row of the training curve. Accuracies are fractions, on validation images."""

    epoch: int
    loss: float
    clean_accuracy: float
    robust_accuracy: float


@dataclass(frozen=True)
class Images:
    """images (N, C, H, W) float32 in [0, 1], labels (N,) int64."""

    x: Tensor
    y: Tensor


def train_classifier(
    build: Callable[[], nn.Module],
    train: Images,
    validation: Images,
    recipe: Recipe,
    *,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    label: str = "train",
) -> tuple[nn.Module, list[Epoch]]:
    """The network of the best validation epoch (ties: the latest), in eval mode, and its training curve.

    Every random draw is named by (seed, epoch, batch), so a training that resumes from `checkpoint` ends with the
    weights of an uninterrupted one. Raises UserError where the loss is no longer finite.
    """
    torch.manual_seed(derive(recipe.seed, "init"))
    model = build().to(device).to(memory_format=torch.channels_last)
    best = copy.deepcopy(model)
    optimizer = make_optimizer(model, recipe)
    curve: list[Epoch] = []
    facts = checkpoint.restore({"model": model, "best": best}, optimizer) if checkpoint else None
    if facts is not None:
        curve = [Epoch(**row) for row in facts["curve"]]
        log(f"{label}: resuming after epoch {len(curve)} of {recipe.epochs}")
    for epoch in range(len(curve), recipe.epochs):
        loss = train_epoch(model, optimizer, train, recipe, epoch, f"{label} epoch {epoch + 1}/{recipe.epochs}")
        curve.append(Epoch(epoch + 1, loss, *validate(model, validation, recipe, epoch)))
        if score(curve[-1], recipe) >= max(score(row, recipe) for row in curve):
            best.load_state_dict(model.state_dict())
        if checkpoint is not None:
            checkpoint.save({"model": model, "best": best}, optimizer, {"curve": [vars(row) for row in curve]})
        log(f"{label}: " + ", ".join(f"{name} {value:.4g}" for name, value in vars(curve[-1]).items()))
    return best.eval(), curve


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all of the model's weights."""
    if recipe.optimizer == "sgd":
        momentum, decay = recipe.momentum, recipe.weight_decay
        return torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=momentum, weight_decay=decay)
    return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)


def score(row: Epoch, recipe: Recipe) -> float:
    """The validation accuracy that selects the epoch."""
    return row.robust_accuracy if recipe.select == "robust" else row.clean_accuracy


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Images, recipe: Recipe, epoch: int, label: str
) -> float:
    """One pass; the mean training loss. A last batch of a single image is dropped (batch norm needs two)."""
    rate = recipe.lr * recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones)
    for group in optimizer.param_groups:
        group["lr"] = rate
    order = torch.randperm(len(data.x), generator=generator(recipe.seed, "order", epoch))
    batches = [rows for rows in order.split(recipe.batch) if len(rows) > 1]
    total = torch.zeros(())
    for number, rows in enumerate(progress(batches, total=len(batches), label=label)):
        draws = generator(recipe.seed, "batch", epoch, number)
        x = noisy(augment(data.x[rows], flip=recipe.flip, crop=recipe.crop, draws=draws), recipe.noise, draws)
        x, y = _on(model, x, data.y[rows])
        with seeded(x.device, derive(recipe.seed, "dropout", epoch, number)):
            if recipe.adversary.eps > 0:
                x = adversarial_images(model, x, y, recipe.adversary, draws)
            loss = train_step(model, optimizer, x, y, recipe.precision)
        total += loss.cpu() * len(rows)
    mean = float(total) / sum(len(rows) for rows in batches)
    if not math.isfinite(mean):
        raise UserError(f"{label}: the loss is no longer finite; lower --recipe.lr, or use --recipe.precision float32")
    return mean


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, precision: str) -> Tensor:
    """One update on the mean cross-entropy; the loss, detached."""
    model.train()
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def adversarial_images(model: nn.Module, x: Tensor, y: Tensor, adversary: Adversary, draws: torch.Generator) -> Tensor:
    """PGD images against the model in the adversary's mode; in eval mode batch-norm statistics stay as they are."""
    ball = ball_of(adversary.norm, adversary.eps)
    start = ball.offset(x, BatchStream(draws, len(x)))
    model.train(adversary.craft == "train")
    return ascend(
        model,
        x,
        lambda logits: F.cross_entropy(logits, y, reduction="none"),
        ball=ball,
        alpha=adversary.alpha,
        steps=adversary.steps,
        start=start,
    )


def validate(model: nn.Module, data: Images, recipe: Recipe, epoch: int) -> tuple[float, float]:
    """Clean accuracy, and accuracy under the monitor's attack (at eps 0 the same), on the validation images.

    A recipe with noise is judged under noise: one draw an image, the same after each epoch.
    """
    model.eval()
    clean = robust = 0
    for number, (x, y) in enumerate(zip(data.x.split(256), data.y.split(256), strict=True)):
        x, y = _on(model, noisy(x, recipe.noise, generator(recipe.seed, "validation noise", number)), y)
        with torch.no_grad():
            clean += int((model(x).argmax(1) == y).sum())
        if recipe.monitor.eps > 0:
            x = adversarial_images(model, x, y, recipe.monitor, generator(recipe.seed, "monitor", epoch, number))
        with torch.no_grad():
            robust += int((model(x).argmax(1) == y).sum())
    return clean / len(data.x), robust / len(data.x)


def augment(x: Tensor, *, flip: bool, crop: int, draws: torch.Generator) -> Tensor:
    """Random mirror, and random crop after `crop` pixels of zero padding, vectorised over images (N, C, H, W)."""
    if flip:
        mirrored = torch.rand(len(x), generator=draws) < 0.5
        x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(3), x)
    if crop:
        n, _, h, w = x.shape
        padded = F.pad(x, (crop,) * 4)
        dy, dx = torch.randint(0, 2 * crop + 1, (2, n), generator=draws)
        rows = (dy[:, None] + torch.arange(h)).view(n, 1, h, 1)
        columns = (dx[:, None] + torch.arange(w)).view(n, 1, 1, w)
        channels = torch.arange(x.shape[1]).view(1, -1, 1, 1)
        x = padded[torch.arange(n).view(n, 1, 1, 1), channels, rows, columns]
    return x


def noisy(x: Tensor, sigma: float, draws: torch.Generator) -> Tensor:
    """x + σz with standard normal z, outside [0, 1] too; without noise nothing is drawn."""
    return x + sigma * torch.randn(x.shape, generator=draws) if sigma else x


def _on(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    return x.to(device, memory_format=torch.channels_last), y.to(device)
