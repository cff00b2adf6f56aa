from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robustgen.adam import Adam


def slope(state: Tensor) -> Tensor:
    return 4 * state**3 - 1


def walked(adam: Callable[[Tensor, Tensor], Tensor], state: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        state = adam(state, slope(state))
    return state


@pytest.mark.parametrize("maximize", [False, True])
def test_it_is_torch_s(maximize: bool) -> None:
    state = torch.linspace(-1, 1, 6, dtype=torch.float64)
    theirs = state.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.05, maximize=maximize)
    for _ in range(20):
        theirs.grad = slope(theirs.detach())
        optimizer.step()
    ours = walked(Adam(0.05, maximize=maximize), state, 20)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-9, atol=1e-9)
    assert ((ours > state) == (slope(state) > 0)).all() == maximize


def test_up_one_slope_is_down_its_mirror_image() -> None:
    state = torch.linspace(-1, 1, 6)
    up, down, there, mirrored = Adam(0.02, maximize=True), Adam(0.02), state, state
    for _ in range(9):
        there, mirrored = up(there, slope(there)), down(mirrored, -slope(mirrored))
    assert torch.equal(there, mirrored)


def test_coordinates_move_as_if_alone_and_nothing_is_written_to() -> None:
    state = torch.linspace(-1, 1, 6).view(2, 3)
    before = state.clone()
    together = walked(Adam(0.05), state, 7)
    assert torch.equal(state, before)
    alone = torch.stack([walked(Adam(0.05), number, 7) for number in state.flatten()]).view(2, 3)
    torch.testing.assert_close(together, alone)


def test_first_step_is_as_long_as_the_rate_whatever_the_gradient() -> None:
    gradient = torch.tensor([1e6, -3.0, 1e-3, 0.0])
    moved = Adam(0.1)(torch.zeros(4), gradient)
    torch.testing.assert_close(moved, torch.tensor([-0.1, 0.1, -0.1, 0.0]), rtol=1e-4, atol=0)
