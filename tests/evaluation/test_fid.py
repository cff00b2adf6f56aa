from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.evaluation import fid


def sample(seed: int, n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Correlated Gaussian features (n, d)."""
    random = np.random.default_rng(seed)
    return shift + random.normal(size=(n, d)) @ random.normal(0, scale, size=(d, d))


def with_moments(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Features whose sample mean is `mean` and whose sample covariance is diag(spread²), exactly."""
    d = len(mean)
    corners = np.concatenate([np.eye(d), -np.eye(d)]) * np.sqrt((2 * d - 1) / 2)
    return mean + corners * spread


def textbook(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, with scipy's matrix square root."""
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real))


class TestDistance:
    def test_diagonal_gaussians(self) -> None:
        means, spreads = (
            (np.array([0.0, 1.0, -2.0]), np.array([3.0, 1.0, -2.5])),
            (
                np.array([1.0, 2.0, 0.5]),
                np.array([2.0, 0.1, 0.5]),
            ),
        )
        a, b = with_moments(means[0], spreads[0]), with_moments(means[1], spreads[1])
        expected = ((means[0] - means[1]) ** 2).sum() + ((spreads[0] - spreads[1]) ** 2).sum()
        assert fid.frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000), st.integers(2, 6), st.integers(12, 40), st.integers(12, 40))
    def test_agrees_with_the_matrix_square_root(self, seed: int, d: int, n: int, m: int) -> None:
        a, b = sample(seed, n, d), sample(seed + 1, m, d, 0.7, 1.0)
        assert fid.frechet_distance(a, b) == pytest.approx(textbook(a, b), rel=1e-6)
        assert fid.frechet_distance(a, b) == pytest.approx(fid.frechet_distance(b, a), rel=1e-10)

    @pytest.mark.parametrize("shape", [(30, 4), (5, 12)])
    def test_equal_sets_are_at_distance_zero(self, shape: tuple[int, int]) -> None:
        a = sample(0, *shape)
        assert 0 <= fid.frechet_distance(a, a[::-1]) < 1e-10

    def test_translation_is_its_squared_length(self) -> None:
        a = sample(0, 50, 3)
        assert fid.frechet_distance(a, a + np.array([1.0, 2.0, 2.0])) == pytest.approx(9, rel=1e-10)

    def test_rank_deficient_covariances(self) -> None:
        """Two degenerate Gaussians on one line: only the spreads along it differ."""
        line = np.array([[3.0, 4.0, 0.0]]) / 5
        t = np.linspace(-1, 1, 21)[:, None]
        unit = float(t.std(ddof=1))
        assert fid.frechet_distance(t * line, 3 * t * line) == pytest.approx((2 * unit) ** 2, rel=1e-10)
        wide = np.concatenate([t * line, np.zeros((21, 40))], axis=1)  # fewer images than features
        other = np.concatenate([3 * t * line, np.zeros((21, 40))], axis=1)
        assert fid.frechet_distance(wide, other) == pytest.approx((2 * unit) ** 2, rel=1e-10)

    def test_orthogonal_supports_share_no_root(self) -> None:
        t = np.linspace(-1, 1, 11)
        a, b = np.stack([t, 0 * t], axis=1), np.stack([0 * t, t], axis=1)
        assert fid.frechet_distance(a, b) == pytest.approx(2 * t.var(ddof=1))

    @pytest.mark.parametrize(
        ("a", "b", "message"),
        [
            (np.zeros((3, 2)), np.zeros((3, 4)), "2 and 4 columns"),
            (np.zeros((1, 2)), np.zeros((3, 2)), "at least two rows"),
            (np.zeros(3), np.zeros((3, 2)), "at least two rows"),
            (np.zeros((3, 0)), np.zeros((3, 0)), "at least two rows"),
            (np.full((3, 2), np.nan), np.zeros((3, 2)), "6 features are not finite"),
        ],
    )
    def test_unfit_features(self, a: np.ndarray, b: np.ndarray, message: str) -> None:
        with pytest.raises(UserError, match=message):
            fid.frechet_distance(a, b)


class TestBootstrap:
    def test_interval_holds_the_value_and_repeats(self) -> None:
        a, b = sample(0, 60, 4), sample(0, 60, 4, shift=0.5)
        one, again, other = (fid.bootstrapped(a, b, resamples=30, seed=seed) for seed in (0, 0, 1))
        assert one == again != other
        assert 0 <= one.low <= one.value <= one.high
        assert one.low < one.high
        assert one.value == fid.frechet_distance(a, b)
        assert one.n == 60

    def test_more_images_make_it_narrower(self) -> None:
        def width(n: int) -> float:
            random = np.random.default_rng(0)
            found = fid.bootstrapped(random.normal(size=(n, 2)), random.normal(1, 1, size=(n, 2)), resamples=60)
            return found.high - found.low

        assert width(1600) < 0.5 * width(100)

    def test_covers_the_spread_of_fresh_samples(self) -> None:
        random = np.random.default_rng(1)
        draws = [(random.normal(size=(80, 3)), random.normal(0.8, 1, size=(80, 3))) for _ in range(60)]
        values = [fid.frechet_distance(a, b) for a, b in draws]
        found = fid.bootstrapped(*draws[0], resamples=200)
        assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.5)

    @pytest.mark.parametrize(("resamples", "confidence"), [(1, 0.95), (10, 1.0), (10, float("nan"))])
    def test_unfit_options(self, resamples: int, confidence: float) -> None:
        with pytest.raises(UserError, match="a bootstrap needs"):
            fid.bootstrapped(np.eye(3), np.eye(3), resamples=resamples, confidence=confidence)


class Sums(nn.Module):
    """A classifier whose penultimate layer is each image's row sums."""

    def features(self, x: Tensor) -> list[Tensor]:
        return [x, x.sum((1, 3))]

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[-1][:, :2]


class TestExtractors:
    def test_penultimate_layer_in_any_batch(self) -> None:
        x = torch.rand(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        extractor = fid.classifier_features(Sums(), "sums")
        assert extractor.name == "penultimate layer of sums"
        found = extractor(x)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, x.sum((1, 3)).numpy(), rtol=1e-6)
        small = fid.Extractor("same", extractor.network, batch=3)(x)
        np.testing.assert_array_equal(found, small)

    def test_images_are_clipped_to_what_can_be_displayed(self) -> None:
        extractor = fid.classifier_features(Sums(), "sums")
        x = torch.full((1, 1, 1, 2), 0.5)
        x[..., 1] = 9
        assert extractor(x).item() == 1.5
        with pytest.raises(UserError, match="not finite"):
            extractor(x / 0)

    def test_a_classifier_without_features(self) -> None:
        with pytest.raises(UserError, match="linear \\(Linear\\) shows no features"):
            fid.classifier_features(nn.Linear(2, 2), "linear")


class TestInception:
    def test_weights_come_from_a_file_or_the_cache_only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        assert fid.inception_weights() is None
        cached = tmp_path / "checkpoints" / fid.INCEPTION_FILE
        cached.parent.mkdir()
        cached.write_bytes(b"")
        assert fid.inception_weights() == cached
        assert fid.inception_weights(cached) == cached
        with pytest.raises(UserError, match="Inception weights not found"):
            fid.inception_weights(tmp_path / "none.pth")

    @pytest.mark.parametrize("content", [b"no weights", b""])
    def test_a_file_that_does_not_fit(self, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fid, "build_inception", lambda: nn.Linear(1, 1))
        path = tmp_path / "x.pth"
        path.write_bytes(content)
        with pytest.raises(UserError, match="does not hold the weights"):
            fid.inception_features(path)
        torch.save({"other": torch.zeros(1)}, path)
        with pytest.raises(UserError, match="does not hold the weights"):
            fid.inception_features(path)

    def test_input_is_what_the_network_was_trained_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Tensor] = []

        class Stub(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc: Any = nn.Linear(3, 2)

            def forward(self, x: Tensor) -> Tensor:
                seen.append(x)
                out: Tensor = self.fc(x.mean((2, 3)))
                return out

        torch.save(Stub().state_dict(), tmp_path / "x.pth")
        monkeypatch.setattr(fid, "build_inception", Stub)
        extractor = fid.inception_features(tmp_path / "x.pth")
        assert "not the network of published FIDs" in extractor.name
        assert extractor(torch.ones(2, 1, 8, 8)).shape == (2, 3)  # the layer before the head, which is gone
        assert seen[0].shape == (2, 3, 299, 299)
        assert float(seen[0].min()) == float(seen[0].max()) == 1

    def test_the_real_network_has_2048_features(self, tmp_path: Path) -> None:
        network = fid.build_inception()
        assert network.fc.in_features == 2048
        assert not network.transform_input
