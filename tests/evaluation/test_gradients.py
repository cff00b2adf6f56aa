from __future__ import annotations

import pytest
import torch
from torch import nn

from robustgen.evaluation import gradients
from robustgen.evaluation.synthesis import synthesize


@pytest.fixture
def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(5, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_gradients_of_a_linear_model(linear: nn.Sequential, x: torch.Tensor) -> None:
    y = torch.tensor([0, 1, 2, 0, 1])
    weight, logits = next(linear.parameters()).detach(), linear(x).detach()
    rivals = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    expected = (weight[y] - weight[rivals]).view_as(x)
    torch.testing.assert_close(gradients.margin_gradient(linear, x, y), expected)
    errors = logits.softmax(1) - nn.functional.one_hot(y, 3)
    torch.testing.assert_close(gradients.loss_gradient(linear, x, y), (errors @ weight).view_as(x))
    assert linear[1].weight.grad is None
    assert not x.requires_grad


def test_density_is_the_share_of_pixels_that_carry_the_gradient() -> None:
    one, half, signs, none = torch.zeros(4, 1, 4, 4).unbind()
    one[0, 1, 2] = -3
    half[0, :2] = 0.1
    signs[:] = torch.tensor([1.0, -1.0]).repeat(8).view(4, 4)
    found = gradients.density(torch.stack([one, half, signs, none]))
    torch.testing.assert_close(found, torch.tensor([1 / 16, 0.5, 1, 0], dtype=torch.float64))


def test_density_does_not_change_with_scale() -> None:
    gradient = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gradients.density(1e-8 * gradient), gradients.density(gradient))


def test_alignment_is_the_cosine_with_the_image(x: torch.Tensor) -> None:
    torch.testing.assert_close(gradients.alignment(-2 * x, x), torch.ones(5, dtype=torch.float64))
    orthogonal = torch.zeros_like(x)
    orthogonal[:, 0, 0, 0], orthogonal[:, 0, 0, 1] = x[:, 0, 0, 1], -x[:, 0, 0, 0]
    torch.testing.assert_close(gradients.alignment(orthogonal, x), torch.zeros(5, dtype=torch.float64))


def test_synthesis_climbs_to_the_class_it_is_asked_for(linear: nn.Sequential, x: torch.Tensor) -> None:
    y = torch.tensor([0, 1, 2, 2, 1])
    found = synthesize(linear, y, x, steps=60, step_size=0.2)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    before, after = (linear(v).detach().log_softmax(1).gather(1, y[:, None]) for v in (x, found))
    assert (after > before).all()
    assert torch.equal(linear(found).argmax(1), y)


def test_synthesis_moves_every_image_by_the_step_and_not_by_its_batch(linear: nn.Sequential) -> None:
    start = torch.full((4, 3, 2, 2), 0.5, dtype=torch.float64) + 0.01 * torch.arange(4).view(4, 1, 1, 1)
    y = torch.tensor([0, 1, 2, 0])
    found = synthesize(linear, y, start, steps=1, step_size=0.05)
    torch.testing.assert_close((found - start).flatten(1).norm(dim=1), torch.full((4,), 0.05, dtype=torch.float64))
    alone = synthesize(linear, y[2:3], start[2:3], steps=3, step_size=0.05)
    torch.testing.assert_close(alone, synthesize(linear, y, start, steps=3, step_size=0.05)[2:3])
    assert torch.equal(synthesize(linear, y, start, steps=0, step_size=1), start)
