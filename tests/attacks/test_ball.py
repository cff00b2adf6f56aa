from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from robustgen.attacks.ball import BALLS, L2, Ball, Linf, ball_of
from robustgen.errors import UserError
from robustgen.seeding import BatchStream, ImageStreams

NORMS = tuple(BALLS)
SHAPE = (3, 2, 4, 5)


def box(seed: int, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images with many pixels at 0 and at 1."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 0.5
    return x.clamp(0, 1).to(dtype)


def noise(seed: int, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def length(norm: str, x: Tensor) -> Tensor:
    """(N,), written apart from the code under test."""
    return torch.linalg.vector_norm(x.double().flatten(1), ord=2 if norm == "l2" else torch.inf, dim=1)


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    eps=st.sampled_from([0.0, 1e-4, 8 / 255, 0.3, 1.0, 5.0]),
    size=st.sampled_from([1e-6, 0.01, 0.3, 30.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_projection_stays_in_ball_and_box(norm: str, seed: int, eps: float, size: float, dtype: torch.dtype) -> None:
    ball, x = ball_of(norm, eps), box(seed, dtype=dtype)
    there = x + size * noise(seed + 1, dtype=dtype)
    found = ball.project(there, x)
    assert found.dtype == dtype
    assert float(length(norm, found - x).max()) <= eps + ball.tolerance
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    torch.testing.assert_close(ball.project(found, x), found, atol=1e-6, rtol=0)
    torch.testing.assert_close(ball.distance(found, x).double(), length(norm, found - x), atol=1e-6, rtol=1e-5)
    assert torch.equal(ball.project(x, x), x)
    inside = (length(norm, there - x) < 0.99 * eps) & ((there >= 0) & (there <= 1)).flatten(1).all(1)
    assert torch.equal(found[inside], there[inside])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.floats(0.01, 2), size=st.floats(0.01, 3))
def test_l2_projection_keeps_the_direction_and_the_box_only_shortens(seed: int, eps: float, size: float) -> None:
    x = box(seed, dtype=torch.float64)
    delta = size * noise(seed + 1, dtype=torch.float64)
    scale = (eps / length("l2", delta)).clamp(max=1).view(-1, 1, 1, 1)
    found = L2(eps).project(x + delta, x) - x
    free = (x + scale * delta > 0) & (x + scale * delta < 1)
    torch.testing.assert_close(found[free], (scale * delta)[free], atol=1e-12, rtol=0)
    assert (found.abs() <= (scale * delta).abs() + 1e-12).all()


def test_tolerance_is_that_of_float32_on_large_images() -> None:
    x = box(0, (2, 3, 150, 150))
    for norm, eps in (("linf", 8 / 255), ("linf", 1e-3), ("l2", 1e-3), ("l2", 0.5), ("l2", 30.0)):
        ball = ball_of(norm, eps)
        found = ball.project(x + noise(1, tuple(x.shape)), x)
        assert eps * 0.5 < float(length(norm, found - x).max()) <= eps + ball.tolerance
    assert Linf(1.0).tolerance == 1e-6
    assert L2(0.5).tolerance < 1e-5


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-36, 1e-20, 1e-3, 1.0, 1e30]))
def test_ascent_is_the_steepest_step_of_length_one(norm: str, seed: int, scale: float) -> None:
    ball, gradient = ball_of(norm, 1.0), scale * noise(seed)
    step = ball.ascent(gradient)
    torch.testing.assert_close(length(norm, step), torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)
    climbed = (step * noise(seed)).sum((1, 2, 3))
    others = ball.offset(torch.zeros(20, *SHAPE[1:]), BatchStream(torch.Generator().manual_seed(seed), 20))
    others = others / length(norm, others).view(-1, 1, 1, 1).float()
    assert (climbed[:, None] > (others[None] * noise(seed)[:, None]).sum((2, 3, 4))).all()


def test_ascent_by_hand() -> None:
    gradient = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]]).view(2, 1, 1, 3)
    l2 = torch.tensor([[0.6, -0.8, 0.0], [0.0, 0.0, 0.0]]).view(2, 1, 1, 3)
    torch.testing.assert_close(L2(1.0).ascent(gradient), l2)
    torch.testing.assert_close(Linf(1.0).ascent(gradient), l2.sign())


@pytest.mark.parametrize("norm", NORMS)
def test_batch_of_one_equals_batch_of_many(norm: str) -> None:
    ball = ball_of(norm, 0.3)
    x, g = box(0, (9, 3, 5, 4), torch.float64), noise(1, (9, 3, 5, 4), torch.float64)
    whole = {
        "ascent": ball.ascent(g),
        "project": ball.project(x + 0.1 * g, x),
        "offset": ball.offset(x, ImageStreams(4, range(9))),
        "distance": ball.distance(x + 0.1 * g, x),
    }
    for i in range(9):
        row = slice(i, i + 1)
        single = {
            "ascent": ball.ascent(g[row]),
            "project": ball.project((x + 0.1 * g)[row], x[row]),
            "offset": ball.offset(x[row], ImageStreams(4, [i])),
            "distance": ball.distance((x + 0.1 * g)[row], x[row]),
        }
        for name, value in single.items():
            torch.testing.assert_close(value, whole[name][row], atol=1e-13, rtol=0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (3, 4, 5)])
def test_offsets_are_uniform_in_the_ball(norm: str, shape: tuple[int, int, int]) -> None:
    n = 2000
    offsets = ball_of(norm, 0.1).offset(torch.zeros(n, *shape), BatchStream(torch.Generator().manual_seed(0), n))
    assert offsets.shape == (n, *shape)
    radius, pixels = length(norm, offsets), offsets[0].numel()
    assert float(radius.max()) <= 1 + 1e-6
    # a ball of radius r holds the share r^D of the volume
    assert stats.kstest((radius**pixels).clamp(0, 1).numpy(), "uniform").pvalue > 0.01
    flat = offsets.flatten(1).double()
    assert float(flat.mean(0).abs().max()) < 4.5 * float(flat.std()) / n**0.5  # centred on every axis
    covariance = torch.cov(flat.T).view(pixels, pixels)
    spread = 1 / 3 if norm == "linf" else 1 / (pixels + 2)
    torch.testing.assert_close(covariance, spread * torch.eye(pixels).double(), atol=0.12 * spread, rtol=0)


def test_l2_offsets_point_everywhere() -> None:
    offsets = L2(1.0).offset(torch.zeros(2000, 1, 1, 2), BatchStream(torch.Generator().manual_seed(1), 2000))
    angle = torch.atan2(*offsets.flatten(1).T) / (2 * torch.pi) + 0.5
    assert stats.kstest(angle.numpy(), "uniform").pvalue > 0.01


def test_linf_offsets_are_the_streams_own_numbers() -> None:
    """Recorded attacks and trainings began with these."""
    x = box(0)
    found = Linf(0.1).offset(x, ImageStreams(3, range(3)))
    assert torch.equal(found, ImageStreams(3, range(3)).uniform(x.shape[1:]) * 2 - 1)
    draws = torch.Generator().manual_seed(5)
    found = Linf(0.1).offset(x, BatchStream(draws, 3))
    assert torch.equal(found, torch.rand(x.shape, generator=torch.Generator().manual_seed(5)) * 2 - 1)


@pytest.mark.parametrize("norm", NORMS)
def test_names_lead_to_balls(norm: str) -> None:
    ball = ball_of(norm, 0.25)
    assert isinstance(ball, Ball)
    assert ball.eps == 0.25
    assert ball == ball_of(norm, 0.25) != ball_of(norm, 0.5)


def test_unknown_norm_is_named() -> None:
    with pytest.raises(UserError, match="unknown norm 'l0'; known are linf, l2"):
        ball_of("l0", 1.0)
