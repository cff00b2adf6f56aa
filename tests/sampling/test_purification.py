from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robustgen.errors import UserError
from robustgen.sampling.purification import (
    LARGEST,
    SMALLEST,
    Scheme,
    begin,
    follow,
    free_step,
    held_step,
    left_grid,
    released_grid,
)
from robustgen.seeding import generator

MEAN, WIDTH = 0.5, 0.25


def gaussian(x: Tensor) -> Tensor:
    """The score of N(MEAN, WIDTH), in the paper's Eq. 14: −(x − μ) / σ_t."""
    return -(x - MEAN) / WIDTH


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=generator(0), dtype=torch.float64)


def scheme(steps: int, **options: object) -> Scheme:
    return Scheme(steps=steps, **options)  # type: ignore[arg-type]


def test_an_adaptive_step_goes_the_share_lambda_of_the_way() -> None:
    """Eq. 15 to 18 in the case they are derived from: α = λσ_t, and the score falls by 1 − λ."""
    x = images()
    moved = follow(gaussian, x, scheme(1, lam=0.05))
    torch.testing.assert_close(moved - MEAN, 0.95 * (x - MEAN), rtol=1e-6, atol=0)
    torch.testing.assert_close(gaussian(moved), 0.95 * gaussian(x), rtol=1e-6, atol=0)


def test_steps_compound() -> None:
    x = images()
    moved = follow(gaussian, x, scheme(7, lam=0.2, delta=1e-3))
    torch.testing.assert_close(moved - MEAN, 0.8**7 * (x - MEAN), rtol=1e-6, atol=1e-12)


def test_float32_keeps_digits_at_the_papers_delta() -> None:
    """1 − sᵀs'/‖s‖² loses half of its digits at δ = 1e-5; the difference taken first does not."""
    x = images().float()
    found = follow(gaussian, x, scheme(1))
    torch.testing.assert_close((found - MEAN).double(), 0.95 * (x.double() - MEAN), rtol=3e-3, atol=1e-6)


def test_a_fixed_step_is_equation_11() -> None:
    x = images()
    torch.testing.assert_close(follow(gaussian, x, scheme(1, step=0.01)), x + 0.01 * gaussian(x))


@pytest.mark.parametrize("other", [{}, {"rule": "step", "delta": 1e-3, "stop": 0.012}])
def test_an_image_does_not_depend_on_its_batch(other: dict[str, object]) -> None:
    x = images()

    def score(x: Tensor) -> Tensor:  # not linear: every image has step sizes of its own
        return torch.tanh(3 * (0.4 - x))

    whole = follow(score, x, scheme(5, **other))
    for i in range(len(x)):
        assert torch.equal(follow(score, x[i : i + 1], scheme(5, **other)), whole[i : i + 1])


def test_an_image_rests_once_its_score_is_small() -> None:
    x = torch.full((2, 1, 2, 2), 0.5, dtype=torch.float64)
    x[1] += 0.1
    seen: list[Tensor] = []
    follow(gaussian, x, scheme(3, stop=0.5), callback=lambda _, state: seen.append(state))
    assert all(torch.equal(state[0], x[0]) for state in seen)
    assert (seen[0][1] - x[1]).abs().min() > 0
    assert len(seen) == 3


def test_nothing_moves_once_all_rest() -> None:
    calls: list[int] = []
    x = torch.full((3, 1, 2, 2), 0.5, dtype=torch.float64)
    assert torch.equal(follow(gaussian, x, scheme(5, stop=0.1), callback=lambda t, _: calls.append(t)), x)
    assert calls == []


def test_the_released_rule_compares_the_step_size() -> None:
    x = images()
    still = follow(gaussian, x, scheme(4, lam=0.05, rule="step", stop=0.05 * WIDTH * 1.01))
    assert torch.equal(still, x)
    assert not torch.equal(follow(gaussian, x, scheme(4, lam=0.05, rule="step", stop=0.05 * WIDTH * 0.99)), x)


@pytest.mark.parametrize(("grid", "expected"), [(False, LARGEST), (True, SMALLEST)])
def test_where_the_score_grows_along_itself(grid: bool, expected: float) -> None:
    """The released clamp hides the sign of the denominator: a huge negative step size becomes the smallest one."""
    x = images()
    start, active = begin(x, scheme(1, grid=grid))
    moved, _ = held_step(start, active, None, lambda x: x - 0.2, scheme(1, grid=grid, box=False))
    step = (released_grid(moved) if grid else moved) - start
    torch.testing.assert_close(step, expected * (start - 0.2), rtol=1e-6, atol=1e-12)


def test_the_largest_step_is_an_option() -> None:
    x = images()
    moved = follow(gaussian, x, scheme(1, lam=1.0, largest=1.0))
    torch.testing.assert_close(moved, torch.full_like(x, MEAN))  # λ = 1 goes all the way
    capped = follow(gaussian, x, scheme(1, lam=1.0, largest=0.05))
    torch.testing.assert_close(capped, x + 0.05 * gaussian(x))


def test_step_sizes_stay_between_their_bounds() -> None:
    x = images()
    flat = follow(lambda x: torch.ones_like(x) - 1e-9 * x, 0 * x, scheme(1))
    torch.testing.assert_close(flat, torch.full_like(x, LARGEST))
    steep = follow(lambda x: -1e6 * x, x, scheme(1, box=False))
    torch.testing.assert_close(steep, x - SMALLEST * 1e6 * x)


def test_a_score_of_zero_leaves_the_image() -> None:
    x = images()
    assert torch.equal(follow(torch.zeros_like, x, scheme(3, stop=0)), x)


def test_states_stay_in_the_box_unless_told_otherwise() -> None:
    x = images()
    inside = follow(lambda x: torch.full_like(x, 9.0), x, scheme(3, step=0.1))
    assert torch.equal(inside, torch.ones_like(x))
    assert follow(lambda x: torch.full_like(x, 9.0), x, scheme(3, step=0.1, box=False)).min() > 2


def test_the_released_grid_stretches_contrast() -> None:
    """It is entered once and left at every step: (256/255)^(T−1) about the centre, with no score at all."""
    x = images() / 2 + 0.25
    still = follow(torch.zeros_like, x, scheme(10, grid=True, step=0.01))
    torch.testing.assert_close(still - 0.5, (256 / 255) ** 9 * (x - 0.5))
    torch.testing.assert_close(left_grid(released_grid(x)), x)
    assert torch.equal(follow(torch.zeros_like, x, scheme(10, step=0.01)), x)


def test_langevin_updates_have_the_stationary_spread_of_equation_6() -> None:
    """For the true score of N(μ, w²) they sample it, up to the step size; deterministic ones collapse onto μ."""
    draws = generator(3)
    x = torch.full((4000, 1, 1, 1), 0.5, dtype=torch.float64)
    plan = scheme(400, step=0.02 * WIDTH, temperature=WIDTH, box=False)

    def noise() -> Tensor:
        return torch.randn(x.shape, generator=draws, dtype=torch.float64)

    # gaussian() is WIDTH times the score of N(MEAN, WIDTH²): temperature WIDTH makes up for it
    spread = float(follow(gaussian, x, plan, noise=noise).std())
    expected = WIDTH / (1 - 0.02 / 2) ** 0.5  # of the discrete dynamics
    assert spread == pytest.approx(expected, rel=0.05)
    with pytest.raises(ValueError, match="noise"):
        follow(gaussian, x, plan)


def test_derivatives_hold_step_sizes_constant_unless_told_otherwise() -> None:
    x = images(2).requires_grad_()

    def score(x: Tensor) -> Tensor:
        return torch.sin(3 * (0.4 - x))

    start, active = begin(x, scheme(1))
    moved, _ = held_step(start, active, None, score, scheme(1))
    alpha = ((moved - x) / score(x)).detach().flatten(1)[:, :1].view(-1, 1, 1, 1)
    (held,) = torch.autograd.grad(moved.sum(), x)
    (expected,) = torch.autograd.grad((x + alpha * score(x)).sum(), x)
    torch.testing.assert_close(held, expected)
    free, _ = free_step(start, active, None, score, scheme(1))
    (whole,) = torch.autograd.grad(free.sum(), x)
    assert (whole - held).abs().max() > 1e-3


def test_a_score_that_is_not_finite_is_named() -> None:
    def broken(x: Tensor) -> Tensor:
        return torch.where(x > x.amax(), torch.nan, x) + torch.tensor([0.0, torch.nan]).view(2, 1, 1, 1)

    with pytest.raises(UserError, match=r"NaN or infinite for 1 of 2 images.*train the score network again"):
        follow(broken, images(2), scheme(2))
