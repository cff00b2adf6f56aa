from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustgen import models, protocols
from robustgen.defenses.detectors import Detector, ScoreNorm
from robustgen.errors import UserError
from robustgen.evaluation.statistics import auc
from robustgen.models.ncsnv2 import Config


class Towards(nn.Module):
    """s(x) = 3 (mean − x): the images around `mean` are the natural ones."""

    def __init__(self, mean: float = 0.4, change: Callable[[Tensor], Tensor] = lambda s: s) -> None:
        super().__init__()
        self.mean = mean
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(3 * (self.mean - x))


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.build(Config(size=8, channels=1, width=8, sigma_first=2, levels=4)).eval()


def test_score_is_minus_the_length_of_s() -> None:
    x = torch.full((2, 3, 4, 4), 0.4)
    x[1] += 0.1
    detector = ScoreNorm(Towards())
    assert isinstance(detector, Detector)
    assert isinstance(detector, protocols.Detector)
    torch.testing.assert_close(detector.score(x), torch.tensor([0, -3 * 0.1 * math.sqrt(48)]), atol=1e-6, rtol=1e-5)
    assert detector.score(x[:0]).shape == (0,)


def test_what_an_attack_moves_away_scores_lower() -> None:
    source = torch.Generator().manual_seed(0)
    natural = 0.4 + 0.02 * torch.randn(40, 1, 8, 8, generator=source)
    signs = torch.rand(40, 1, 8, 8, generator=source).sub(0.5).sign()
    detector = ScoreNorm(Towards())
    assert auc(detector.score(natural + 0.05 * signs).neg(), detector.score(natural).neg()).value > 0.99


def test_image_scores_the_same_in_any_company(network: nn.Module) -> None:
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    scores = ScoreNorm(network).score(x)
    with torch.no_grad():
        torch.testing.assert_close(scores, -network(x).flatten(1).norm(dim=1))
    for size in (1, 4):
        torch.testing.assert_close(ScoreNorm(network, batch_size=size).score(x), scores, atol=1e-6, rtol=1e-6)
    assert not scores.requires_grad


def test_network_keeps_its_mode_and_a_fit_changes_nothing(network: nn.Module) -> None:
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    detector = ScoreNorm(network.train())
    before = detector.score(x)
    assert network.training
    fitted = detector.fit(Towards(), type("Train", (), {"images": x, "labels": None})(), x, 1 - x)
    assert torch.equal(fitted.score(x), before)


def test_scores_that_are_not_finite_are_an_error() -> None:
    x = torch.rand(3, 1, 8, 8)
    with pytest.raises(UserError, match="the score is NaN or infinite for 3 of 3 images"):
        ScoreNorm(Towards(change=lambda s: s / 0)).score(x)
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        ScoreNorm(Towards()).score(2 * x)
