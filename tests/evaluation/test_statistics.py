import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from robustgen.errors import UserError
from robustgen.evaluation import statistics as s


def scores(seed, n=150, m=100, shift=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, n), rng.normal(0, 1, m)


def sklearn_auc(natural, adversarial):
    return roc_auc_score([1] * len(natural) + [0] * len(adversarial), np.concatenate([natural, adversarial]))


class TestProportion:
    def test_known_interval(self):
        estimate = s.proportion(8, 10)
        assert (estimate.value, estimate.n) == (0.8, 10)
        assert estimate.low == pytest.approx(0.44390, abs=1e-5)
        assert estimate.high == pytest.approx(0.97479, abs=1e-5)

    @given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_agrees_with_scipy(self, case):
        estimate = s.proportion(*case)
        exact = stats.binomtest(*case).proportion_ci(method="exact")
        assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
        assert estimate.low <= estimate.value <= estimate.high

    def test_extremes_keep_a_width(self):
        assert s.proportion(0, 50).low == 0
        assert s.proportion(0, 50).high == pytest.approx(1 - 0.025 ** (1 / 50))
        assert s.proportion(50, 50).high == 1

    @pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
    def test_impossible_counts(self, successes, n):
        with pytest.raises(UserError, match="proportion"):
            s.proportion(successes, n)

    @pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
    def test_confidence_is_a_fraction(self, confidence):
        with pytest.raises(UserError, match="confidence"):
            s.proportion(1, 2, confidence)


class TestMeans:
    def test_mean_is_students(self):
        x = np.array([1.0, 2.0, 4.0, 8.0])
        estimate = s.mean(x, 0.9)
        low, high = stats.t.interval(0.9, 3, loc=x.mean(), scale=stats.sem(x))
        assert (estimate.value, estimate.low, estimate.high, estimate.n) == pytest.approx((3.75, low, high, 4))

    def test_difference_uses_the_pairing(self):
        rng = np.random.default_rng(0)
        level = rng.normal(0, 100, 50)
        a, b = level + 1 + rng.normal(0, 0.1, 50), level
        paired = s.mean_difference(a, b)
        assert 0.9 < paired.low < paired.high < 1.1
        reverse = s.mean_difference(b, a)
        assert (reverse.low, reverse.high) == pytest.approx((-paired.high, -paired.low))

    def test_one_value_has_no_interval(self):
        with pytest.raises(UserError, match="at least 2"):
            s.mean([1.0])

    def test_pairs_must_match(self):
        with pytest.raises(UserError, match="equal number"):
            s.mean_difference([1.0, 2.0], [1.0])

    def test_tensors_are_accepted(self):
        assert s.mean(torch.tensor([1.0, 3.0])).value == 2


class TestShareDifference:
    @pytest.mark.parametrize("agree", [0.0, 0.3, 1.0])
    def test_binary_values_have_bonett_and_prices_interval(self, agree):
        random = np.random.default_rng(0)
        a = random.random(50) < 0.6
        b = np.where(random.random(50) < agree, a, random.random(50) < 0.4)
        p, q = ((int((x & ~y).sum()) + 1) / 52 for x, y in ((a, b), (b, a)))
        half = stats.norm.ppf(0.975) * math.sqrt((p + q - (p - q) ** 2) / 52)
        for found, unit in ((s.share_difference(a, b), 1), (s.share_difference(2.0 * a, 2.0 * b, largest=2), 2)):
            assert found.value == pytest.approx(unit * (a.mean() - b.mean()))
            assert (found.low, found.high, found.n) == pytest.approx((unit * (p - q - half), unit * (p - q + half), 50))

    def test_it_narrows_as_values_agree(self):
        same, apart = np.full(100, 0.25), np.tile([0.0, 0.5], 50)
        narrow, wide = s.share_difference(same, np.zeros(100)), s.share_difference(apart, np.zeros(100))
        assert narrow.value == wide.value == 0.25
        assert wide.low < narrow.low < 0.25 < narrow.high < wide.high
        nothing = s.share_difference(np.zeros(6), np.zeros(6))
        assert nothing.low == -nothing.high < -0.2  # six images that agree show little


class TestBoundedMean:
    def test_it_keeps_a_width_where_all_agree(self):
        for value in (0.0, 0.5, 1.0):
            estimate = s.bounded_mean([value] * 12)
            assert estimate.value == value
            assert 0 <= estimate.low <= value <= estimate.high <= 1
            assert estimate.high - estimate.low > 0.1
        assert s.bounded_mean([1.0]).low < 0.5

    def test_it_is_the_t_interval_of_many(self):
        x = np.random.default_rng(0).beta(9, 1, 4000)
        bounded, t = s.bounded_mean(x), s.mean(x)
        assert (bounded.value, bounded.low, bounded.high) == pytest.approx((t.value, t.low, t.high), abs=2e-3)

    @pytest.mark.parametrize("p", [0.5, 0.9, 0.97])
    def test_interval_covers(self, p):
        draws = np.random.default_rng(1).random((1000, 12)) < p
        assert np.mean([e.low <= p <= e.high for e in map(s.bounded_mean, draws)]) > 0.94

    def test_values_are_shares(self):
        with pytest.raises(UserError, match=r"\[0, 1\]"):
            s.bounded_mean([0.5, 1.2])


class TestPairedAuc:
    @staticmethod
    def pairs(seed, n=40, shift=1.0, shared=1.5):
        """Scores of n images, natural and attacked, that share what an image has of its own."""
        rng = np.random.default_rng(seed)
        own = shared * rng.normal(size=n)
        return own + rng.normal(size=n) + shift, own + rng.normal(size=n)

    def test_value_is_that_of_unpaired_scores(self):
        natural, adversarial = self.pairs(0)
        paired, plain = s.paired_auc(natural, adversarial), s.auc(natural, adversarial)
        assert (paired.value, paired.n, plain.n) == (plain.value, 40, 80)
        assert paired.high - paired.low < plain.high - plain.low  # what the scores share cancels

    def test_interval_is_the_bootstraps_by_image(self):
        natural, adversarial = self.pairs(3, 150)
        rng = np.random.default_rng(0)
        drawn = rng.integers(150, size=(1500, 150))
        low, high = np.quantile([s.auc(natural[rows], adversarial[rows]).value for rows in drawn], [0.025, 0.975])
        estimate = s.paired_auc(natural, adversarial)
        width = estimate.high - estimate.low
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.12 * width)

    def test_interval_covers(self):
        truth = stats.norm.cdf(1 / math.sqrt(2 * (1 + 1.5**2)))
        intervals = [s.paired_auc(*self.pairs(seed)) for seed in range(400)]
        assert 0.92 < np.mean([e.low <= truth <= e.high for e in intervals]) < 0.985

    def test_perfect_separation_keeps_a_width(self):
        best = s.paired_auc([2.0] * 30, [1.0] * 30)
        assert (best.value, best.high, best.n) == (1.0, 1.0, 30)
        assert best.low == pytest.approx(0.025 ** (1 / 15))
        assert s.paired_auc([1.0], [0.0]).low < 0.1

    def test_scores_are_of_the_same_images(self):
        with pytest.raises(UserError, match="equal number"):
            s.paired_auc([1.0, 2.0], [0.0])


class TestAuc:
    @pytest.mark.parametrize("seed", range(4))
    def test_value_is_sklearns(self, seed):
        natural, adversarial = scores(seed)
        assert s.auc(natural, adversarial).value == pytest.approx(sklearn_auc(natural, adversarial), abs=1e-12)

    def test_ties_count_one_half(self):
        natural, adversarial = (np.round(x) for x in scores(0))
        assert s.auc(natural, adversarial).value == pytest.approx(sklearn_auc(natural, adversarial), abs=1e-12)
        assert s.auc([1, 1], [1, 1, 1]).value == 0.5

    def test_swapping_sides_mirrors(self):
        natural, adversarial = scores(1)
        there, back = s.auc(natural, adversarial), s.auc(adversarial, natural)
        assert (back.value, back.low, back.high) == pytest.approx((1 - there.value, 1 - there.high, 1 - there.low))

    def test_interval_agrees_with_a_bootstrap(self):
        natural, adversarial = scores(2)
        rng = np.random.default_rng(0)
        draws = [s.auc(rng.choice(natural, 150), rng.choice(adversarial, 100)).value for _ in range(2000)]
        estimate = s.auc(natural, adversarial)
        width = estimate.high - estimate.low
        low, high = np.quantile(draws, [0.025, 0.975])
        assert estimate.low == pytest.approx(low, abs=0.12 * width)
        assert estimate.high == pytest.approx(high, abs=0.12 * width)

    @pytest.mark.parametrize("shift", [0.0, 2.5])
    def test_interval_covers(self, shift):
        truth = stats.norm.cdf(shift / math.sqrt(2))
        intervals = [s.auc(*scores(seed, 30, 30, shift)) for seed in range(400)]
        assert np.mean([e.low <= truth <= e.high for e in intervals]) > 0.92

    def test_perfect_separation_keeps_a_width(self):
        best, worst = s.auc([2.0] * 30, [1.0] * 40), s.auc([1.0] * 30, [2.0] * 40)
        assert (best.value, best.high, best.n) == (1.0, 1.0, 70)
        assert best.low == pytest.approx(0.025 ** (1 / 30))
        assert (worst.value, worst.low) == (0.0, 0.0)
        assert worst.high == pytest.approx(1 - best.low)

    def test_constant_scores_and_single_scores(self):
        for estimate in (s.auc([1.0] * 20, [1.0] * 20), s.auc([1.0], [0.0, 2.0, 3.0])):
            assert 0 <= estimate.low < estimate.value < estimate.high <= 1


class TestDetectionRates:
    def test_counts_scores_at_the_threshold(self):
        rates = s.detection_rates([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 5.0], 1.0)
        assert (rates.detection.value, rates.detection.n) == (pytest.approx(2 / 3), 3)
        assert (rates.false_positive.value, rates.false_positive.n) == (0.25, 4)
        assert rates.detection == s.proportion(2, 3)

    def test_threshold_between_neighbouring_float32(self):
        low = torch.tensor(-15.23)
        high = torch.nextafter(low, torch.tensor(0.0))
        rates = s.detection_rates(high[None], low[None], (low.double() + high.double()).item() / 2)
        assert (rates.detection.value, rates.false_positive.value) == (1, 0)

    def test_nan_threshold(self):
        with pytest.raises(UserError, match="threshold"):
            s.detection_rates([1.0], [0.0], math.nan)


def correctness(both, only_a, only_b, neither=0):
    a = [1] * both + [1] * only_a + [0] * only_b + [0] * neither
    b = [1] * both + [0] * only_a + [1] * only_b + [0] * neither
    return np.array(a, dtype=bool), np.array(b, dtype=bool)


class TestPairedProportions:
    def test_known_mcnemar(self):
        assert s.mcnemar(*correctness(80, 3, 12)) == pytest.approx(0.03515625)
        assert s.mcnemar(*correctness(0, 12, 3, 40)) == pytest.approx(0.03515625)

    def test_no_discordant_pair(self):
        assert s.mcnemar(*correctness(10, 0, 0, 10)) == 1.0

    @given(st.integers(0, 60), st.integers(0, 60))
    def test_mcnemar_is_twice_the_tail(self, b, c):
        tail = stats.binom.cdf(min(b, c), b + c, 0.5)
        assert s.mcnemar(*correctness(1, b, c)) == pytest.approx(min(1.0, 2 * tail))

    def test_correctness_is_binary(self):
        with pytest.raises(UserError, match="0 and 1"):
            s.mcnemar([0.5, 1.0], [0.0, 1.0])

    @given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
    def test_difference_contains_its_value(self, b, c, both):
        estimate = s.proportion_difference(*correctness(both, b, c))
        assert estimate.value == pytest.approx((b - c) / (both + b + c))
        assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high

    def test_difference_of_many_images_is_the_paired_t_interval(self):
        pair = correctness(7000, 1000, 500, 1500)
        adjusted, t = s.proportion_difference(*pair), s.mean_difference(*pair)
        assert (adjusted.low, adjusted.high) == pytest.approx((t.low, t.high), abs=2e-4)


class TestHolm:
    def test_known_values_in_the_given_order(self):
        assert s.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    def test_between_raw_and_bonferroni_and_monotone(self, p):
        adjusted = s.holm(p)
        assert (adjusted >= np.array(p)).all()
        assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
        assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()

    def test_range(self):
        with pytest.raises(UserError, match=r"\[0, 1\]"):
            s.holm([0.1, 1.5])


@pytest.mark.parametrize("bad", [[1.0, math.nan], [math.inf, 0.0], [], [[1.0, 0.0]]])
@pytest.mark.parametrize(
    "function",
    [
        s.mean,
        s.holm,
        lambda x: s.auc(x, [0.0, 1.0]),
        lambda x: s.auc([0.0, 1.0], x),
        lambda x: s.mean_difference(x, [0.0, 1.0]),
        lambda x: s.proportion_difference([0.0, 1.0], x),
        lambda x: s.mcnemar(x, [0.0, 1.0]),
        lambda x: s.detection_rates(x, [0.0, 1.0], 0.0),
    ],
    ids=["mean", "holm", "auc natural", "auc adversarial", "difference", "proportions", "mcnemar", "rates"],
)
def test_unusable_values_are_refused(function, bad):
    with pytest.raises(UserError, match=r"finite|non-empty"):
        function(bad)
