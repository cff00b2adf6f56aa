from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.ascent import ascend
from robustgen.attacks.ball import L2, Ball, Linf, ball_of
from robustgen.attacks.first_order import RULES, Rule, better, check_ascent, check_rule, climb, climb_best
from robustgen.attacks.objectives import margin
from robustgen.errors import UserError

Pair = tuple[Tensor, Tensor]
BALLS = [Linf(0.1), L2(0.4), L2(math.inf), Linf(math.inf)]


def picture(*pixels: float) -> Tensor:
    return torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, -1)


def total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def starts(x: Tensor, ball: Ball) -> Tensor | None:
    """Offsets within the unit ball; none in a ball without bounds."""
    draws = torch.rand(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    return None if math.isinf(ball.eps) else (2 * draws - 1) / (1 if isinstance(ball, Linf) else x[0].numel() ** 0.5)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("rule", RULES)
def test_images_stay_in_ball_and_box_and_rise(rule: Rule, ball: Ball, toy: nn.Module, images: Pair) -> None:
    x, y = images
    before = x.clone()
    found = climb(lambda x: margin(toy(x), y), x, ball=ball, alpha=0.02, steps=8, rule=rule, start=starts(x, ball))
    assert float(ball.distance(found, x).max()) <= ball.eps + ball.tolerance
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert (margin(toy(found), y) > margin(toy(x), y)).all()
    assert torch.equal(x, before)
    assert not found.requires_grad


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("rule", RULES)
def test_batch_of_one_equals_batch_of_many(rule: Rule, ball: Ball, toy: nn.Module, images: Pair) -> None:
    x, y = images
    start = starts(x, ball)

    def run(rows: slice) -> Tensor:
        offset = None if start is None else start[rows]
        return climb(
            lambda x: margin(toy(x), y[rows]), x[rows], ball=ball, alpha=0.03, steps=6, rule=rule, start=offset
        )

    whole = run(slice(None))
    for i in range(len(x)):
        torch.testing.assert_close(run(slice(i, i + 1)), whole[i : i + 1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.4)])
def test_steepest_is_the_ascent_of_the_other_attacks(ball: Ball, toy: nn.Module, images: Pair) -> None:
    x, y = images
    start = starts(x, ball)
    found = climb(lambda x: margin(toy(x), y), x, ball=ball, alpha=0.03, steps=5, start=start)
    other = ascend(toy, x, lambda logits: margin(logits, y), ball=ball, alpha=0.03, steps=5, start=start)
    assert torch.equal(found, other)


def test_adam_is_that_of_torch_with_a_projection_after_each_step(toy: nn.Module, images: Pair) -> None:
    (x, y), ball = images, Linf(0.05)
    there = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([there], lr=0.02, maximize=True)
    for _ in range(12):
        optimizer.zero_grad()
        margin(toy(there), y).sum().backward()
        optimizer.step()
        there.data = ball.project(there.data, x)
    for _ in range(2):  # a second call begins afresh
        found = climb(lambda x: margin(toy(x), y), x, ball=ball, alpha=0.02, steps=12, rule="adam")
        torch.testing.assert_close(found, there.detach(), atol=1e-9, rtol=0)


def test_adam_by_hand() -> None:
    """With a constant gradient every step is α, whatever the gradient's size; without one there is none."""
    weight = picture(1000, -1e-3, 0)
    x = picture(0.5, 0.5, 0.5)
    found = climb(lambda x: total(x * weight), x, ball=Linf(1.0), alpha=0.02, steps=5, rule="adam")
    torch.testing.assert_close(found, picture(0.6, 0.4, 0.5), atol=1e-4, rtol=0)  # 1e-8 counts beside 1e-3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ball", [L2(math.inf), Linf(math.inf)])
def test_without_bounds_the_box_is_the_only_one(rule: Rule, ball: Ball) -> None:
    weight = picture(2, -1, 0.5, 0)
    x = picture(0.3, 0.9, 1, 0.4)
    found = climb(lambda x: total(x * weight), x, ball=ball, alpha=0.5, steps=9, rule=rule)
    torch.testing.assert_close(found, picture(1, 0, 1, 0.4))


@pytest.mark.parametrize("rule", RULES)
def test_a_ball_of_radius_zero_leaves_the_image(rule: Rule, toy: nn.Module, images: Pair) -> None:
    x, y = images
    for norm in ("linf", "l2"):
        ball = ball_of(norm, 0.0)
        found = climb(
            lambda x: margin(toy(x), y), x, ball=ball, alpha=0.1, steps=3, rule=rule, start=torch.ones_like(x)
        )
        torch.testing.assert_close(found, x, atol=1e-15, rtol=0)


def test_start_is_in_units_of_the_radius_and_clipped() -> None:
    found = climb(total, picture(0.5, 0.01), ball=Linf(0.1), alpha=1, steps=0, start=picture(1, -1))
    torch.testing.assert_close(found, picture(0.6, 0))
    x = picture(0.5, 0.01)
    climb(total, x, ball=Linf(0.1), alpha=1, steps=0).add_(1)
    assert torch.equal(x, picture(0.5, 0.01))


def test_callback_sees_every_iterate() -> None:
    seen: list[tuple[int, float]] = []
    with torch.no_grad():  # may be switched off around it
        climb(
            total,
            picture(0.5),
            ball=Linf(0.1),
            alpha=0.04,
            steps=4,
            callback=lambda step, x: seen.append((step, round(float(x), 4))),
        )
    assert seen == [(0, 0.5), (1, 0.54), (2, 0.58), (3, 0.6), (4, 0.6)]


def test_best_is_the_iterate_of_the_largest_score() -> None:
    """Up a line from four places; the score has its summit on the way, at the start, at the end, or nowhere."""
    x = picture(0.0, 0.5, 0.0, 0.2).view(4, 1, 1, 1)
    summit = torch.tensor([0.2, 0.1, 0.9, 0.0], dtype=torch.float64)

    def objective(x: Tensor) -> Pair:
        score = -(x.flatten() - summit).abs()
        score = torch.where(torch.arange(len(x)) == 3, -torch.inf, score)
        return total(x), score.round(decimals=6)

    found, score = climb_best(objective, x, ball=Linf(1.0), alpha=0.1, steps=5)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.2, 0.5, 0.5, 0.2], dtype=torch.float64))
    torch.testing.assert_close(score, torch.tensor([0, -0.4, -0.4, -math.inf], dtype=torch.float64))
    start = torch.full_like(x, 0.25)
    found, score = climb_best(objective, x, ball=Linf(1.0), alpha=0.1, steps=0, start=start)
    torch.testing.assert_close(found, x + 0.25)


@pytest.mark.parametrize("rule", RULES)
def test_best_walks_as_climb_does(rule: Rule, toy: nn.Module, images: Pair) -> None:
    (x, y), ball = images, L2(0.4)
    path: list[Tensor] = []
    climb(
        lambda x: margin(toy(x), y),
        x,
        ball=ball,
        alpha=0.1,
        steps=6,
        rule=rule,
        start=starts(x, ball),
        callback=lambda _, x: path.append(x),
    )

    def objective(x: Tensor) -> Pair:
        z = toy(x)
        return margin(z, y), -z[:, 0]

    found, score = climb_best(objective, x, ball=ball, alpha=0.1, steps=6, rule=rule, start=starts(x, ball))
    scores = torch.stack([-toy(images)[:, 0] for images in path]).detach()
    torch.testing.assert_close(score, scores.amax(0))
    torch.testing.assert_close(found, torch.stack(path)[scores.argmax(0), torch.arange(len(x))])


def test_of_equal_scores_the_first_stays() -> None:
    images, others = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    found, score = better(images, torch.tensor([1.0, 1, -math.inf]), others, torch.tensor([1.0, 2, -math.inf]))
    assert found.amax((1, 2, 3)).tolist() == [0, 1, 0]
    assert score.tolist() == [1, 2, -math.inf]
    flat = climb_best(lambda x: (total(x), torch.zeros(1)), picture(0.5), ball=Linf(0.1), alpha=0.1, steps=2)
    assert torch.equal(flat[0], picture(0.5))


def test_what_the_user_can_mend() -> None:
    for rule in RULES:
        check_rule(rule)
    with pytest.raises(UserError, match="unknown rule 'sgd'; known are steepest, adam"):
        check_rule("sgd")
    x = picture(0.5, 0.5)
    with pytest.raises(UserError, match="unknown rule 'newton'"):
        climb(total, x, ball=Linf(0.1), alpha=0.1, steps=1, rule="newton")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a ball without bounds has no random start; start at the image, or give eps"):
        climb(total, x, ball=L2(math.inf), alpha=0.1, steps=1, start=torch.zeros_like(x))
    both = torch.cat([x, x])

    def hole(x: Tensor) -> Pair:
        return total(x) * torch.tensor([1, math.nan]), total(x)

    with pytest.raises(UserError, match="what the attack raises is NaN for 1 of 2 images; train the attacked networks"):
        climb_best(hole, both, ball=Linf(0.1), alpha=0.1, steps=0)
    with pytest.raises(UserError, match="NaN for 1 of 2"):
        climb_best(lambda x: hole(x)[::-1], both, ball=Linf(0.1), alpha=0.1, steps=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": -0.1}, "eps >= 0, alpha > 0 and steps >= 0, not eps -0.1, alpha 0.1 and steps 3"),
        ({"eps": float("nan")}, "not eps nan"),
        ({"alpha": 0.0}, "alpha 0 and"),
        ({"steps": -1}, "steps -1"),
        ({"restarts": 0}, "restarts is 0; give at least 1 start"),
        ({"restarts": 2, "random_start": False}, "2 restarts from the image itself are all the same; start at random"),
        ({"norm": "l1"}, "unknown norm 'l1'"),
        ({"rule": "momentum"}, "unknown rule 'momentum'"),
    ],
)
def test_settings_that_make_no_attack(changes: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"norm": "linf", "eps": 0.3, "rule": "adam", "steps": 3, "alpha": 0.1}
    check_ascent(**settings)
    check_ascent(**{**settings, "eps": 0.0, "steps": 0, "restarts": 4})
    with pytest.raises(UserError, match=message):
        check_ascent(**{**settings, **changes})
