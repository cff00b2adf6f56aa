from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.linf import LinfAttack, ascend
from robustgen.attacks.pgd import PGD
from robustgen.errors import UserError


def total(logits: Tensor) -> Tensor:
    return logits.sum(1)


class Sum(nn.Module):
    """One logit, the weighted sum of the pixels."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).flatten(1).sum(1, keepdim=True)


def test_steps_are_signed_and_projected() -> None:
    x = torch.tensor([0.5, 0.02, 0.98, 0.5]).view(1, 1, 2, 2)
    model = Sum(torch.tensor([3.0, -0.1, 1.0, 0.0]).view(1, 1, 2, 2))
    for steps, moved in ((0, 0.0), (1, 0.03), (3, 0.09), (9, 0.1)):
        found = ascend(model, x, total, eps=0.1, alpha=0.03, steps=steps)
        expected = (x + torch.tensor([moved, -moved, moved, 0]).view(1, 1, 2, 2)).clamp(0, 1)
        torch.testing.assert_close(found, expected)


def test_start_is_in_units_of_the_radius_and_clipped() -> None:
    x = torch.tensor([0.5, 0.01]).view(1, 1, 1, 2)
    start = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    found = ascend(Sum(torch.ones(1)), x, total, eps=0.1, alpha=0.01, steps=0, start=start)
    torch.testing.assert_close(found, torch.tensor([0.6, 0.0]).view(1, 1, 1, 2))


def test_input_is_not_written_to() -> None:
    x = torch.full((2, 1, 2, 2), 0.5)
    for steps in (0, 2):
        ascend(Sum(torch.ones(1)), x, total, eps=0.1, alpha=0.1, steps=steps).add_(1)
        assert torch.equal(x, torch.full((2, 1, 2, 2), 0.5))


def test_callback_sees_the_logits_after_every_step() -> None:
    seen: list[tuple[int, float]] = []
    x = torch.full((1, 1, 1, 1), 0.5)
    ascend(
        Sum(torch.ones(1)),
        x,
        total,
        eps=0.1,
        alpha=0.04,
        steps=4,
        callback=lambda step, logits: seen.append((step, round(float(logits), 4))),
    )
    assert seen == [(0, 0.5), (1, 0.54), (2, 0.58), (3, 0.6), (4, 0.6)]


def test_gradients_may_be_switched_off_around_it() -> None:
    x = torch.full((1, 1, 1, 1), 0.5)
    with torch.no_grad():
        assert float(ascend(Sum(torch.ones(1)), x, total, eps=0.1, alpha=0.1, steps=1)) == pytest.approx(0.6)


def test_attack_that_leaves_its_ball_is_caught(toy: nn.Module, images: tuple[Tensor, Tensor]) -> None:
    class Wild(LinfAttack):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x + 0.2).clamp(0, 1)

    assert torch.equal(Wild(toy, eps=0.2)(*images), (images[0] + 0.2).clamp(0, 1))
    with pytest.raises(AssertionError, match="Wild left its ball"):
        Wild(toy, eps=0.1)(*images)


@pytest.mark.parametrize("wrong", [{"eps": -0.1}, {"alpha": 0.0}, {"steps": -1}, {"eps": float("nan")}])
def test_options_out_of_range_are_refused(wrong: dict[str, float], toy: nn.Module) -> None:
    with pytest.raises(UserError, match="eps >= 0, alpha > 0 and steps >= 0"):
        PGD(toy, **wrong)
