"""Density estimation on points by generative adversarial training, beside ordinary training (GAT, App. F).

A network learns positives from negatives; generatively, each negative is first moved within its ball to where the
network's logit is high. Read as a Gibbs distribution, exp(z(x)) / Z (Eq. 7), its logit should become the positives'
density. All networks of a problem, of both kinds and all seeds, are trained at once as one stack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.attacks.ball import Linf
from robustgen.attacks.first_order import Rule, check_rule, climb
from robustgen.errors import UserError
from robustgen.models import frozen
from robustgen.options import Ratio
from robustgen.progress import log, progress
from robustgen.seeding import BatchStream, generator
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.gat import losses
from robustgen.training.passes import Passes

KINDS = ("gat", "natural")
AT_ONCE = 8192  # points of a grid in a pass of all networks


@dataclass(frozen=True, kw_only=True)
class Recipe:
    hidden: int = 500  # units of a hidden layer
    layers: int = 5  # hidden layers
    updates: int = 50_000  # updates of each network; as in the authors' notebooks
    warmup: int = 500  # the first of them see negatives where they are, in generative training too; as there
    batch: int = 1000  # points of either class in an update
    lr: float = 5e-4  # learning rate of Adam
    eps: Ratio = 0.5  # L∞ radius in which negatives move
    steps: int = 10  # ascent steps
    alpha: Ratio = 0.05  # length of a step of every coordinate
    rule: Rule = "adam"  # steepest: the gradient's sign; adam: Adam on the perturbation, as in the notebooks
    check_every: int = 1000  # updates between two entries of the curve

    def __post_init__(self) -> None:
        counts = (self.hidden, self.layers, self.updates, self.batch, self.check_every)
        if min(counts) < 1 or self.lr <= 0:
            raise UserError(
                "densities need hidden, layers, updates, batch and check_every >= 1 and lr > 0, "
                f"not {counts} and {self.lr:g}"
            )
        if not self.eps > 0 or not self.alpha > 0 or min(self.steps, self.warmup) < 0:
            raise UserError(
                "densities need eps > 0, alpha > 0, steps >= 0 and warmup >= 0, "
                f"not {self.eps:g}, {self.alpha:g}, {self.steps} and {self.warmup}"
            )
        check_rule(self.rule)


class Networks(nn.Module):
    """B perceptrons with ReLU as one: points (B, M, D) -> logits (B, M).

    Weights start as Glorot & Bengio (2010) have them, biases at 0, as in the notebooks; equal seeds start alike.
    """

    def __init__(self, seeds: Sequence[int], dimensions: int, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [dimensions, *[hidden] * layers, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            limit = math.sqrt(6 / (fan_in + fan_out))
            draws = [torch.rand(fan_in, fan_out, generator=generator(seed, "init", layer)) for seed in seeds]
            self.weights.append(nn.Parameter((torch.stack(draws) * 2 - 1) * limit))
            self.biases.append(nn.Parameter(torch.zeros(len(seeds), 1, fan_out)))

    def forward(self, x: Tensor) -> Tensor:
        """x (b, M, D) -> (b, M), of the first b networks."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias[: len(x)], x, weight[: len(x)])
            x = x if layer == last else F.relu(x)
        return x[..., 0]


@dataclass
class Trained:
    """What was seen of the networks at each check: updates done (T,); losses (T, S, 2), Eq. 5 in nats, means since the
    check before; distances (T, S, 2), total variation to the target. logits (S, 2, M): those at the end.
    """

    updates: list[int]
    losses: list[Tensor]
    distances: list[Tensor]
    logits: Tensor


def train_densities(
    positives: Tensor,
    negatives: Tensor,
    seeds: Sequence[int],
    recipe: Recipe,
    *,
    grid: Tensor,
    target: Tensor,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    label: str = "train",
) -> Trained:
    """Networks of both kinds for each seed's positive and negative points (S, N, D), in [0, 1].

    grid (M, D): points at which logits (S, 2, M) are wanted, kinds as in KINDS; target (M,): the density's shares
    there, of which sum 1, for the total variation. Both kinds of a seed start alike and see the same points, each draw
    is named by (seed, update or pass). Resumes from `checkpoint`. Raises UserError where a loss or a logit is not
    finite.
    """
    networks = Networks([*seeds, *seeds], positives.shape[2], recipe.hidden, recipe.layers).to(device)
    optimizer = torch.optim.Adam(networks.parameters(), lr=recipe.lr, fused=True)
    feeds = [
        Feed(own, others, seed, recipe.batch) for own, others, seed in zip(positives, negatives, seeds, strict=True)
    ]
    found = resumed(networks, optimizer, checkpoint) or Trained([], [], [], torch.empty(0))
    first = found.updates[-1] if found.updates else 0
    if first:
        log(f"{label}: resuming after update {first} of {recipe.updates}")
    recent: list[Tensor] = []
    for update in progress(range(first, recipe.updates), total=recipe.updates - first, label=label, unit="update"):
        own, others = (torch.stack(x).to(device) for x in zip(*(feed.batch(update) for feed in feeds), strict=True))
        recent.append(train_step(networks, optimizer, own, others, seeds, update, recipe))
        if (update + 1) % recipe.check_every and update + 1 < recipe.updates:
            continue
        found.updates.append(update + 1)
        found.losses.append(torch.stack(recent).mean(0))
        found.distances.append(total_variation(logits_at(networks, grid, len(seeds)), target))
        recent = []
        if checkpoint is not None:
            keep(networks, optimizer, found, checkpoint)
    found.logits = logits_at(networks, grid, len(seeds))
    return found


class Feed:
    """The batches of one seed: shuffled passes over its positives and over its negatives (N, D)."""

    def __init__(self, positives: Tensor, negatives: Tensor, seed: int, batch: int) -> None:
        self.points, self.size = (positives, negatives), batch
        self.passes = [
            Passes(torch.arange(len(points)), seed, kind)
            for points, kind in zip(self.points, ("positives", "negatives"), strict=True)
        ]

    def batch(self, update: int) -> list[Tensor]:
        """Positives and negatives, (batch, D) each."""
        first, size = update * self.size, self.size
        return [points[passes.take(first, size)] for points, passes in zip(self.points, self.passes, strict=True)]


def train_step(
    networks: Networks,
    optimizer: torch.optim.Optimizer,
    own: Tensor,
    others: Tensor,
    seeds: Sequence[int],
    update: int,
    recipe: Recipe,
) -> Tensor:
    """One update of all networks on positives and negatives (S, M, D); the losses (S, 2), detached, on the CPU."""
    moved = others if update < recipe.warmup else perturbed(networks, others, seeds, update, recipe)
    x = torch.cat([torch.cat([own, own]), torch.cat([moved, others])], 1)
    optimizer.zero_grad(set_to_none=True)
    found = losses(*networks(x).split([own.shape[1], others.shape[1]], 1))
    if not bool(found.isfinite().all()):
        raise UserError(f"update {update + 1}: the loss is no longer finite; lower --lr")
    found.sum().backward()
    optimizer.step()
    return found.detach().cpu().view(len(KINDS), -1).T


def perturbed(networks: Networks, x: Tensor, seeds: Sequence[int], update: int, recipe: Recipe) -> Tensor:
    """x (S, M, D), each point moved within its ball and [0, 1]^D so that the logit of the seed's first network rises,
    from a uniform start; the last iterate.
    """
    ball, flat = Linf(recipe.eps), x.flatten(0, 1)[:, None, None]  # points as images of one row
    streams = [BatchStream(generator(seed, "start", update), x.shape[1]) for seed in seeds]
    start = torch.cat([ball.offset(x[i][:, None, None], draws) for i, draws in enumerate(streams)])

    def value(points: Tensor) -> Tensor:
        logits: Tensor = networks(points.view(x.shape))
        return logits.flatten()

    with frozen(networks):
        moved = climb(value, flat, ball=ball, alpha=recipe.alpha, steps=recipe.steps, rule=recipe.rule, start=start)
    return moved.view(x.shape)


@torch.no_grad()
def logits_at(networks: Networks, points: Tensor, seeds: int) -> Tensor:
    """(S, 2, M) logits at points (M, D), on the CPU; UserError where one is not finite."""
    device, count = networks.biases[0].device, len(KINDS) * seeds
    parts = [networks(part.to(device).expand(count, *part.shape)).cpu() for part in points.split(AT_ONCE)]
    logits = torch.cat(parts, 1)
    if not bool(logits.isfinite().all()):
        raise UserError("the logits on the grid are no longer finite; lower --lr")
    return logits.view(len(KINDS), seeds, len(points)).transpose(0, 1)


def gibbs(logits: Tensor) -> Tensor:
    """exp(z) / Z over the last axis, in double precision: each point's share (Eq. 7)."""
    return logits.double().softmax(-1)


def total_variation(logits: Tensor, target: Tensor) -> Tensor:
    """(...,) in [0, 1]: half the sum of |exp(z) / Z − target| over the last axis; `target` sums to 1."""
    return (gibbs(logits) - target.double()).abs().sum(-1) / 2


def keep(networks: Networks, optimizer: torch.optim.Optimizer, found: Trained, checkpoint: Checkpoint) -> None:
    """Save the state after a check."""
    tensors = {"losses": torch.stack(found.losses), "distances": torch.stack(found.distances)}
    checkpoint.save({"networks": networks}, optimizer, {"updates": found.updates}, tensors)


def resumed(networks: Networks, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint | None) -> Trained | None:
    """Load what `keep` saved; None where there is nothing."""
    tensors: dict[str, Tensor] = {}
    facts = checkpoint.restore({"networks": networks}, optimizer, tensors) if checkpoint else None
    if facts is None:
        return None
    return Trained(facts["updates"], list(tensors["losses"]), list(tensors["distances"]), torch.empty(0))
