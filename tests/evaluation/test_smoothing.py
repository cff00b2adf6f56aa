from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from robustgen.errors import UserError
from robustgen.evaluation import smoothing
from robustgen.evaluation.smoothing import ABSTAIN, Certificates, certified_accuracy, certify, point_estimates, renyi

SIGMA = 0.25


def counts(*rows: list[int]) -> np.ndarray:
    return np.array(rows)


def two_classes(distance: float, n: int, images: int, seed: int) -> np.ndarray:
    """Counts (images, 2) of n noisy copies each of points at a distance before the hyperplane of a linear classifier,
    class 0 being their side. The smoothed classifier's radius there is the distance.
    """
    right = np.random.default_rng(seed).binomial(n, stats.norm.cdf(distance / SIGMA), images)
    return np.stack([right, n - right], 1)


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize("n", [1, 100, 100_000])
def test_bound_is_the_one_of_scipy(n: int, alpha: float) -> None:
    for k in sorted({0, 1, n // 3, n - 1, n}):
        exact = stats.binomtest(k, n, alternative="greater").proportion_ci(1 - alpha, "exact")
        assert smoothing.lower_bound(np.array([k]), n, alpha)[0] == pytest.approx(exact.low, abs=1e-12)
        above = stats.binomtest(k, n, alternative="less").proportion_ci(1 - alpha, "exact")
        assert 1 - smoothing.lower_bound(np.array([n - k]), n, alpha)[0] == pytest.approx(above.high, abs=1e-12)


def test_certificate_by_hand() -> None:
    found = certify(counts([1, 9, 0], [10, 0, 0], [4, 3, 3]), counts([0, 100, 0], [50, 25, 25], [90, 10, 0]), SIGMA)
    assert found.classes.tolist() == [1, ABSTAIN, 0]
    assert found.radii[0] == pytest.approx(SIGMA * stats.norm.ppf(0.001 ** (1 / 100)))  # all of n: p_A = α^(1/n)
    assert found.radii[1] == 0
    exact = stats.binomtest(90, 100, alternative="greater").proportion_ci(0.999, "exact").low
    assert found.radii[2] == pytest.approx(SIGMA * stats.norm.ppf(exact))


def test_class_is_chosen_by_the_selection_alone() -> None:
    found = certify(counts([0, 10], [10, 0]), counts([990, 10], [990, 10]), SIGMA)
    assert found.classes.tolist() == [ABSTAIN, 0]  # the other draws' favourite is no substitute
    assert renyi(counts([990, 10]), SIGMA, "clopper-pearson", 0.05, counts([0, 10])).classes.tolist() == [ABSTAIN]


@pytest.mark.parametrize(("right", "abstains"), [(50, True), (58, True), (70, False), (100, False)])
def test_abstention_asks_for_a_majority_beyond_chance(right: int, abstains: bool) -> None:
    votes = counts([right, 100 - right])
    assert (stats.binomtest(right, 100, 0.5, alternative="greater").pvalue >= 0.001) == abstains
    for found in (certify(votes, votes, SIGMA), renyi(votes, SIGMA, "clopper-pearson", 0.001, votes)):
        assert (found.classes[0] == ABSTAIN) == abstains
        assert (found.radii[0] == 0) == abstains


@pytest.mark.parametrize("distance", [0.05, 0.3, 0.7])
def test_certificates_of_a_linear_classifier_stay_below_its_distance(distance: float) -> None:
    alpha, images = 0.05, 4000
    selection, votes = two_classes(distance, 100, images, 0), two_classes(distance, 10_000, images, 1)
    allowed = stats.binom.ppf(1 - 1e-6, images, alpha)  # failures that chance may bring to a bound that keeps α
    for found in (
        certify(selection, votes, SIGMA, alpha),
        renyi(votes, SIGMA, "clopper-pearson", alpha, selection),
    ):
        wrong = (found.classes == 1) | (found.radii > distance)
        assert wrong.sum() <= allowed
    certified = certify(selection, votes, SIGMA, alpha)
    assert (certified.radii > distance).sum() > 0.2 * alpha * images  # and the bound is not slack
    assert (point_estimates(votes, SIGMA).radii > distance).mean() > 0.3  # as an estimate of p_A is


@pytest.mark.parametrize("distance", [0.05, 0.3, 0.7])
def test_radii_of_a_linear_classifier_converge_to_its_distance(distance: float) -> None:
    errors = []
    for n in (100, 10_000, 10_000_000):
        votes = two_classes(distance, n, 50, 2)
        estimate = point_estimates(votes, SIGMA)
        errors.append(np.abs(estimate.radii - distance).mean())
        assert (estimate.classes == 0).all() or n == 100
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3
    np.testing.assert_allclose(certify(votes, votes, SIGMA).radii, distance, atol=3e-3)


def test_estimate_where_all_copies_agree_is_large_but_finite() -> None:
    found = point_estimates(counts([0, 100, 0], [100, 0, 0], [99, 1, 0], [98, 1, 1]), SIGMA)
    assert found.radii[0] == found.radii[1] == pytest.approx(SIGMA * stats.norm.ppf(0.995))
    assert found.radii[0] > found.radii[2] == pytest.approx(SIGMA * stats.norm.ppf(0.99))
    assert found.radii[2] > found.radii[3] > 0
    assert point_estimates(counts([1000, 0]), SIGMA).radii[0] > found.radii[0]  # more copies that agree say more


def test_estimate_takes_the_two_largest_and_never_abstains() -> None:
    found = point_estimates(counts([30, 45, 25], [50, 50, 0]), SIGMA)
    assert found.classes.tolist() == [1, 0]
    assert found.radii[0] == pytest.approx(SIGMA / 2 * (stats.norm.ppf(0.45) - stats.norm.ppf(0.30)))
    assert found.radii[1] == 0
    assert certify(counts([30, 45, 25]), counts([30, 45, 25]), SIGMA).classes[0] == ABSTAIN  # without a majority


def probabilities() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    first = random.uniform(0.05, 0.9999, 300)
    return first, np.minimum(first, 1 - first) * random.uniform(0, 1, 300) ** 3


def test_supremum_is_found() -> None:
    def negative(log_above: float, p: float, q: float) -> float:
        above = np.exp(log_above)
        mean = np.exp((np.logaddexp(-above * np.log(p), -above * np.log(q)) - np.log(2)) / -above)
        return float(2 * SIGMA**2 * np.log(1 - p - q + 2 * mean) / (1 + above))

    first, second = probabilities()
    for p, q, radius in zip(first, second, smoothing.renyi_radius(first, second, SIGMA), strict=True):
        ends = [(-8, 0), (-2, 2), (0, 8)]
        best = min(
            optimize.minimize_scalar(negative, bounds=end, args=(p, q), method="bounded").fun  # type: ignore[call-overload]
            for end in ends
        )
        assert radius == pytest.approx(np.sqrt(max(0, -best)), abs=1e-4)


def test_renyi_radius_at_the_ends() -> None:
    found = smoothing.renyi_radius(np.array([0.4, 0.5, 0.9]), np.array([0.4, 0.5, 0.0]), SIGMA)
    np.testing.assert_allclose(found[:2], 0, atol=1e-7)
    assert found[2] == pytest.approx(SIGMA * np.sqrt(-2 * np.log(0.1)))  # a -> 1


def test_renyi_radius_is_below_the_tight_one() -> None:
    first, second = probabilities()
    tight = SIGMA / 2 * (stats.norm.ppf(first) - stats.norm.ppf(second))
    found = smoothing.renyi_radius(first, second, SIGMA)
    assert (found > 0).all()
    assert (found < tight).all()
    votes = np.random.default_rng(1).multinomial(100, [0.75, 0.15, 0.07, 0.03], 50)
    assert (renyi(votes, SIGMA).radii < point_estimates(votes, SIGMA).radii).all()
    assert (renyi(votes, SIGMA).classes == point_estimates(votes, SIGMA).classes).all()


def every(votes: np.ndarray, sigma: float = SIGMA, alpha: float = 0.001) -> list[np.ndarray]:
    """The radii of all three methods, and of Li et al.'s with bounds."""
    return [
        certify(votes, votes, sigma, alpha).radii,
        point_estimates(votes, sigma).radii,
        renyi(votes, sigma).radii,
        renyi(votes, sigma, "clopper-pearson", alpha, votes).radii,
    ]


def test_more_votes_for_the_class_never_shorten_a_radius() -> None:
    right = np.arange(50, 101)
    third = np.minimum(100 - right, 7)
    for radii in every(np.stack([right, 100 - right - third, third], 1)):
        assert (np.diff(radii) >= -1e-9).all()
        assert radii[-1] > 0


def test_radii_scale_with_the_noise_and_grow_with_samples_and_alpha() -> None:
    votes = counts([80, 15, 5], [99, 0, 1])
    for radii, doubled in zip(every(votes), every(votes, 2 * SIGMA), strict=True):
        np.testing.assert_allclose(doubled, 2 * radii)
    for strict, loose in zip(every(votes), every(votes, alpha=0.05), strict=True):
        assert (strict <= loose).all()
    for few, many in zip(every(votes), every(100 * votes), strict=True):
        assert (few <= many + 1e-12).all()


def test_bounds_shorten_both_radii() -> None:
    votes = np.random.default_rng(1).multinomial(100, [0.85, 0.1, 0.05], 50)
    cohen, point, li, bounded = every(votes)
    assert (cohen < point).all()
    assert (bounded < li).all()


def test_images_are_certified_one_by_one() -> None:
    votes = np.random.default_rng(1).multinomial(100, [0.7, 0.2, 0.1], 20)
    for together, alone in zip(every(votes), zip(*(every(row[None]) for row in votes), strict=True), strict=True):
        np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-12)


def test_certified_accuracy() -> None:
    given = Certificates(np.array([0, 1, ABSTAIN, 2]), np.array([0.5, 0.2, 0.0, 0.5]))
    found = certified_accuracy(given, np.array([0, 1, 0, 1]), [0, 0.2, 0.3, 0.5, 0.51])
    assert [estimate.value for estimate in found] == [0.5, 0.5, 0.25, 0.25, 0]
    for estimate in found:
        exact = stats.binomtest(round(estimate.value * 4), 4).proportion_ci(0.95, "exact")
        assert (estimate.low, estimate.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
        assert estimate.n == 4


GOOD = counts([5, 5], [9, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: certify(GOOD, GOOD[:1], SIGMA), r"selection counts are \(2, 2\) where counts are \(1, 2\)"),
        (lambda: certify(GOOD, GOOD, 0.0), "sigma is 0.0; smoothing needs noise"),
        (lambda: certify(GOOD, GOOD, np.nan), "sigma is nan"),
        (lambda: certify(GOOD, GOOD, SIGMA, 0.0), "alpha is 0.0; a failure probability"),
        (lambda: certify(GOOD, GOOD, SIGMA, 1.0), "alpha is 1.0; a failure probability"),
        (lambda: point_estimates(GOOD, -1), "sigma is -1"),
        (lambda: point_estimates(GOOD / 10, SIGMA), "counts must be whole numbers from 0 on"),
        (lambda: point_estimates(-GOOD, SIGMA), "counts must be whole numbers from 0 on"),
        (lambda: point_estimates(GOOD[0], SIGMA), r"counts are of shape \(2,\)"),
        (lambda: point_estimates(GOOD[:, :1], SIGMA), "two classes at least"),
        (lambda: point_estimates(GOOD[:0], SIGMA), r"counts are of shape \(0, 2\)"),
        (lambda: point_estimates(0 * GOOD, SIGMA), "an image has no counts"),
        (lambda: renyi(GOOD, 0), "sigma is 0"),
        (lambda: renyi(GOOD, SIGMA, "goodman"), "unknown bounds 'goodman'"),  # type: ignore[arg-type]
        (lambda: renyi(GOOD, SIGMA, "clopper-pearson"), r"need selection counts of shape \(2, 2\)"),
        (lambda: renyi(GOOD, SIGMA, "clopper-pearson", 0.1, GOOD[:1]), r"need selection counts of shape \(2, 2\)"),
        (lambda: smoothing.renyi_radius(np.array([0.3]), np.array([0.4]), SIGMA), "probabilities must be p₁ >= p₂"),
        (lambda: smoothing.renyi_radius(np.array([1.0]), np.array([0.0]), SIGMA), "probabilities must be"),
        (lambda: certified_accuracy(certify(GOOD, GOOD, SIGMA), np.array([0]), [0]), "2 certificates, but labels of"),
        (lambda: certified_accuracy(certify(GOOD, GOOD, SIGMA), np.array([0, 1]), [-0.1]), "give numbers from 0 on"),
    ],
)
def test_what_cannot_be_meant(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
