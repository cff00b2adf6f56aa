from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robustgen.models.ncsnv2 import Config, NCSNv2, noise_levels
from robustgen.sampling.annealed import annealed_langevin
from robustgen.sampling.langevin import generator_noise, stream_noise
from robustgen.sampling.noise_levels import langevin_step
from robustgen.seeding import ImageStreams, generator

SIGMAS = noise_levels(Config(size=8, sigma_first=4.0, levels=30))


def gaussian(x: Tensor, sigma: Tensor, mean: float = 0.3, spread: float = 0.1) -> Tensor:
    """The score of N(mean, spread² I) blurred by noise σ."""
    return -(x - mean) / (spread**2 + sigma.view(-1, 1, 1, 1) ** 2)


def sample(start: Tensor, *, seed: int = 0, steps: int = 5, denoise: bool = True) -> Tensor:
    noise = generator_noise(generator(seed), start.shape)
    step = langevin_step(SIGMAS, steps)
    return annealed_langevin(gaussian, start, SIGMAS, noise, step=step, steps=steps, denoise=denoise)


def test_samples_of_a_gaussian_have_its_mean_and_spread() -> None:
    found = sample(torch.rand(500, 1, 4, 4, generator=generator(1)), steps=100)
    assert abs(found.mean() - 0.3) < 0.01
    assert abs(found.std() / 0.1 - 1) < 0.05


def test_the_last_step_takes_the_noise_of_the_last_level_out() -> None:
    start = torch.rand(3, 1, 4, 4, generator=generator(1))
    noisy, clean = sample(start, denoise=False), sample(start)
    last = SIGMAS[-1].expand(3)
    torch.testing.assert_close(clean, noisy + SIGMAS[-1] ** 2 * gaussian(noisy, last))
    assert not torch.equal(clean, noisy)


def test_the_algorithm_as_written() -> None:
    start, steps, epsilon = torch.rand(2, 1, 2, 2, generator=generator(1)), 3, 2e-5
    sigmas = torch.tensor([1.0, 0.3, 0.1])
    draws = generator(5)
    x = start
    for sigma in sigmas:
        alpha = epsilon * sigma**2 / sigmas[-1] ** 2
        for z in torch.randn((steps, *start.shape), generator=draws):
            x = x + alpha * gaussian(x, sigma.expand(2)) + torch.sqrt(2 * alpha) * z
    x = x + sigmas[-1] ** 2 * gaussian(x, sigmas[-1].expand(2))
    noise = generator_noise(generator(5), start.shape)
    found = annealed_langevin(gaussian, start, sigmas, noise, step=epsilon, steps=steps)
    torch.testing.assert_close(found, x)


def test_the_callback_sees_every_level_and_the_start_is_left_alone() -> None:
    start, seen = torch.zeros(2, 1, 4, 4), {}
    noise = generator_noise(generator(0), start.shape)
    found = annealed_langevin(
        gaussian, start, SIGMAS, noise, step=1e-5, steps=2, denoise=False, callback=seen.__setitem__
    )
    assert list(seen) == list(range(1, 31))
    assert torch.equal(seen[30], found)
    assert not torch.equal(seen[29], found)
    assert not start.any()


def test_images_with_streams_of_their_own_are_the_same_in_any_batch() -> None:
    torch.manual_seed(0)
    model = NCSNv2(Config(size=8, channels=1, width=2, sigma_first=2.0, levels=4)).eval()

    def drawn(rows: list[int]) -> Tensor:
        streams = ImageStreams(0, rows)
        start = streams.uniform((1, 8, 8))
        noise = stream_noise(streams, (1, 8, 8), 1, "cpu")
        return annealed_langevin(model.score, start, model.sigmas, noise, step=1e-5, steps=2)

    whole = drawn([0, 1, 2, 3])
    torch.testing.assert_close(drawn([3, 1]), whole[[3, 1]], atol=1e-5, rtol=1e-5)
    assert not whole.requires_grad


@pytest.mark.parametrize("seed", [0, 1])
def test_equal_draws_give_equal_samples(seed: int) -> None:
    start = torch.zeros(2, 1, 4, 4)
    assert torch.equal(sample(start, seed=seed), sample(start, seed=seed))
    assert not torch.equal(sample(start, seed=seed), sample(start, seed=seed + 1))
