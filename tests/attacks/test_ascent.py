from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.ascent import ascend
from robustgen.attacks.ball import L2, Ball, Linf


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
        found = ascend(model, x, total, ball=Linf(0.1), alpha=0.03, steps=steps)
        expected = (x + torch.tensor([moved, -moved, moved, 0]).view(1, 1, 2, 2)).clamp(0, 1)
        torch.testing.assert_close(found, expected)


def test_start_is_in_units_of_the_radius_and_clipped() -> None:
    x = torch.tensor([0.5, 0.01]).view(1, 1, 1, 2)
    start = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    found = ascend(Sum(torch.ones(1)), x, total, ball=Linf(0.1), alpha=0.01, steps=0, start=start)
    torch.testing.assert_close(found, torch.tensor([0.6, 0.0]).view(1, 1, 1, 2))


def test_input_is_not_written_to() -> None:
    x = torch.full((2, 1, 2, 2), 0.5)
    for steps in (0, 2):
        ascend(Sum(torch.ones(1)), x, total, ball=Linf(0.1), alpha=0.1, steps=steps).add_(1)
        assert torch.equal(x, torch.full((2, 1, 2, 2), 0.5))


def test_callback_sees_the_logits_after_every_step() -> None:
    seen: list[tuple[int, float]] = []
    x = torch.full((1, 1, 1, 1), 0.5)
    ascend(
        Sum(torch.ones(1)),
        x,
        total,
        ball=Linf(0.1),
        alpha=0.04,
        steps=4,
        callback=lambda step, logits: seen.append((step, round(float(logits), 4))),
    )
    assert seen == [(0, 0.5), (1, 0.54), (2, 0.58), (3, 0.6), (4, 0.6)]


def test_gradients_may_be_switched_off_around_it() -> None:
    x = torch.full((1, 1, 1, 1), 0.5)
    with torch.no_grad():
        assert float(ascend(Sum(torch.ones(1)), x, total, ball=Linf(0.1), alpha=0.1, steps=1)) == pytest.approx(0.6)


def test_l2_steps_have_length_alpha_until_the_ball_ends() -> None:
    """Up a plane every step goes the same way; images differ in contrast, so in the size of their gradients."""
    draws = torch.Generator().manual_seed(0)
    x = 0.5 + 0.01 * torch.rand(3, 2, 4, 4, generator=draws, dtype=torch.float64)
    weight = (
        torch.randn(3, 2, 4, 4, generator=draws, dtype=torch.float64)
        * torch.tensor([1e-9, 1, 1e9])[:, None, None, None]
    )
    direction = weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    for steps, length in ((0, 0.0), (1, 0.03), (3, 0.09), (4, 0.1), (20, 0.1)):
        found = ascend(Sum(weight), x, total, ball=L2(0.1), alpha=0.03, steps=steps)
        torch.testing.assert_close(found, x + length * direction, atol=1e-12, rtol=0)


def test_l2_start_is_in_units_of_the_radius_and_projected() -> None:
    x = torch.full((1, 1, 1, 2), 0.5)
    for length, reached in ((0.5, 0.5), (1.0, 1.0), (3.0, 1.0)):
        start = torch.tensor([0.6, -0.8]).view(1, 1, 1, 2)
        found = ascend(Sum(torch.ones(1)), x, total, ball=L2(0.2), alpha=0.01, steps=0, start=length * start)
        torch.testing.assert_close(found, x + 0.2 * reached * start)


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.1)])
def test_zero_gradient_moves_nothing(ball: Ball) -> None:
    x = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.stack([torch.zeros(1, 3, 3), torch.ones(1, 3, 3)])
    found = ascend(Sum(weight), x, total, ball=ball, alpha=0.05, steps=3)
    assert torch.equal(found[0], x[0])
    assert (found[1] >= x[1]).all()
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    "module",
    [
        "attacks.synthesis",  # foolbox only where one of its attacks runs
        "stages.distort",
        "stages.train_autoencoder",
        "stages.train_classifier",
        "stages.train_gat",
        "stages.train_joint",
        "stages.train_ncsn",
    ],
)
def test_what_runs_no_attack_of_other_libraries_imports_none(module: str) -> None:
    """They take a second to import, and every stage would pay for it."""
    code = f"import sys, robustgen.{module}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert f"robustgen.{module}" in found
    assert not {"torchattacks", "foolbox", "torchvision"} & set(found)
