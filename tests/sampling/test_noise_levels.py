from __future__ import annotations

import math

import pytest
import torch

from robustgen.errors import UserError
from robustgen.models.ncsnv2 import Config, noise_levels
from robustgen.sampling import noise_levels as module
from robustgen.sampling.noise_levels import guidance, langevin_step, largest_distance, level_count, ratio
from robustgen.seeding import generator


def test_largest_distance_is_that_of_the_farthest_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(23, 3, 4, 4, generator=generator(0))
    images[7], images[19] = 0, 1
    assert largest_distance(images) == pytest.approx(math.sqrt(48))
    monkeypatch.setattr(module, "BLOCK", 5)
    assert largest_distance(images) == pytest.approx(math.sqrt(48))


def test_of_many_images_a_seeded_subset_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(50.0).view(50, 1, 1, 1)
    monkeypatch.setattr(module, "LIMIT", 5)
    found = [largest_distance(images, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert max(found) < 49


@pytest.mark.parametrize("dimension", [5, 64, 256, 3072, 49152])
def test_half_of_a_levels_norms_are_typical_of_the_level_above(dimension: int) -> None:
    gamma = ratio(dimension)
    assert gamma > 1
    norms = torch.distributions.Normal(torch.tensor(dimension).double().sqrt(), math.sqrt(0.5))  # in units of σ_i
    low, high = (gamma * (math.sqrt(dimension) + sign * 3 * math.sqrt(0.5)) for sign in (-1, 1))  # ± 3 deviations
    assert float(norms.cdf(torch.tensor(high)) - norms.cdf(torch.tensor(low))) == pytest.approx(0.5, abs=1e-5)


def test_ratio_falls_with_the_dimension_towards_one() -> None:
    found = [ratio(d) for d in (64, 256, 784, 3072)]
    assert found == sorted(found, reverse=True)
    assert found[1] == pytest.approx(1.1528, abs=1e-4)


@pytest.mark.parametrize("dimension", [1, 4])
def test_too_few_pixels_have_no_ratio(dimension: int) -> None:
    with pytest.raises(UserError, match=f"at least 5 values, not {dimension}"):
        ratio(dimension)


def test_level_count_is_the_fewest_whose_ratio_suffices() -> None:
    gamma = ratio(256)
    found = level_count(8.077, 0.01, gamma)
    assert found == 49
    assert (8.077 / 0.01) ** (1 / (found - 1)) <= gamma < (8.077 / 0.01) ** (1 / (found - 2))


def test_guidance_of_images() -> None:
    images = torch.zeros(4, 1, 8, 8)
    images[2] = 1
    found = guidance(images)
    assert (found.first, found.last) == (8.0, 0.01)
    assert found.levels == level_count(8.0, 0.01, ratio(64))
    levels = noise_levels(Config(size=8, sigma_first=found.first, sigma_last=found.last, levels=found.levels))
    assert (levels[:-1] / levels[1:]).max() <= found.ratio + 1e-5


def test_images_that_do_not_tell() -> None:
    with pytest.raises(UserError, match="needs two of them, not 1"):
        guidance(torch.rand(1, 1, 8, 8))
    with pytest.raises(UserError, match="largest distance between images is 0, not above"):
        guidance(torch.zeros(3, 1, 8, 8))


def test_the_published_step_sizes_come_out() -> None:
    assert langevin_step(noise_levels(Config()), 5) == pytest.approx(6.2e-6, rel=0.01)  # CIFAR-10


@pytest.mark.parametrize("steps", [1, 3, 5, 20])
def test_no_other_step_size_keeps_the_noise_nearer_to_its_level(steps: int) -> None:
    sigmas = noise_levels(Config(size=16, sigma_first=8.0, levels=49))
    gamma, last = float((sigmas[0] / sigmas[-1]) ** (1 / 48)), 0.01

    def ratio_after(step: float) -> float:
        """Variance at σ_L in units of σ_L² after the steps there, with the score −x/σ² of pure noise, step by step."""
        variance = (gamma * last) ** 2
        for _ in range(steps):
            variance = variance * (1 - step / last**2) ** 2 + 2 * step
        return variance / last**2

    best = langevin_step(sigmas, steps)
    assert 1 < ratio_after(best) < gamma**2
    grid = [ratio_after(k / 200 * last**2) for k in range(1, 200)]
    assert ratio_after(best) <= min(grid) + 1e-9


def test_no_steps_have_no_size() -> None:
    with pytest.raises(UserError, match="at least 1 step a level, not 0"):
        langevin_step(torch.tensor([1.0, 0.1]), 0)
