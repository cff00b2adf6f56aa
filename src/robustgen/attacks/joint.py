"""The joint attacks on a purifier (Yoon, Hwang & Lee 2021, Table 1): mislead the classifier, please the purifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from robustgen.attacks.bpda_eot import BpdaEot, ExpectationOptions
from robustgen.attacks.eot import Climb
from robustgen.errors import UserError
from robustgen.replicates import check_finite


@dataclass(frozen=True, kw_only=True)
class Options(ExpectationOptions):
    name: str = "joint"
    weight: float = 0.5  # ε of Table 1: the purifier's share of a step; 0 is BPDA
    # where the loss's gradient is taken: at the purified draws, which is what "+EOT" means and what a defence fears,
    # or at the image itself, as Table 1 has it to the letter
    at: Literal["purified", "image"] = "purified"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight <= 1 or self.at not in ("purified", "image"):
            raise UserError(f"{self.name} needs weight in [0, 1] and at purified or image, not {self}")


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    name: Literal["joint_score"] = "joint_score"


@dataclass(frozen=True, kw_only=True)
class FullOptions(Options):
    name: Literal["joint_full"] = "joint_full"


@dataclass(kw_only=True)
class JointClimb(Climb):
    pull: Tensor = field(init=False)  # (N, C, H, W) where the purifier would have the images go


class Joint(BpdaEot, ABC):
    """Steps along weight · sign(pull) + (1 − weight) · sign(∇L); unit vectors stand for the signs in L2."""

    Options: type[Any] = Options

    @abstractmethod
    def pull(self, state: Tensor, purified: Tensor) -> Tensor:
        """Where the purifier would have `state` (N, C, H, W) go; `purified` (N, H, C, H, W) are draws of it."""

    def climb(self, **images: Any) -> JointClimb:
        return JointClimb(**images)

    def propose(self, climb: Climb, wanted: bool) -> Tensor:
        assert isinstance(climb, JointClimb)
        purified = self.model.purify_draws(climb.state, self.options.draws, climb.draws).detach()
        if wanted and self.options.at == "purified":
            logits, climb.gradient = self.bpda(purified, climb.y)
        else:
            with torch.no_grad():
                logits = self.combined(purified)
        if wanted and self.options.at == "image":
            _, climb.gradient = self.bpda(climb.state[:, None], climb.y)
        if wanted:
            climb.pull = self.pull(climb.state, purified)
        return logits.argmax(1) != climb.y

    def direction(self, climb: Climb) -> Tensor:
        assert isinstance(climb, JointClimb)
        weight = self.options.weight
        step: Tensor = weight * self.ball.ascent(climb.pull) + (1 - weight) * self.ball.ascent(climb.gradient)
        return step


class JointScore(Joint):
    """Joint attack (score) in 'Adversarial Purification with Score-based Generative Models' (arXiv 2106.06041).

    The pull is the score s(x) of a `RandomDefense` that has one: an image whose score is small is hardly purified.
    Options: those of BPDA+EOT without gradient; weight, at. L∞ and L2.
    Example: `JointScore(defense, eps=8 / 255, expectation="mean").evaluate(images, labels).broken`.
    """

    Options = ScoreOptions
    needs = (*BpdaEot.needs, "score")

    def pull(self, state: Tensor, purified: Tensor) -> Tensor:
        del purified
        score: Tensor = self.model.score(state).detach()
        check_finite(score, "scores", "; train the score network again")
        return score


class JointFull(Joint):
    """Joint attack (full), of the same paper: the pull is f(x) − x, f(x) being the mean of the draws' purified images.

    Options: those of BPDA+EOT without gradient; weight, at. L∞ and L2.
    Example: `JointFull(defense, eps=8 / 255, expectation="mean").evaluate(images, labels).broken`.
    """

    Options = FullOptions

    def pull(self, state: Tensor, purified: Tensor) -> Tensor:
        return purified.mean(1) - state
