"""Random defences to attack, and outcomes to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustgen import models
from robustgen.attacks.eot import Outcome
from robustgen.defenses.langevin import LangevinDefense
from robustgen.seeding import ImageStreams

Pair = tuple[Tensor, Tensor]


class Fake(nn.Module):
    """A random defence around a classifier: `transform(x, draws, streams)` is its purification, logits are averaged."""

    draws = 3

    def __init__(self, classifier: nn.Module, transform: Callable[[Tensor, int, ImageStreams], Tensor]) -> None:
        super().__init__()
        self.classifier = classifier
        self.transform = transform
        self.largest = 0  # most replicates asked for at once

    def forward(self, x: Tensor) -> Tensor:
        streams = ImageStreams(0, range(len(x)))
        logits: Tensor = self.classifier(self.purify_draws(x, self.draws, streams).flatten(0, 1))
        return self.combine(logits.unflatten(0, (len(x), self.draws)))

    def purify(self, x: Tensor) -> Tensor:
        return self.purify_draws(x, 1, ImageStreams(0, range(len(x))))[:, 0]

    @torch.no_grad()
    def purify_draws(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        self.largest = max(self.largest, len(x) * draws)
        return self.unrolled(x, draws, streams)

    def unrolled(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        found = self.transform(x, draws, streams)
        assert found.shape == (len(x), draws, *x.shape[1:])
        return found

    def combine(self, logits: Tensor) -> Tensor:
        return logits.mean(1)


class Scored(Fake):
    """With a score that points to medium grey; the part of it that does not vanish tells images apart."""

    def score(self, x: Tensor) -> Tensor:
        return torch.sin(9 * x) * (0.5 - x)


def gaussian(sigma: float) -> Callable[[Tensor, int, ImageStreams], Tensor]:
    """x plus normal noise: a linear classifier's expected logits are those of x itself."""
    return lambda x, draws, streams: x[:, None] + sigma * streams.normal((draws, *x.shape[1:]))


def coin(chance: float) -> Callable[[Tensor, int, ImageStreams], Tensor]:
    """Replaces an image by a white one with probability `chance`, else by a black one."""

    def toss(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        heads = (streams.uniform((draws, 1, 1, 1)) < chance).to(x)
        return heads.expand(-1, -1, *x.shape[1:])

    return toss


class Bright(nn.Module):
    """Class 0 for bright images, class 1 for dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        brightness = self.weight * x.flatten(1).mean(1)
        return torch.stack([brightness, 1 - brightness], 1)


class Margin(nn.Module):
    """Two classes whose logits are 0 and `margin` of the only pixel."""

    def __init__(self, margin: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.margin = margin
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        margin = self.weight * self.margin(x.flatten())
        return torch.stack([torch.zeros_like(margin), margin], 1)


class Limited(nn.Module):
    """A classifier whose memory holds so many images, with a graph a third of that."""

    def __init__(self, network: nn.Module, limit: int) -> None:
        super().__init__()
        self.network = network
        self.limit = limit
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > (self.limit // 3 if torch.is_grad_enabled() else self.limit):
            raise torch.OutOfMemoryError("out of memory")
        self.sizes.append(len(x))
        logits: Tensor = self.network(x)
        return logits


def langevin(classifier: nn.Module, arch: str, **parameters: Any) -> LangevinDefense:
    """The real defence with an untrained energy model for 1x8x8 images, in double precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.config_type(arch)(size=8, channels=1, **parameters)
        return LangevinDefense(classifier, models.build(config), steps=5).double().eval()


def same(one: Outcome, other: Outcome) -> None:
    """Assert that two outcomes are equal, up to how a sum is rounded."""
    for name in (f.name for f in fields(Outcome)):
        if name == "adversarial":
            np.testing.assert_allclose(one.adversarial, other.adversarial, atol=1e-12)
        else:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def part(outcome: Outcome, rows: Any) -> Outcome:
    return Outcome(**{f.name: getattr(outcome, f.name)[rows] for f in fields(Outcome)})


@pytest.fixture
def noisy(toy: nn.Module) -> Scored:
    return Scored(toy, gaussian(0.05))


@pytest.fixture
def eights() -> Pair:
    x = torch.rand(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return x, torch.arange(6) % 4
