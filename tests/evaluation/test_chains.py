from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.evaluation.chains import Chains, milliseconds_per_step, run_chains
from robustgen.models.nijkamp import Config, Nijkamp
from robustgen.sampling.langevin import force, langevin, stream_noise
from robustgen.seeding import ImageStreams


class Power(nn.Module):
    """Scaled energy −Σ|v|³: from beyond 1/3 its chains leave every bound; `tau` 0 lets the others stand."""

    def __init__(self, tau: float = 1e-9) -> None:
        super().__init__()
        self.tau = tau
        self.weight = nn.Parameter(torch.ones(()))

    def scaled_energy(self, v: Tensor) -> Tensor:
        return -self.weight * v.abs().pow(3).flatten(1).sum(1)


@pytest.fixture
def ebm() -> Nijkamp:
    torch.manual_seed(0)
    return Nijkamp(Config(size=8, channels=1, width=2, tau=0.05))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def run(model: nn.Module, x: Tensor, **options: object) -> Chains:
    settings = {"steps": 60, "seed": 3, "label": "toy"} | options
    return run_chains(model, x, **settings)  # type: ignore[arg-type]


def test_the_sampler_is_the_one_of_the_defence(ebm: Nijkamp, x: Tensor) -> None:
    found = run(ebm, x, eta=1.5)
    noise = stream_noise(ImageStreams(3, range(5)), x.shape[1:], 1, "cpu")
    expected = langevin(force(ebm), 2 * x - 1, noise, steps=60, tau=0.05, eta=1.5)
    torch.testing.assert_close(found.images, (expected + 1) / 2, atol=1e-5, rtol=0)
    assert found.diverged.tolist() == [-1] * 5


def test_batches_only_share_the_work(ebm: Nijkamp, x: Tensor) -> None:
    one, other = (run(ebm, x, batch=size, at=(0, 60), look=lambda x: x.numpy().copy()) for size in (5, 2))
    torch.testing.assert_close(one.images, other.images, atol=1e-5, rtol=0)
    for a, b in zip(one.seen, other.seen, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_what_is_seen_on_the_way_is_what_a_shorter_run_ends_with(ebm: Nijkamp, x: Tensor) -> None:
    found = run(ebm, x, at=(0, 25, 50), look=lambda x: x.numpy().copy())
    assert len(found.seen) == 3
    np.testing.assert_allclose(found.seen[0], x, atol=1e-6)
    np.testing.assert_allclose(found.seen[1], run(ebm, x, steps=25).images, atol=1e-5)
    np.testing.assert_allclose(found.seen[2], run(ebm, x, steps=50).images, atol=1e-5)


def test_no_steps_leave_the_images(ebm: Nijkamp, x: Tensor) -> None:
    torch.testing.assert_close(run(ebm, x, steps=0).images, x)


def test_divergence_names_the_model_and_the_step(x: Tensor) -> None:
    with pytest.raises(UserError, match=r"toy: states are no longer finite after 25 Langevin steps"):
        run(Power(), x)
    with pytest.raises(UserError, match=r"after 11 Langevin"):
        run(Power(), x, at=(11,), look=lambda x: x.numpy())


def test_a_chain_that_may_diverge_stands_where_it_was_finite() -> None:
    x = torch.full((3, 1, 1, 2), 0.5)
    x[1] = 0.9
    found = run(Power(), x, may_diverge=True, at=(25, 60), look=lambda x: x.numpy().copy())
    assert found.diverged.tolist() == [-1, 25, -1]
    assert found.images.isfinite().all()
    torch.testing.assert_close(found.images, x, atol=1e-6, rtol=0)
    assert all(np.isfinite(seen).all() for seen in found.seen)


def test_a_model_without_energy(x: Tensor) -> None:
    with pytest.raises(UserError, match="toy: Linear has no scaled_energy"):
        run(nn.Linear(2, 2), x)


def test_time_of_a_step(ebm: Nijkamp, x: Tensor) -> None:
    found = milliseconds_per_step(ebm, x, steps=2, repetitions=2)
    assert 0 < found < math.inf
    with pytest.raises(UserError, match="at least 1"):
        milliseconds_per_step(ebm, x, steps=0)
    with pytest.raises(UserError, match="at least 1"):
        milliseconds_per_step(ebm, x, steps=1, repetitions=0)
