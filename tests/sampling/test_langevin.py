from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from robustgen.models.nijkamp import Config, Model
from robustgen.sampling.langevin import (
    CHUNK,
    energy,
    force,
    generator_noise,
    langevin,
    micro_batch,
    stream_noise,
)
from robustgen.seeding import ImageStreams, generator

CHAINS = 4000


class Quadratic(nn.Module):
    """U(v) = c |v − m|² / 2: a Gaussian of variance 1/c around m."""

    def __init__(self, c: float, m: float, tau: float) -> None:
        super().__init__()
        self.c, self.m, self.tau = c, m, tau

    def scaled_energy(self, v: Tensor) -> Tensor:
        return self.tau**2 / 2 * self.c * (v - self.m).square().flatten(1).sum(1) / 2


class Mixture(nn.Module):
    """Two equal Gaussians of standard deviation `s` at ±m, in every coordinate."""

    def __init__(self, m: float, s: float, tau: float) -> None:
        super().__init__()
        self.m, self.s, self.tau = m, s, tau

    def scaled_energy(self, v: Tensor) -> Tensor:
        both = torch.stack([-((v - m) ** 2) / (2 * self.s**2) for m in (-self.m, self.m)])
        return -(self.tau**2) / 2 * both.logsumexp(0).flatten(1).sum(1)


def chains(v: Tensor) -> Tensor:
    return v.expand(CHAINS, 1, 1, 1).clone()


def run(model: Quadratic | Mixture, start: Tensor, steps: int, seed: int = 0) -> Tensor:
    noise = generator_noise(generator(seed, "chains"), start.shape)
    return langevin(force(model), start, noise, steps=steps, tau=model.tau).flatten()


@pytest.mark.parametrize(("c", "m", "tau"), [(4.0, 0.3, 0.2), (25.0, -0.5, 0.1), (100.0, 0.0, 0.1)])
def test_quadratic_energy_reaches_its_stationary_mean_and_variance(c: float, m: float, tau: float) -> None:
    found = run(Quadratic(c, m, tau), chains(torch.ones(1)), steps=int(20 / (tau**2 * c / 2)))
    variance = 1 / (c * (1 - tau**2 * c / 4))  # of the discrete dynamics; 1/c as tau vanishes
    assert abs(found.mean() - m) < 4 * math.sqrt(variance / CHAINS)
    assert abs(found.var() / variance - 1) < 4 * math.sqrt(2 / CHAINS)


def test_a_mixture_is_sampled_in_both_modes_with_its_variance() -> None:
    model = Mixture(m=0.5, s=0.25, tau=0.1)
    found = run(model, chains(torch.zeros(1)), steps=1500)
    variance = 0.5**2 + 0.25**2
    assert abs(found.mean()) < 4 * math.sqrt(variance / CHAINS)
    assert abs(found.var() / variance - 1) < 0.06
    assert 0.45 < (found > 0).float().mean() < 0.55


def test_a_short_chain_stays_in_its_mode_where_the_barrier_is_high() -> None:
    model = Mixture(m=1.0, s=0.2, tau=0.05)
    found = run(model, chains(torch.ones(1)), steps=500)
    assert (found > 0).all()  # metastable
    assert abs(found.mean() - 1) < 4 * 0.2 / math.sqrt(CHAINS)


def test_eta_scales_the_noise_and_nothing_else() -> None:
    model = Quadratic(25.0, 0.0, 0.1)
    noise = generator_noise(generator(0), (CHAINS, 1, 1, 1))
    silent = langevin(force(model), chains(torch.ones(1)), noise, steps=40, tau=0.1, eta=0.0)
    torch.testing.assert_close(silent, chains(torch.tensor([(1 - 0.1**2 * 25 / 2) ** 40])))
    noise = generator_noise(generator(0), (CHAINS, 1, 1, 1))
    doubled = langevin(force(model), chains(torch.zeros(1)), noise, steps=200, tau=0.1, eta=2.0)
    assert doubled.var() == pytest.approx(4 / (25 * (1 - 0.1**2 * 25 / 4)), rel=0.1)


def network(size: int = 16, channels: int = 1) -> Model:
    torch.manual_seed(0)
    return Model(Config(size=size, channels=channels, width=8, tau=0.08)).eval()


@pytest.mark.parametrize("channels", [1, 3])
def test_any_batch_split_gives_the_same_states(channels: int) -> None:
    model = network(channels=channels)
    v = torch.rand(7, channels, 16, 16, generator=generator(0)) * 2 - 1

    def purified(rows: list[int], micro: int | None) -> Tensor:
        noise = stream_noise(ImageStreams(3, rows), v.shape[1:], 4, "cpu")
        start = v[rows].repeat_interleave(4, 0)
        moved = langevin(force(model), start, noise, steps=CHUNK + 7, tau=0.08, micro_batch=micro)
        return moved.unflatten(0, (len(rows), 4))

    whole = purified(list(range(7)), None)
    for micro in (1, 2, 5, 16):
        assert torch.equal(purified(list(range(7)), micro), whole)
    parts = torch.cat([purified([6, 0], 3), purified([3], None)])
    assert torch.equal(parts, whole[[6, 0, 3]])
    assert not torch.equal(whole[:, 0], whole[:, 1])  # replicates differ


def test_one_replicate_of_one_image_is_the_same_alone() -> None:
    model = network()
    v = torch.rand(3, 1, 16, 16, generator=generator(0)) * 2 - 1
    states = [
        langevin(force(model), v[r], stream_noise(ImageStreams(0, r), v.shape[1:], 1, "cpu"), steps=60, tau=0.08)
        for r in ([0, 1, 2], [1])
    ]
    assert torch.equal(states[0][[1]], states[1])


def test_the_callback_sees_a_longer_chain_pass_through_a_shorter_one() -> None:
    model = network()
    start = torch.zeros(2, 1, 16, 16)
    seen: dict[int, Tensor] = {}

    def run(steps: int, at: tuple[int, ...] | None = None) -> Tensor:
        noise = stream_noise(ImageStreams(0, [4, 5]), start.shape[1:], 1, "cpu")
        return langevin(force(model), start, noise, steps=steps, tau=0.08, callback=seen.__setitem__, at=at)

    long = run(60, at=(10, 25, 40, 60))
    assert list(seen) == [10, 25, 40, 60]
    assert torch.equal(seen[60], long)
    at_forty = seen[40]
    seen.clear()
    assert torch.equal(run(40), at_forty)
    assert list(seen) == list(range(1, 41))
    assert torch.equal(start, torch.zeros(2, 1, 16, 16))  # the caller's states are left alone


def test_no_steps_is_the_identity() -> None:
    v = torch.rand(2, 1, 16, 16)
    noise = generator_noise(generator(0), v.shape)
    assert torch.equal(langevin(force(network()), v, noise, steps=0, tau=0.1), v)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_the_written_out_force_is_the_gradient(size: int) -> None:
    model = network(size, channels=3)
    v = (torch.rand(5, 3, size, size, generator=generator(1)) * 4 - 2).requires_grad_()
    (gradient,) = torch.autograd.grad(model.scaled_energy(v).sum(), v)
    torch.testing.assert_close(model.prepared_force()(v.detach()), gradient, rtol=1e-4, atol=1e-8)


def test_force_differentiates_a_model_without_one() -> None:
    v = torch.rand(3, 1, 2, 2)
    torch.testing.assert_close(force(Quadratic(4.0, 0.5, 0.1))(v), 0.1**2 / 2 * 4 * (v - 0.5))


def test_energy_is_in_nats_of_the_state_scale() -> None:
    x = torch.rand(4, 1, 3, 3)
    expected = 4 * (2 * x - 1 - 0.5).square().flatten(1).sum(1) / 2
    torch.testing.assert_close(energy(Quadratic(4.0, 0.5, 0.01), x), expected)


def test_small_networks_are_moved_in_parts_on_a_cpu_only() -> None:
    model = network()
    assert micro_batch(model, torch.device("cpu")) == model.micro_batch >= 16
    assert micro_batch(model, torch.device("cuda")) is None
    assert micro_batch(Quadratic(1.0, 0.0, 0.1), torch.device("cpu")) is None
