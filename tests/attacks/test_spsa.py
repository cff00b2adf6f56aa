from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.spsa import SPSA
from robustgen.errors import UserError
from robustgen.seeding import ImageStreams

from .conftest import Fake, Pair, gaussian

DESIGN = torch.tensor(list(product((-1.0, 1.0), repeat=4)), dtype=torch.float64).view(16, 1, 2, 2)


class Sum(nn.Module):
    """Two classes; the second's logit is a function of the image, summed over its pixels."""

    def __init__(self, power: int, weight: Tensor) -> None:
        super().__init__()
        self.power = power
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        value = (self.weight * x**self.power / self.power).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(value), value], 1)


@pytest.fixture
def weight() -> Tensor:
    return torch.tensor([3.0, -1.0, 0.5, -0.01], dtype=torch.float64).view(1, 2, 2)


def estimate(attack: SPSA, x: Tensor, seed: int = 0) -> Tensor:
    return attack.estimate(x, torch.zeros(len(x), dtype=torch.long), ImageStreams(seed, range(len(x))))


@pytest.mark.parametrize("power", [1, 2])
def test_all_signs_give_the_gradient(weight: Tensor, power: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # exact for a quadratic too, since the two sides of a probe cancel its curvature; and each image keeps its queries
    monkeypatch.setattr(SPSA, "signs", lambda self, x, streams: DESIGN.repeat(len(x) // 16, 1, 1, 1))
    x = 0.2 + 0.6 * torch.rand(3, 1, 2, 2, dtype=torch.float64)
    attack = SPSA(Fake(Sum(power, weight), gaussian(0)), queries=32, delta=0.05, loss="cw")
    torch.testing.assert_close(estimate(attack, x), weight * x ** (power - 1))


def test_estimate_is_right_on_average_behind_noise(weight: Tensor) -> None:
    x = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    for draws in (1, 4):
        attack = SPSA(Fake(Sum(1, weight), gaussian(0.02)), queries=20_000, delta=0.1, loss="cw", query_draws=draws)
        # standard error: √(‖w‖² (1 + σ²/2δ² ...)/pairs), about 0.03
        torch.testing.assert_close(estimate(attack, x)[0], weight, rtol=0, atol=0.15)
    one, other = (estimate(SPSA(Fake(Sum(1, weight), gaussian(0.02)), queries=20), x, seed) for seed in (0, 1))
    assert not torch.equal(one, other)


def test_every_query_is_answered_by_other_draws_and_stays_in_the_box(noisy: Fake, images: Pair) -> None:
    x, y = images
    x = x.round()  # on the box's border
    seen: list[Tensor] = []
    asked: list[Tensor] = []

    def record(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        asked.append(x)
        seen.append(gaussian(1.0)(x, draws, streams) - x[:, None])
        return x[:, None] + seen[-1]

    attack = SPSA(Fake(noisy.classifier, record), queries=12, delta=0.3, query_draws=2, draws=4, batch=7)
    attack.estimate(x, y, ImageStreams(0, range(11)))
    draws = torch.cat([each.flatten(0, 1) for each in seen]).flatten(1)
    assert len(draws) == 11 * 12 * 2
    assert len(draws[:, :3].round(decimals=9).unique(dim=0)) == len(draws)
    points = torch.cat(asked)
    assert len(points) == 11 * 12
    assert float(points.min()) == 0
    assert float(points.max()) == 1
    assert [len(each) for each in asked] == [64, 64, 2, 2]  # the two sides of 66 probes, the fewest worth a call
    asked.clear()
    attack = SPSA(Fake(noisy.classifier, record), queries=12, delta=0.3, query_draws=2, draws=13, batch=10)
    attack.estimate(x, y, ImageStreams(0, range(11)))
    assert [len(each) for each in asked] == [65, 65, 1, 1]  # 130 replicates at once, as many as behind an attack step


def test_result_does_not_hang_on_how_queries_are_batched(noisy: Fake, images: Pair) -> None:
    x, y = images
    whole, parts, alone = (
        SPSA(noisy, queries=10, draws=3, batch=batch).estimate(x, y, ImageStreams(0, range(11))) for batch in (64, 5, 1)
    )
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-12)
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-12)


def test_signs_are_fair_and_drawn_per_image(noisy: Fake) -> None:
    x = torch.zeros(500, 1, 4, 4)
    found = SPSA(noisy).signs(x, ImageStreams(0, range(500)))
    assert set(found.unique().tolist()) == {-1, 1}
    assert float(found.mean()) == pytest.approx(0, abs=0.05)
    assert torch.equal(SPSA(noisy).signs(x[:2], ImageStreams(0, [17, 3])), found[[17, 3]])


def test_it_breaks_without_a_gradient(images: Pair, toy: nn.Module) -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.toy = toy

        def forward(self, x: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            logits: Tensor = self.toy(x)
            return logits

    defense = Fake(Opaque(), gaussian(0.02))
    outcome = SPSA(defense, eps=0.15, steps=8, queries=60, draws=3, verify=31).evaluate(*images)
    assert outcome.broken.sum() >= 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 0}, "even number of queries"),
        ({"queries": 5}, "even number of queries"),
        ({"delta": 0}, "delta > 0"),
        ({"query_draws": 0}, "query_draws >= 1"),
        ({"loss": "hinge"}, "unknown loss 'hinge'; known are ce, cw, dlr"),
    ],
)
def test_options_out_of_range(noisy: Fake, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SPSA(noisy, **options)
