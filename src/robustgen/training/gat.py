"""Generative adversarial training of detectors, one a class (Yin, Kolouri & Rohde 2020, Sec. 3.1 and Eq. 5).

Detector d_k tells images of class k, left as they are, from images of the other classes, each perturbed within its
ball to look like class k to d_k as it stands. All detectors are trained at once, as one network; they share nothing,
so that a detector trained in company is the one it would be alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.attacks.ball import Norm, ball_of
from robustgen.attacks.first_order import Rule, check_ascent, climb
from robustgen.errors import UserError
from robustgen.models import frozen
from robustgen.models.detectors import Detectors
from robustgen.options import Ratio
from robustgen.progress import log, progress
from robustgen.seeding import BatchStream, generator
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import OPTIMIZERS, Images, augment
from robustgen.training.passes import Passes

SELECTIONS = ("adversarial", "last")
AT_ONCE = 64  # validation images in a pass of all detectors


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """PGD on the logit of a detector. eps 0 stands for no adversary."""

    norm: Norm = "linf"  # in which radius and steps are measured
    eps: Ratio  # radius of the ball, pixel units in [0, 1]; of an L2 ball the length of the whole change
    alpha: Ratio  # length of a step, pixel units: in the norm (steepest), of each pixel (adam)
    steps: int  # ascent steps
    rule: Rule = "adam"  # steepest: normalised steepest ascent; adam: Adam on the perturbation, as for MNIST
    random_start: bool = True  # from a uniform point of the ball, not from the image

    def __post_init__(self) -> None:
        check_ascent(norm=self.norm, eps=self.eps, rule=self.rule, steps=self.steps, alpha=self.alpha)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    updates: int  # updates of each detector
    check_every: int  # updates between two rows of the curve; where training can resume
    positives: int = 32  # images of its class that a detector sees in an update
    negatives: int = 32  # images of the other classes, perturbed
    optimizer: Literal["adam", "sgd"] = "adam"  # which rule moves the weights
    lr: float = 5e-4  # learning rate, constant; of sgd half the published one, whose loss is half of Eq. 5 (`losses`)
    momentum: float = 0.9  # of sgd, not Nesterov's; adam keeps its own averages
    weight_decay: float = 0.0  # L2 penalty, part of the gradient
    flip: bool = False  # mirror half of the images left to right
    crop: int = 0  # zero padding before a random crop back to size, pixels
    adversary: Adversary  # perturbs the negatives
    monitor: Adversary  # perturbs validation images for the curve; the paper's has no random start
    # Which check a detector is taken from: that of the largest validation AUC under the monitor, or the last one
    select: Literal["adversarial", "last"] = "adversarial"
    seed: int = 0  # of initialisation, order, augmentation and attack starts

    def __post_init__(self) -> None:
        counts = (self.updates, self.check_every, self.positives, self.negatives)
        if min(counts) < 1:
            raise UserError(f"a recipe needs updates, check_every, positives and negatives >= 1, not {counts}")
        if self.lr <= 0 or self.weight_decay < 0 or self.crop < 0:
            numbers = (self.lr, self.weight_decay, self.crop)
            raise UserError(f"a recipe needs lr > 0, weight_decay >= 0 and crop >= 0, not {numbers}")
        if self.optimizer not in OPTIMIZERS or not 0 <= self.momentum < 1 or self.select not in SELECTIONS:
            raise UserError(
                "a recipe needs optimizer adam or sgd, 0 <= momentum < 1 and select adversarial or last, "
                f"not {self.optimizer}, {self.momentum} and {self.select}"
            )


@dataclass(frozen=True)
class Check:
    """One row of the training curve: a detector after `update` updates.

    loss: Eq. 5 in nats, mean over the updates since the row before. AUCs lie in [0, 1], of images of the class against
    the others, natural or perturbed: `train_` over the batches since the row before, each ahead of its update, the
    others over validation images. Row 0 has the loss and training AUCs of the first batch.
    """

    update: int
    detector: int
    loss: float
    train_natural_auc: float
    train_adversarial_auc: float
    natural_auc: float
    adversarial_auc: float


@dataclass
class Window:
    """What the updates since the last check showed, each entry one update.

    losses: (L,); positives (L, P), natural and adversarial (L, N): logits.
    """

    losses: list[Tensor] = field(default_factory=list)
    positives: list[Tensor] = field(default_factory=list)
    natural: list[Tensor] = field(default_factory=list)
    adversarial: list[Tensor] = field(default_factory=list)


def train_detectors(
    detectors: Detectors,
    train: Images,
    validation: Images,
    recipe: Recipe,
    *,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    label: str = "train",
) -> tuple[Detectors, list[Check]]:
    """The detectors, each of its best check (ties: the latest; never the start), and the curve, L rows a check.

    `detectors` is where training starts and stays as it is. Every random draw is named by (seed, class, update or
    pass), so a training that resumes from `checkpoint` ends with the weights of an uninterrupted one, and one of some
    classes with theirs of a training of all, up to rounding. Raises UserError where the loss or a validation logit is
    not finite, and for a class without images in `train` or `validation`.
    """
    check_classes(detectors.labels, train.y, "training")
    check_classes(detectors.labels, validation.y, "validation")
    model = copy.deepcopy(detectors).to(device).eval()
    best = copy.deepcopy(model)
    optimizer = make_optimizer(model, recipe)
    feed = Feed(train, model.labels, recipe)
    curve, first = _begin(model, best, optimizer, checkpoint)
    if curve:
        log(f"{label}: resuming after update {first} of {recipe.updates}")
    else:
        curve = checks(model, 0, preview(model, feed, recipe, device), validation, recipe)
        report(curve, label)
    window = Window()
    for update in progress(range(first, recipe.updates), total=recipe.updates - first, label=label):
        train_step(model, optimizer, feed, update, recipe, window, device)
        if (update + 1) % recipe.check_every and update + 1 < recipe.updates:
            continue
        rows = checks(model, update + 1, window, validation, recipe)
        curve, window = curve + rows, Window()
        keep_best(best, model, curve, recipe)
        report(rows, label)
        if checkpoint is not None:
            facts = {"update": update + 1, "curve": [vars(row) for row in curve]}
            checkpoint.save({"model": model, "best": best}, optimizer, facts)
    return best.eval(), curve


def check_classes(labels: Sequence[int], y: Tensor, what: str) -> None:
    """Raise UserError unless labels y (N,) have images of every class in `labels` and of another one."""
    for label in labels:
        own = int((y == label).sum())
        if own in (0, len(y)):
            problem = "no image" if own == 0 else "no image but those"
            raise UserError(
                f"the {what} images hold {problem} of class {label}: its detector needs images of the class and of "
                "others; use more of them, or leave the class out"
            )


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all weights; both rules go coordinate by coordinate, so each detector has its own."""
    if recipe.optimizer == "sgd":
        momentum, decay = recipe.momentum, recipe.weight_decay
        return torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=momentum, weight_decay=decay)
    return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)


def _begin(
    model: Detectors, best: Detectors, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint | None
) -> tuple[list[Check], int]:
    """The curve so far and the updates done, from the checkpoint where there is one."""
    facts = checkpoint.restore({"model": model, "best": best}, optimizer) if checkpoint else None
    if facts is None:
        return [], 0
    return [Check(**row) for row in facts["curve"]], int(facts["update"])


class Feed:
    """The batches of every detector: images of its class, and as many of the other classes as the recipe says."""

    def __init__(self, data: Images, labels: Sequence[int], recipe: Recipe) -> None:
        self.data, self.labels, self.recipe = data, labels, recipe
        own = [data.y == label for label in labels]
        self.positives = [self._passes("positives", label, mask) for label, mask in zip(labels, own, strict=True)]
        self.negatives = [self._passes("negatives", label, ~mask) for label, mask in zip(labels, own, strict=True)]

    def _passes(self, kind: str, label: int, mask: Tensor) -> Passes:
        return Passes(mask.nonzero().flatten(), self.recipe.seed, kind, label)

    def batch(self, update: int) -> tuple[Tensor, Tensor]:
        """Images of the classes (L, P, C, H, W) and of others (L, N, C, H, W), augmented, on the data's device."""
        recipe, found = self.recipe, []
        for label, positives, negatives in zip(self.labels, self.positives, self.negatives, strict=True):
            own = positives.take(update * recipe.positives, recipe.positives)
            others = negatives.take(update * recipe.negatives, recipe.negatives)
            draws = generator(recipe.seed, "augment", label, update)
            x = self.data.x[torch.cat([own, others])]
            found.append(augment(x, flip=recipe.flip, crop=recipe.crop, draws=draws))
        both = torch.stack(found)
        return both[:, : recipe.positives], both[:, recipe.positives :]


def perturbed(model: Detectors, x: Tensor, adversary: Adversary, seed: int, *name: int | str) -> Tensor:
    """x (L, M, C, H, W) in [0, 1], row l moved within the ball so that the logit of detector l rises (Eq. 5's inner
    maximum: the loss grows with the logit); the last iterate. `name` names the starts of each class below `seed`.
    """
    if adversary.eps == 0:
        return x
    ball, flat, start = ball_of(adversary.norm, adversary.eps), x.flatten(0, 1), None
    if adversary.random_start:
        streams = [BatchStream(generator(seed, "start", label, *name), x.shape[1]) for label in model.labels]
        start = torch.cat([ball.offset(images, draws) for images, draws in zip(x, streams, strict=True)])

    def value(images: Tensor) -> Tensor:
        logits: Tensor = model.each(images.unflatten(0, x.shape[:2]))
        return logits.flatten()

    with frozen(model):
        alpha, steps, rule = adversary.alpha, adversary.steps, adversary.rule
        moved = climb(value, flat, ball=ball, alpha=alpha, steps=steps, rule=rule, start=start)
    return moved.view(x.shape)


def losses(positives: Tensor, negatives: Tensor) -> Tensor:
    """(L,) in nats, Eq. 5 with means for its expectations: logits of the class (L, P), of the others (L, N).

    GAT's released code for CIFAR-10 takes one mean over the images of both kinds, half of this where P = N. SGD's steps
    halve with it: the published learning rate 0.001 is 0.0005 here.
    """
    return F.softplus(-positives).mean(1) + F.softplus(negatives).mean(1)


def observe(model: Detectors, feed: Feed, update: int, recipe: Recipe, window: Window, device: str) -> Tensor:
    """The losses (L,) of the update's batch, with gradients; what it showed is added to the window."""
    own, others = (x.to(device) for x in feed.batch(update))
    moved = perturbed(model, others, recipe.adversary, recipe.seed, update)
    with torch.no_grad():
        window.natural.append(model.each(others).cpu())
    logits = model.each(torch.cat([own, moved], 1))
    positives, negatives = logits.split([recipe.positives, recipe.negatives], 1)
    found = losses(positives, negatives)
    window.losses.append(found.detach().cpu())
    window.positives.append(positives.detach().cpu())
    window.adversarial.append(negatives.detach().cpu())
    return found


def preview(model: Detectors, feed: Feed, recipe: Recipe, device: str) -> Window:
    """What the first batch shows ahead of any update."""
    window = Window()
    with torch.no_grad():
        observe(model, feed, 0, recipe, window, device)
    return window


def train_step(
    model: Detectors,
    optimizer: torch.optim.Optimizer,
    feed: Feed,
    update: int,
    recipe: Recipe,
    window: Window,
    device: str,
) -> None:
    """One update of every detector on its own loss."""
    optimizer.zero_grad(set_to_none=True)
    found = observe(model, feed, update, recipe, window, device)
    check_finite(window.losses[-1], model.labels, update + 1, "loss")
    found.sum().backward()
    optimizer.step()


def check_finite(values: Tensor, labels: Sequence[int], update: int, what: str) -> None:
    """Raise UserError, naming the classes, where values (L, ...) of detectors, each a `what`, are not finite."""
    lost = [label for label, row in zip(labels, values, strict=True) if not row.isfinite().all()]
    if lost:
        advice = "lower --recipe.lr" if update else "they start so: train the classifier that they are made of again"
        raise UserError(f"update {update}: the detectors of classes {lost} have a {what} that is not finite; {advice}")


def checks(model: Detectors, update: int, window: Window, validation: Images, recipe: Recipe) -> list[Check]:
    """A row of the curve for every detector; UserError where its validation logits are not finite."""
    loss = torch.stack(window.losses).mean(0)
    seen, natural, adversarial = (
        torch.cat(parts, 1) for parts in (window.positives, window.natural, window.adversarial)
    )
    clean, attacked = validate(model, validation, recipe)
    check_finite(torch.cat([clean, attacked], 1), model.labels, update, "validation logit")
    rows = []
    for row, label in enumerate(model.labels):
        own = validation.y == label
        trained = area(seen[row], natural[row]), area(seen[row], adversarial[row])
        judged = area(clean[row, own], clean[row, ~own]), area(clean[row, own], attacked[row, ~own])
        rows.append(Check(update, label, float(loss[row]), *trained, *judged))
    return rows


def validate(model: Detectors, validation: Images, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Logits (L, V) at the validation images, natural and after the monitor's attack, those of the class included."""
    device = next(model.parameters()).device
    natural, attacked = [], []
    for number, part in enumerate(validation.x.split(AT_ONCE)):
        x = part.to(device).expand(len(model.labels), *part.shape)
        moved = perturbed(model, x, recipe.monitor, recipe.seed, "monitor", number)
        with torch.no_grad():
            natural.append(model.each(x).cpu())
            attacked.append(model.each(moved).cpu())
    return torch.cat(natural, 1), torch.cat(attacked, 1)


def area(positives: Tensor, negatives: Tensor) -> float:
    """Area under the ROC curve in [0, 1] of logits (n,), (m,): P(positive > negative) + P(equal) / 2."""
    ordered = negatives.double().sort().values
    below, up_to = (torch.searchsorted(ordered, positives.double(), right=right) for right in (False, True))
    return float((below + up_to).double().mean()) / (2 * len(ordered))


def keep_best(best: Detectors, model: Detectors, curve: list[Check], recipe: Recipe) -> None:
    """Copy into `best` those detectors of `model` whose last row is their best so far."""
    last = curve[-1].update
    better = []
    for row, label in enumerate(model.labels):
        scores = {check.update: check.adversarial_auc for check in curve if check.detector == label and check.update}
        if recipe.select == "last" or scores[last] >= max(scores.values()):
            better.append(row)
    kept = best.state_dict()
    for name, tensor in model.state_dict().items():  # stacked, a detector a row
        kept[name][better] = tensor[better]


def report(rows: list[Check], label: str) -> None:
    """Log the means over detectors of a check, and the least AUC under attack."""
    names = ("loss", "train_natural_auc", "train_adversarial_auc", "natural_auc", "adversarial_auc")
    means = {name: sum(getattr(row, name) for row in rows) / len(rows) for name in names}
    least = min(row.adversarial_auc for row in rows)
    words = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
    log(f"{label}: update {rows[0].update}: {words}, least {least:.4g}")
