from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.attacks.bpda_eot import BpdaEot
from robustgen.attacks.eot import Climb
from robustgen.attacks.joint import Joint, JointFull, JointScore
from robustgen.errors import UserError
from robustgen.seeding import ImageStreams

from .conftest import Fake, Pair, Scored, gaussian, same

KINDS = [JointScore, JointFull]


def beginning(attack: Joint, x: Tensor, y: Tensor) -> Climb:
    streams = (ImageStreams(seed, range(len(x))) for seed in (3, 4))
    draws, fresh = streams
    return attack.climb(rows=torch.arange(len(x)), x=x, y=y, state=x, draws=draws, fresh=fresh)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", ["purified", "image"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_step_is_that_of_table_1(noisy: Scored, images: Pair, kind: type[Joint], at: str, norm: str) -> None:
    x, y = images
    attack = kind(noisy, eps=0.1, step=0.3, norm=norm, draws=4, weight=0.7, at=at, expectation="mean")
    climb = beginning(attack, x, y)
    suspects = attack.propose(climb, True)

    purified = noisy.purify_draws(x, 4, ImageStreams(3, range(11)))
    leaf = (purified if at == "purified" else x[:, None]).clone().requires_grad_()
    losses = F.cross_entropy(noisy.classifier(leaf.flatten(0, 1)), y.repeat_interleave(leaf.shape[1]), reduction="sum")
    (gradient,) = torch.autograd.grad(losses, leaf)
    pull = noisy.score(x) if kind is JointScore else purified.mean(1) - x

    def unit(v: Tensor) -> Tensor:
        return v.sign() if norm == "linf" else v / v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    step = 0.7 * unit(pull) + 0.3 * unit(gradient.sum(1))
    torch.testing.assert_close(attack.direction(climb), step)
    assert torch.equal(
        suspects, noisy.combine(noisy.classifier(purified.flatten(0, 1)).unflatten(0, (11, 4))).argmax(1) != y
    )
    attack.move(climb)
    torch.testing.assert_close(climb.state, attack.ball.project(x + 0.03 * step, x))


@pytest.mark.parametrize("kind", KINDS)
def test_without_weight_it_is_bpda(noisy: Scored, images: Pair, kind: type[Joint]) -> None:
    options: dict[str, Any] = {"eps": 0.1, "steps": 6, "draws": 3, "verify": 9, "expectation": "vote"}
    bpda = BpdaEot(noisy, **options).evaluate(*images)
    same(kind(noisy, weight=0, **options).evaluate(*images), bpda)
    assert bpda.broken.any()


def test_with_all_the_weight_it_goes_where_the_purifier_goes(noisy: Scored, images: Pair) -> None:
    x, y = images
    attack = JointScore(noisy, eps=0.1, steps=1, step=1.0, draws=2, verify=9, weight=1)
    attack.start = lambda x, streams: x  # type: ignore[method-assign]
    outcome = attack.evaluate(x, y)
    moved = ~outcome.broken & outcome.natural_correct
    expected = (x + 0.1 * noisy.score(x).sign()).clamp(0, 1)
    assert moved.any()
    torch.testing.assert_close(torch.from_numpy(outcome.adversarial)[moved], expected[moved])


def test_needs_a_score_where_it_takes_one(noisy: Scored) -> None:
    unscored = Fake(noisy.classifier, gaussian(0.05))
    with pytest.raises(UserError, match="Fake has no score; joint_score attacks a random defence with a score"):
        JointScore(unscored)
    assert JointFull(unscored).options.weight == 0.5


@pytest.mark.parametrize("options", [{"weight": -0.1}, {"weight": 1.1}, {"at": "noise"}])
def test_options_out_of_range(noisy: Scored, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"joint_full needs weight in \[0, 1\] and at purified or image"):
        JointFull(noisy, **options)


def test_score_that_is_not_finite_is_an_error_of_the_user(noisy: Scored, images: Pair) -> None:
    class Lost(Scored):
        def score(self, x: Tensor) -> Tensor:
            return super().score(x).masked_fill(torch.arange(len(x)).view(-1, 1, 1, 1) == 1, torch.nan)

    with pytest.raises(UserError, match="the scores are NaN or infinite for 1 of 9 images; train the score network"):
        JointScore(Lost(noisy.classifier, gaussian(0.05)), verify=9).evaluate(*images)
