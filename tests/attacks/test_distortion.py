from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.distortion import FREE, Distortion, Options, distort
from robustgen.attacks.first_order import RULES, Rule, climb
from robustgen.errors import UserError

Pair = tuple[Tensor, Tensor]


class Planes(nn.Module):
    """Logits 10 (w_k·(x − 1/2)) + b_k of 1x2x3 images; class 0's is the constant b_0."""

    def __init__(self, *bias: float) -> None:
        super().__init__()
        weight = torch.randn(len(bias), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        weight[0] = 0
        self.weight = nn.Parameter(10 * nn.functional.normalize(weight))
        self.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float64))
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return nn.functional.linear(x.flatten(1) - 0.5, self.weight, self.bias)


def grey(n: int = 5) -> Pair:
    """Images near the middle of the box, all of class 0."""
    x = 0.45 + 0.1 * torch.rand(n, 1, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, torch.zeros(n, dtype=torch.long)


def options(rule: Rule = "steepest", **changed: Any) -> Options:
    chosen: dict[str, Any] = {"depth": 14, "steps": 150, "alpha": 0.01, "c_high": 400.0, "rule": rule}
    return Options(**(chosen | changed))


def by_grid(detectors: nn.Module, x: Tensor, y: Tensor, threshold: float, o: Options, cs: list[float]) -> Tensor:
    """(N,) distances of the nearest error over the iterates of all c, one climb each, written apart."""
    found = torch.full((len(x),), math.inf, dtype=x.dtype)
    for c in cs:

        def value(there: Tensor, c: float = c) -> Tensor:
            z = detectors(there)
            others: Tensor = z.scatter(1, y[:, None], -math.inf).amax(1)
            return others - c * (there - x).square().sum((1, 2, 3))

        def look(_: int, there: Tensor) -> None:
            with torch.no_grad():
                top, k = detectors(there).max(1)
            length = (there - x).flatten(1).norm(dim=1)
            error = (k != y) & (top > threshold)
            found[error] = torch.minimum(found, length)[error]

        climb(value, x, ball=FREE, alpha=o.alpha, steps=o.steps, rule=o.rule, callback=look)
    return found


@pytest.mark.parametrize("rule", RULES)
def test_one_plane_has_a_known_distance(rule: Rule) -> None:
    """The nearest error lies straight up the plane, where it reaches T."""
    (x, y), h = grey(), Planes(-9.0, -2.0)
    found = distort(h, x, y, 1.0, options(rule, depth=10, steps=120, alpha=0.006))
    expected = (1 - h(x)[:, 1]).detach() / 10
    assert 0.2 < float(expected.min()) < 0.4
    torch.testing.assert_close(found.distance, expected, rtol=0.04, atol=0)
    assert (found.distance > expected).all()
    length = (found.adversarial - x).flatten(1).norm(dim=1)
    torch.testing.assert_close(length, found.distance)
    assert (h(found.adversarial)[:, 1] > 1).all()
    if rule == "adam":  # at the weight c the summit is |w| / 2c away; the steepest way up passes every distance
        torch.testing.assert_close(found.c, 10 / (2 * expected), rtol=0.2, atol=0)


@pytest.mark.parametrize("rule", RULES)
def test_binary_search_finds_what_a_grid_of_weights_does(rule: Rule, toy: nn.Module, images: Pair) -> None:
    for h, (x, y), threshold, high in ((Planes(0, -2, -2.5, -3), grey(), 1.0, 40.0), (toy, images, 0.7, 8.0)):
        o = options(rule, depth=8, steps=30, alpha=0.03, c_high=high)
        found = distort(h, x, y, threshold, o).distance
        grid = by_grid(h, x, y, threshold, o, torch.linspace(0, high, 25).tolist())
        assert torch.equal(found.isfinite(), grid.isfinite())
        assert grid.isfinite().any()
        # grid points and the search's stand apart; neither is nearer than the other by much
        torch.testing.assert_close(found, grid, rtol=0.06, atol=0.01)


def test_batch_of_one_equals_batch_of_many(toy: nn.Module, images: Pair) -> None:
    """Images whose searches end at different depths do not disturb one another."""
    x, y = images
    y = torch.cat([(y[:3] + 1) % 4, y[3:]])  # three are errors from the start
    o = options("adam", depth=5, steps=12, alpha=0.05, c_high=8.0)
    threshold = float(toy(x).detach().amax(1).median())
    whole = distort(toy, x, y, threshold, o)
    assert len(set(whole.c.tolist())) > 3
    for i in range(len(x)):
        one = distort(toy, x[i : i + 1], y[i : i + 1], threshold, o)
        for name in ("distance", "c", "adversarial"):
            torch.testing.assert_close(
                getattr(one, name), getattr(whole, name)[i : i + 1], atol=1e-9, rtol=0, equal_nan=True
            )


def test_errors_from_the_start_have_distance_zero() -> None:
    """Misclassified, and accepted; not misclassified alone."""
    (x, _), h = grey(4), Planes(0.0, -5.0, -5.0)
    y = torch.tensor([1, 2, 0, 0])
    found = distort(h, x, y, -0.5, options(steps=0))
    assert found.distance.tolist() == [0, 0, math.inf, math.inf]
    assert found.c.isnan().all()
    assert torch.equal(found.adversarial, x)
    assert h.passes == 2  # the images, then those two once: where c fails at its lower end nothing is left to try
    assert distort(h, x, y, 0.0, options(steps=0)).distance.tolist() == [math.inf] * 4  # strictly above T


def test_only_the_box_bounds_the_search() -> None:
    (x, y), h = grey(), Planes(-90.0, -2.0)
    highest = 10 * float((h.weight.detach()[1] / 10).abs().sum()) / 2 - 2  # in the corner of the box
    found = distort(h, x, y, highest - 0.01, options(alpha=0.3, steps=30))
    assert found.distance.isfinite().all()
    assert ((found.adversarial - x).abs().amax((1, 2, 3)) > 0.4).all()
    beyond = distort(h, x, y, highest + 0.01, options(alpha=0.3, steps=30))
    assert beyond.distance.tolist() == [math.inf] * len(x)
    assert torch.equal(beyond.adversarial, x)


def test_more_weights_never_find_less(toy: nn.Module, images: Pair) -> None:
    x, y = images
    search: dict[str, Any] = {"rule": "adam", "steps": 15, "alpha": 0.05, "c_high": 8.0}
    seen: list[tuple[int, int]] = []
    runs: list[Distortion] = []
    for depth in (1, 4, 8):
        seen.clear()
        runs.append(distort(toy, x, y, 0.5, options(depth=depth, **search), progress=lambda *state: seen.append(state)))
    assert all((b.distance <= a.distance).all() for a, b in pairwise(runs))
    assert (runs[-1].distance < runs[0].distance).any()
    assert [tried for tried, _ in seen] == list(range(8))
    standing = [n for _, n in seen]
    assert standing == sorted(standing, reverse=True)


def test_network_is_left_as_it_was(toy: nn.Module, images: Pair) -> None:
    x, y = images
    before = x.clone()
    toy.train()
    statistics = toy.get_buffer("norm.running_mean").clone()
    distort(toy, x, y, 0.5, options(depth=2, steps=3))
    assert toy.training
    assert torch.equal(toy.get_buffer("norm.running_mean"), statistics)
    assert all(p.grad is None for p in toy.parameters())
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depth": 0}, "a search needs depth >= 1, steps >= 0 and alpha > 0"),
        ({"steps": -1}, "a search needs depth >= 1, steps >= 0 and alpha > 0"),
        ({"alpha": 0.0}, "a search needs depth >= 1, steps >= 0 and alpha > 0"),
        ({"rule": "newton"}, "unknown rule 'newton'"),
        ({"c": 9.0, "c_high": 8.0}, "a search needs 0 <= c_low <= c <= c_high, not 0.0, 9.0, 8.0"),
        ({"c_low": -1.0}, "a search needs 0 <= c_low <= c <= c_high"),
        ({"c_high": math.nan}, "a search needs 0 <= c_low <= c <= c_high"),
    ],
)
def test_what_the_user_can_mend(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        options(**changed)


def test_what_is_no_image_or_no_logit_is_refused() -> None:
    x, y = grey()
    with pytest.raises(UserError, match=r"image values must lie in \[0, 1\]"):
        distort(Planes(0, 0), 255 * x, y, 0.0, options())
    with pytest.raises(UserError, match="what the attack raises is NaN for 5 of 5 images"):
        distort(Planes(-1, math.nan), x, y, 0.0, options(steps=1))
