from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from robustgen.data import planar
from robustgen.errors import UserError

NAMES = list(planar.PROBLEMS)
PLANE = [name for name in NAMES if planar.PROBLEMS[name].dimensions == 2]


def grid(name: str, count: int) -> np.ndarray:
    """Midpoints (count^D, D) of equal cells."""
    axis = (np.arange(count) + 0.5) / count
    axes = np.meshgrid(*[axis] * planar.problem(name).dimensions, indexing="ij")
    return np.stack(axes, -1).reshape(count ** len(axes), -1)


@pytest.mark.parametrize("name", NAMES)
def test_density_integrates_to_1(name: str) -> None:
    points = grid(name, 2000 if planar.problem(name).dimensions == 1 else 150)
    assert planar.density(name, points).mean() == pytest.approx(1, abs=1e-3)  # the domain has volume 1


def test_mixture_is_the_captions() -> None:
    x = np.linspace(0.3, 0.7, 401)
    expected = 0.5 * stats.norm.pdf(x, 0.4, 0.01) + 0.5 * stats.norm.pdf(x, 0.6, 0.005)
    np.testing.assert_allclose(planar.density("mixture", x[:, None]), expected, rtol=1e-9)
    positive, negative = planar.sample("mixture", 0)
    assert positive.shape == negative.shape == (500, 1)
    near = np.abs(positive[:, 0] - 0.4) < 0.1
    assert near.sum() == 250
    assert positive[near].std() == pytest.approx(0.01, rel=0.15)
    assert positive[~near].std() == pytest.approx(0.005, rel=0.15)
    assert ((negative < 0.3) | (negative > 0.7)).all()


@pytest.mark.parametrize("name", NAMES)
def test_points_lie_in_the_domain_and_negatives_around_positives(name: str) -> None:
    positive, negative = planar.sample(name, 3)
    assert positive.dtype == negative.dtype == np.float32
    assert len(positive) == len(negative) == planar.problem(name).count
    low, high = planar.DOMAIN
    assert low <= min(positive.min(), negative.min())
    assert max(positive.max(), negative.max()) <= high
    bottom, top = planar.problem(name).hole
    assert not ((negative > bottom) & (negative < top)).all(1).any()
    assert ((positive > bottom) & (positive < top)).all(1).mean() > 0.99


@pytest.mark.parametrize("name", PLANE)
def test_positives_follow_their_density(name: str) -> None:
    count = 5
    points = np.concatenate([planar.sample(name, seed)[0] for seed in range(5)])
    found = np.histogramdd(points, bins=count, range=[(0.3, 0.7)] * 2)[0] / len(points)
    fine = (0.3 + 0.4 * grid(name, 100)).reshape(-1, 2)
    expected = planar.density(name, fine).reshape(count, 20, count, 20).mean((1, 3)) * (0.4 / count) ** 2
    assert np.abs(found - expected).sum() / 2 < 0.03  # total variation


def test_density_is_that_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    points = grid("ring", 13)
    whole = planar.density("ring", points)
    monkeypatch.setattr(planar, "CHUNK", 50)
    np.testing.assert_allclose(planar.density("ring", points), whole, rtol=1e-12)


def test_seeds_name_the_points() -> None:
    first, again, other = (planar.sample("spirals", seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_unknown_problem() -> None:
    for call in (lambda: planar.sample("moon", 0), lambda: planar.problem("moon")):
        with pytest.raises(UserError, match="unknown problem 'moon'; known are mixture, ring"):
            call()
