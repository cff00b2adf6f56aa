"""Training of the autoencoders that E-ABS and ABS classify with (Ju & Wagner 2020, Eqs. 3–5 and Algorithm 1).

One loop for both extensions that training knows: A, discriminators in place of the KL divergence, and D, one encoder
for all classes and a discriminative loss. Which of them a model has is its architecture's affair. Without D the
networks of each class see images of their own class and are trained as if each were alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.errors import UserError
from robustgen.models import evaluating, frozen
from robustgen.models.aae import AAE, squared_error
from robustgen.options import Ratio
from robustgen.progress import log, progress
from robustgen.seeding import derive, generator, seeded
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Images
from robustgen.training.passes import Passes

COSTS = ("sum", "mean")
SELECTIONS = ("last", "accuracy")
AT_ONCE = 256  # validation images in a pass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    epochs: int  # of ⌈training images / batch⌉ updates each
    batch: int = 512  # images in an update; without D as many of each class, whatever their shares
    lr: float = 1e-3  # initial learning rate of Adam
    halve_every: int = 200  # epochs after which the learning rate is halved, again and again
    beta: float = 1.0  # β, weight of −log D(z) (Eq. 3), or of the KL divergence
    gamma: float = 10.0  # γ, weight of the discriminative loss (Eq. 5); with D only
    # σ of the Gaussian noise on training images, pixel units in [0, 1], not clipped; SVHN and traffic signs: 0.01. The
    # noisy images are reconstructed, too: Sec. 4.3 calls it augmentation
    noise: Ratio = 0.2
    # c(x, G): squared error summed over channels and pixels (Sec. 3.1's ‖x − G‖²), or its mean over them, for which
    # β and γ weigh as many times as much
    cost: Literal["sum", "mean"] = "sum"
    outliers: bool = True  # whether discriminators of a class see latents of other classes' images (Sec. 4.4)
    check_every: int = 1  # epochs between two rows of the curve; where training can resume
    select: Literal["last", "accuracy"] = "last"  # which row's weights are kept; the paper does not say
    seed: int = 0  # of order, noise, latents and dropout

    def __post_init__(self) -> None:
        if min(self.epochs, self.halve_every, self.check_every) < 1 or self.batch < 2 or not self.lr > 0:
            counts = (self.epochs, self.halve_every, self.check_every)
            raise UserError(
                "a recipe needs epochs, halve_every and check_every >= 1, batch >= 2 (batch norm) and lr > 0, "
                f"not {counts}, {self.batch} and {self.lr}"
            )
        if min(self.beta, self.gamma, self.noise) < 0:
            weights = (self.beta, self.gamma, self.noise)
            raise UserError(f"a recipe needs beta, gamma and noise >= 0, not {weights}")
        if self.cost not in COSTS or self.select not in SELECTIONS:
            raise UserError(
                f"a recipe needs cost sum or mean and select last or accuracy, not {self.cost} and {self.select}"
            )


@dataclass(frozen=True)
class Check:
    """One row of the training curve, after `epoch` epochs.

    Training losses are means over images and the updates since the row before, unweighted, 0 where the model has no
    such term: `reconstruction`, the recipe's cost in the image's own class; `regulariser`, −log D(z) or the KL
    divergence, nats; `cross_entropy`, the discriminative loss, nats; `discriminator`, that of the discriminators, nats.
    `accuracy` in [0, 1] is that of the model's logits without inference on validation images, without noise, and
    `validation_reconstruction` the cost of these from the encoder's mean, in their own class.
    """

    epoch: int
    reconstruction: float
    regulariser: float
    cross_entropy: float
    discriminator: float
    accuracy: float
    validation_reconstruction: float


@dataclass(frozen=True)
class Batch:
    """Of an update: x (G, B, C, S, S) with noise, y (G, B); noise of latents (G, 2B, M), for x and for images of other
    classes; `prior` (G, B, M), latents from N(0, 1). G is the number of encoders, 1 or K; row k has class k only.
    """

    x: Tensor
    y: Tensor
    noise: Tensor
    prior: Tensor


@dataclass(frozen=True)
class Terms:
    """The autoencoder's losses, means over images; see `Check`."""

    reconstruction: Tensor
    regulariser: Tensor
    cross_entropy: Tensor


def train_autoencoder(
    model: AAE,
    train: Images,
    validation: Images,
    recipe: Recipe,
    *,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    label: str = "train",
) -> tuple[AAE, list[Check]]:
    """The networks of the selected check (ties: the latest), in eval mode, and the training curve.

    `model` is where training starts and stays as it is. Every random draw is named by (seed, class, update), so a
    training that resumes from `checkpoint` ends with the weights of an uninterrupted one. Raises UserError where a loss
    is not finite, for a class without training images, and for batches of less than two images a class.
    """
    model = copy.deepcopy(model).to(device).to(memory_format=torch.channels_last)
    best = copy.deepcopy(model)
    feed = Feed(train, model, recipe)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    curve: list[Check] = []
    facts = checkpoint.restore({"model": model, "best": best}, optimizer) if checkpoint else None
    if facts is not None:
        curve = [Check(**row) for row in facts["curve"]]
        log(f"{label}: resuming after epoch {curve[-1].epoch} of {recipe.epochs}")
    done = curve[-1].epoch if curve else 0
    while done < recipe.epochs:
        until = min(done + recipe.check_every, recipe.epochs)
        losses = train_epochs(model, optimizer, feed, range(done, until), label)
        curve.append(checked(Check(until, *losses, *validate(model, validation, recipe)), label))
        done = until
        if recipe.select == "last" or curve[-1].accuracy >= max(row.accuracy for row in curve):
            best.load_state_dict(model.state_dict())
        if checkpoint is not None:
            checkpoint.save({"model": model, "best": best}, optimizer, {"curve": [vars(row) for row in curve]})
        log(f"{label}: " + ", ".join(f"{name} {value:.4g}" for name, value in vars(curve[-1]).items()))
    return best.eval(), curve


def checked(row: Check, label: str) -> Check:
    """The row; UserError where one of its numbers is not finite."""
    if not all(map(math.isfinite, vars(row).values())):
        raise UserError(f"{label}: after epoch {row.epoch} a loss is no longer finite; lower --recipe.lr")
    return row


class Feed:
    """The batches of a training: shuffled passes over all images, or over those of each class where encoders are its
    own.
    """

    def __init__(self, data: Images, model: AAE, recipe: Recipe) -> None:
        """Raises UserError where a class has no image, or an encoder less than two images in a batch."""
        self.data, self.recipe, self.latent = data, recipe, model.config.latent
        classes = [(data.y == k).nonzero().flatten() for k in range(model.num_classes)]
        missing = [k for k, rows in enumerate(classes) if not len(rows)]
        if missing or len(data.y) > sum(map(len, classes)):
            raise UserError(
                f"the training images have labels {data.y.unique().tolist()}; a model of {model.num_classes} classes "
                "needs images of each and of no other; set its classes to the data's"
            )
        self.size = recipe.batch // model.groups
        if self.size < 2:
            raise UserError(
                f"a batch of {recipe.batch} has less than 2 images (batch norm) for each of {model.groups} encoders; "
                "raise --recipe.batch"
            )
        rows = classes if model.groups > 1 else [torch.arange(len(data.y))]
        self.passes = [Passes(own, recipe.seed, "order", group) for group, own in enumerate(rows)]
        self.updates = math.ceil(len(data.y) / recipe.batch)  # in an epoch

    def batch(self, update: int) -> Batch:
        """That of an update, counted over all epochs; on the CPU."""
        rows = torch.stack([passes.take(update * self.size, self.size) for passes in self.passes])
        x, found = self.data.x[rows], []
        for group in range(len(rows)):
            draws = generator(self.recipe.seed, "batch", group, update)
            pixels = torch.randn(x.shape[1:], generator=draws)
            found.append((pixels, torch.randn(3 * self.size, self.latent, generator=draws)))
        pixels, latents = (torch.stack(parts) for parts in zip(*found, strict=True))
        noise, prior = latents.split([2 * self.size, self.size], 1)
        return Batch(x + self.recipe.noise * pixels, self.data.y[rows], noise, prior)


def train_epochs(
    model: AAE, optimizer: torch.optim.Optimizer, feed: Feed, epochs: range, label: str
) -> tuple[float, float, float, float]:
    """Updates of some epochs; the mean training losses, as in `Check`."""
    updates = range(epochs.start * feed.updates, epochs.stop * feed.updates)
    name = f"{label} epoch {epochs.stop}/{feed.recipe.epochs}"
    total = torch.zeros(4, device=next(model.parameters()).device)
    for update in progress(updates, total=len(updates), label=name, unit="update"):
        for group in optimizer.param_groups:
            group["lr"] = feed.recipe.lr * 0.5 ** (update // feed.updates // feed.recipe.halve_every)
        total += train_step(model, optimizer, feed.batch(update), feed.recipe, update)
    reconstruction, regulariser, cross_entropy, discriminator = (total / len(updates)).tolist()
    return reconstruction, regulariser, cross_entropy, discriminator


def train_step(model: AAE, optimizer: torch.optim.Optimizer, batch: Batch, recipe: Recipe, update: int) -> Tensor:
    """Algorithm 1: one update of encoders and decoders, then one of the discriminators, on the latents sampled before.

    The losses (4,), detached, as in `Check`. Sums over classes' networks of means over their images are descended.
    """
    device = next(model.parameters()).device
    batch = Batch(*(tensor.to(device) for tensor in vars(batch).values()))
    model.train()
    optimizer.zero_grad(set_to_none=True)
    others = outliers(model, batch) if recipe.outliers and model.groups > 1 and model.config.adversarial else None
    with seeded(device, derive(recipe.seed, "dropout", update)), discriminators_frozen(model):
        terms, z = autoencoder_terms(model, batch, recipe)
        (model.groups * objective(terms, recipe)).backward()
    optimizer.step()  # of what has a gradient
    loss = torch.zeros((), device=device)
    if model.config.adversarial:
        optimizer.zero_grad(set_to_none=True)
        loss = discriminator_loss(model, batch.prior, z.detach(), others)
        (model.groups * loss).backward()
        optimizer.step()
    return torch.stack([terms.reconstruction, terms.regulariser, terms.cross_entropy, loss]).detach()


@contextmanager
def discriminators_frozen(model: AAE) -> Iterator[None]:
    """Inside, the discriminators' weights ask for no gradient."""
    if model.discriminator is None:
        yield
        return
    with frozen(model.discriminator):
        yield


def autoencoder_terms(model: AAE, batch: Batch, recipe: Recipe) -> tuple[Terms, Tensor]:
    """The losses of encoders and decoders on a batch, and the latents (G, B, M) sampled from Q(z|x)."""
    mean, log_variance = model.encode_own(batch.x)
    z = sampled(mean, log_variance, batch.noise[:, : mean.shape[1]])
    costs = reconstruction_costs(model, batch.x, z, recipe.cost)
    if model.config.adversarial:
        regulariser = F.softplus(-model.discriminate_own(z)).mean()  # −log D(z)
    else:
        regulariser = kl_divergence(mean, log_variance).mean()
    if not model.config.shared:
        return Terms(costs.mean(), regulariser, torch.zeros_like(regulariser)), z
    y = batch.y[0]
    return Terms(costs.gather(1, y[:, None]).mean(), regulariser, F.cross_entropy(-costs, y)), z


def objective(terms: Terms, recipe: Recipe) -> Tensor:
    """What encoders and decoders descend: Eq. 5, without D Eq. 3; in place of −log D(z) the KL divergence without A."""
    return terms.reconstruction + recipe.beta * terms.regulariser + recipe.gamma * terms.cross_entropy


def sampled(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """z = μ + σε, all of one shape."""
    return mean + (log_variance / 2).exp() * noise


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL[N(μ, σ²) ‖ N(0, 1)] in nats, summed over the last axis."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2


def reconstruction_costs(model: AAE, x: Tensor, z: Tensor, cost: str) -> Tensor:
    """c(x, G_k(z)), (B, K), of images (G, B, C, S, S) and their latents (G, B, M).

    With one encoder every decoder reconstructs every image, otherwise column k is of the images of class k.
    """
    each = (model.num_classes if model.groups == 1 else -1, -1)
    z, x = z.expand(*each, -1).transpose(0, 1), x.expand(*each, -1, -1, -1).transpose(0, 1)
    return scaled(squared_error(x, model.decode(z)), x, cost)


def scaled(error: Tensor, x: Tensor, cost: str) -> Tensor:
    """Squared errors, summed over the images' last three axes, as the recipe's cost."""
    return error / math.prod(x.shape[-3:]) if cost == "mean" else error


def discriminator_loss(model: AAE, prior: Tensor, z: Tensor, others: Tensor | None) -> Tensor:
    """−E[log D(z̃)] − E[log(1 − D(z))], latents (G, B, M), mean over discriminators.

    `others`, latents (G, B, M) of other classes' images, weigh in the second mean as much as z.
    """
    fake = z if others is None else torch.cat([z, others], 1)
    real = F.softplus(-model.discriminate_own(prior)).mean()
    return real + F.softplus(model.discriminate_own(fake)).mean()


@torch.no_grad()
def outliers(model: AAE, batch: Batch) -> Tensor:
    """Latents (K, B, M) of encoder k of images of the other classes, as many of each as the batch allows.

    In eval mode: batch norm and its running statistics are the own class's.
    """
    classes, size = batch.x.shape[:2]
    places = torch.arange(size, device=batch.x.device)
    sources = torch.arange(classes, device=batch.x.device)[:, None] + 1 + places % (classes - 1)
    with evaluating(model):
        mean, log_variance = model.encode_own(batch.x[sources % classes, places])
    return sampled(mean, log_variance, batch.noise[:, size:])


@torch.no_grad()
def validate(model: AAE, data: Images, recipe: Recipe) -> tuple[float, float]:
    """Accuracy of the logits without inference, and mean cost in the own class; see `Check`."""
    device: Any = next(model.parameters()).device
    right, cost = 0, 0.0
    with evaluating(model):
        for x, y in zip(data.x.split(AT_ONCE), data.y.split(AT_ONCE), strict=True):
            logits = model(x.to(device, memory_format=torch.channels_last)).cpu()
            right += int((logits.argmax(1) == y).sum())
            cost += float(scaled(-logits.gather(1, y[:, None]), x, recipe.cost).sum())
    return right / len(data.y), cost / len(data.y)
