"""Norm balls around images: all that an iterative attack knows about its norm, as pure functions of a radius.

A `Ball` says which step of length 1 climbs fastest, how to come back into ball and box, where a uniform start lies and
how far two images are apart. An attack that is written with one serves every norm.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from robustgen.errors import UserError

Norm = Literal["linf", "l2"]

ROUNDING = 1e-6  # float32 rounding of x + δ, pixel units


class Draws(Protocol):
    """Random numbers for a batch: one stream per image (`ImageStreams`) or one for all (`BatchStream`)."""

    def uniform(self, shape: Sequence[int], device: torch.device | str, /) -> Tensor: ...
    def normal(self, shape: Sequence[int], device: torch.device | str, /) -> Tensor: ...


@dataclass(frozen=True)
class Ball(ABC):
    """The points of [0, 1]^D within `eps` (pixel units) of an image. Tensors are images (N, C, H, W)."""

    eps: float

    @abstractmethod
    def ascent(self, gradient: Tensor) -> Tensor:
        """Per image the step v, ‖v‖ <= 1, that maximises v·gradient; zero where the gradient is zero."""

    @abstractmethod
    def project(self, adversarial: Tensor, x: Tensor) -> Tensor:
        """`adversarial` brought back into the ball around x, then into [0, 1]."""

    @abstractmethod
    def offset(self, x: Tensor, draws: Draws) -> Tensor:
        """Offsets shaped as x, uniform in the ball of radius 1."""

    @abstractmethod
    def distance(self, adversarial: Tensor, x: Tensor) -> Tensor:
        """(N,) norms of adversarial − x."""

    @property
    @abstractmethod
    def tolerance(self) -> float:
        """By how much rounding may take the distance beyond eps."""

    def check(self, adversarial: Tensor, x: Tensor, who: str = "the attack") -> None:
        """Assert, naming whose work it is, that every image of `adversarial` lies in the ball around that of x."""
        distance = float(self.distance(adversarial, x).max())
        assert distance <= self.eps + self.tolerance, f"{who} left its ball: {distance} > {self.eps}"


class Linf(Ball):
    """|δ_i| <= eps for every pixel i."""

    def ascent(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def project(self, adversarial: Tensor, x: Tensor) -> Tensor:
        return torch.clamp(adversarial, (x - self.eps).clamp_(min=0), (x + self.eps).clamp_(max=1))

    def offset(self, x: Tensor, draws: Draws) -> Tensor:
        return draws.uniform(x.shape[1:], x.device) * 2 - 1

    def distance(self, adversarial: Tensor, x: Tensor) -> Tensor:
        return (adversarial - x).abs().flatten(1).amax(1)

    @property
    def tolerance(self) -> float:
        return ROUNDING


class L2(Ball):
    """√(Σ δ_i²) <= eps, the sum over all pixels and channels of an image."""

    def ascent(self, gradient: Tensor) -> Tensor:
        # scaled to 1 first: the squares of a nearly saturated loss's gradient would all be 0
        tiny = torch.finfo(gradient.dtype).tiny
        scaled = gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_(min=tiny)
        return scaled / _norm(scaled).clamp_(min=1)  # it is 1 at least, or the gradient is 0

    def project(self, adversarial: Tensor, x: Tensor) -> Tensor:
        # The box comes second and can only shorten δ, as x lies in it. Points inside stay to the last bit.
        delta = adversarial - x
        norm = _norm(delta)
        outside = norm > self.eps
        scale = self.eps / norm.where(outside, 1)
        return torch.where(outside, x + scale * delta, adversarial).clamp_(0, 1)

    def offset(self, x: Tensor, draws: Draws) -> Tensor:
        direction = self.ascent(draws.normal(x.shape[1:], x.device))
        volume = draws.uniform((), x.device).view(-1, 1, 1, 1)  # share of the ball's volume within the radius
        return direction * volume ** (1 / x[0].numel())

    def distance(self, adversarial: Tensor, x: Tensor) -> Tensor:
        return _norm(adversarial - x).flatten()

    @property
    def tolerance(self) -> float:
        return ROUNDING + 1e-5 * self.eps  # the second part for the norm, a sum over many pixels


BALLS: dict[str, type[Ball]] = {"linf": Linf, "l2": L2}


def ball_of(norm: str, eps: float) -> Ball:
    """The ball of radius `eps` in the norm called `norm`; UserError for an unknown one."""
    if norm not in BALLS:
        raise UserError(f"unknown norm {norm!r}; known are {', '.join(BALLS)}")
    return BALLS[norm](eps)


def check_radius(norm: str, eps: float) -> None:
    """Raise UserError for an unknown norm, and for an L∞ radius in which every image lies: eps in bytes, as a rule."""
    ball_of(norm, eps)
    if norm == "linf" and eps > 1:
        raise UserError(f"eps is {eps:g}, but images are in [0, 1]; did you mean {eps:g}/255?")


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return norm
