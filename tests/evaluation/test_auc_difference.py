"""Mean areas under ROC curves and their differences, against direct computations and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from robustgen.errors import UserError
from robustgen.evaluation.auc_difference import Ranking, mean_auc, mean_auc_difference
from robustgen.evaluation.statistics import auc


def ranking(seed: int, images: int = 60, detectors: int = 3, shift: float = 1.0) -> Ranking:
    """Positives of one class a detector, normal scores that are `shift` above the others', on a coarse grid: ties."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % (detectors + 1)
    positive = labels[:, None] == np.arange(detectors)
    scores = np.round(random.normal(0, 1, (images, detectors)) + shift * positive, 1)
    attacked = np.round(scores + random.normal(0.2, 0.3, scores.shape), 1)
    return Ranking(natural=scores, attacked=attacked, positive=positive, negative=~positive)


def column(of: Ranking, k: int) -> tuple[np.ndarray, np.ndarray]:
    return of.natural[of.positive[:, k], k], of.attacked[of.negative[:, k], k]


def shares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([[(a > b) + (a == b) / 2 for b in y] for a in x])


def delong(one: Ranking, other: Ranking, k: int) -> float:
    """The variance of one detector's difference, by DeLong's covariances."""
    wins, others = (shares(*column(each, k)) for each in (one, other))
    above = np.cov(np.stack([wins.mean(1), others.mean(1)]))
    below = np.cov(np.stack([wins.mean(0), others.mean(0)]))
    m, n = wins.shape
    return float((above[0, 0] + above[1, 1] - 2 * above[0, 1]) / m + (below[0, 0] + below[1, 1] - 2 * below[0, 1]) / n)


def test_the_value_is_the_mean_of_the_areas() -> None:
    made = ranking(0)
    areas = [auc(*column(made, k)).value for k in range(3)]
    assert mean_auc(made).value == pytest.approx(np.mean(areas))
    assert mean_auc(made).n == 60
    other = ranking(1)
    assert mean_auc_difference(made, other).value == pytest.approx(np.mean(areas) - mean_auc(other).value)


def test_the_interval_of_one_detector_is_delongs() -> None:
    """And the variance of one pair more of either extreme."""
    one, other = ranking(2, detectors=1), ranking(3, detectors=1)
    found = mean_auc_difference(one, other)
    pairs = min(int(one.positive.sum()), int(one.negative.sum()))
    half = stats.norm.ppf(0.975) * math.sqrt(delong(one, other, 0) + 2 / (pairs + 2) ** 2)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_an_image_counts_once() -> None:
    """Three detectors with the same scores know no more than one."""
    one = ranking(4, detectors=1)
    thrice = Ranking(**{name: np.repeat(getattr(one, name), 3, axis=1) for name in vars(one)})
    single, found = mean_auc(one), mean_auc(thrice)
    assert found.value == pytest.approx(single.value)
    assert found.high - found.low > 0.8 * (single.high - single.low)


def test_equal_scores_leave_a_width_that_shrinks_with_the_pairs() -> None:
    widths = []
    for images in (40, 400):
        made = ranking(5, images)
        found = mean_auc_difference(made, made)
        assert found.value == 0
        assert found.low == -found.high < 0
        widths.append(found.high)
    assert widths[1] < 0.15 * widths[0]


def test_of_two_attacks_on_the_same_networks_each_attacked_image_is_an_observation() -> None:
    one, other = ranking(8, detectors=1), ranking(9, detectors=1)
    same = Ranking(**{**vars(one), "attacked": other.attacked})
    found = mean_auc_difference(one, same)
    observations = int(one.negative.sum())
    half = stats.norm.ppf(0.975) * math.sqrt(delong(one, same, 0) + 2 / (observations + 2) ** 2)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.03])
def test_intervals_cover_a_known_difference(rate: float) -> None:
    """The second attack lifts few images, all the way: the area falls by their share."""
    random = np.random.default_rng(10)
    covered = 0
    for _ in range(300):
        positive = (np.arange(200) % 10)[:, None] == np.arange(2)
        natural = random.normal(0, 1, positive.shape) + 100 * positive
        plain = Ranking(natural=natural, attacked=natural, positive=positive, negative=~positive)
        lifted = natural + 300 * (random.random((200, 1)) < rate)
        found = mean_auc_difference(plain, Ranking(**{**vars(plain), "attacked": lifted}))
        covered += found.low <= rate <= found.high
    assert covered / 300 >= 0.93


def test_intervals_cover_a_known_area() -> None:
    """Normal scores a distance apart: the area is Φ(distance / √2)."""
    truth = float(stats.norm.cdf(1 / math.sqrt(2)))
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(200):
        positive = (np.arange(90) % 3)[:, None] == np.arange(2)
        natural = random.normal(0, 1, positive.shape) + positive
        found = mean_auc(Ranking(natural=natural, attacked=natural, positive=positive, negative=~positive))
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 200 <= 1


def test_intervals_stay_within_their_range() -> None:
    made = ranking(7, 12, shift=50)
    found = mean_auc(made)
    assert (found.value, found.high) == (1, 1)
    worst = Ranking(natural=-made.natural, attacked=-made.attacked, positive=made.positive, negative=made.negative)
    difference = mean_auc_difference(made, worst)
    assert (difference.value, difference.high) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacked": np.zeros((60, 2))}, "of one shape"),
        ({"positive": np.zeros((60, 3), bool)}, "without positive or negative"),
        ({"negative": np.zeros((60, 3), bool)}, "without positive or negative"),
        ({"natural": np.full((60, 3), np.nan)}, "not finite"),
    ],
)
def test_what_is_no_ranking_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    made = ranking(0)
    with pytest.raises(UserError, match=message):
        Ranking(**{**vars(made), **changes})


def test_two_rankings_must_be_of_the_same_images() -> None:
    with pytest.raises(UserError, match="of the same images"):
        mean_auc_difference(ranking(0), ranking(0, 40))
