from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from robustgen.errors import UserError
from robustgen.evaluation.gaussians import RIDGE, ClassGaussian, class_samples, fit_gaussian, white_noise
from robustgen.seeding import ImageStreams


def blobs(n: int, channels: int = 2, size: int = 4) -> Tensor:
    """Images (n, channels, size, size) around 1/2 whose pixels are correlated, far from the borders of [0, 1]."""
    random = torch.Generator().manual_seed(0)
    mixing = torch.randn(channels * size * size, channels * size * size, generator=random) * 0.01
    white = torch.randn(n, channels * size * size, generator=random)
    return (0.5 + white @ mixing).unflatten(1, (channels, size, size))


def covariance(fitted: ClassGaussian) -> np.ndarray:
    """(D, D), the ridge included."""
    root = fitted.root.double().numpy()
    found: np.ndarray = root.T @ root + RIDGE * np.eye(root.shape[1])
    return found


@pytest.mark.parametrize("n", [5, 300])  # fewer and more images than pixels
def test_mean_and_covariance_are_those_of_the_images(n: int) -> None:
    images = blobs(n)
    fitted = fit_gaussian(images)
    flat = images.flatten(1).double().numpy()
    np.testing.assert_allclose(fitted.mean.numpy(), flat.mean(0), atol=1e-12)
    expected = np.cov(flat.T, bias=True) + RIDGE * np.eye(32)
    np.testing.assert_allclose(covariance(fitted), expected, atol=1e-8)


@pytest.mark.parametrize("n", [20, 2500])  # with and without a second part in the sum
def test_samples_have_that_mean_and_covariance(n: int) -> None:
    fitted = fit_gaussian(blobs(n))
    drawn = fitted.sample(ImageStreams(3, range(4000))).flatten(1).double().numpy()
    variance = np.diag(covariance(fitted))
    assert (np.abs(drawn.mean(0) - fitted.mean.numpy()) < 5 * np.sqrt(variance / 4000)).all()
    # the standard error of a covariance is at most √(2 v_i v_j / N)
    error = np.abs(np.cov(drawn.T) - covariance(fitted))
    assert (error < 5 * np.sqrt(2 * np.outer(variance, variance) / 4000)).all()


def test_reduced_resolution_averages_squares_and_fills_them() -> None:
    images = blobs(30)
    fitted = fit_gaussian(images, factor=2)
    small = images.unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5))  # (30, 2, 2, 2)
    assert fitted.shape == (2, 2, 2)
    torch.testing.assert_close(fitted.mean, small.flatten(1).double().mean(0), atol=1e-7, rtol=0)
    drawn = fitted.sample(ImageStreams(0, range(3)))
    assert drawn.shape == (3, 2, 4, 4)
    corners = drawn[:, :, ::2, ::2]
    for row in (0, 1):
        for column in (0, 1):
            assert torch.equal(drawn[:, :, row::2, column::2], corners)
    assert fit_gaussian(images, factor=4).sample(ImageStreams(0, [1]))[0].flatten(1).unique(dim=1).shape == (2, 1)


def test_samples_are_images_and_belong_to_their_streams() -> None:
    fitted = fit_gaussian((blobs(12) * 8 - 3.5).clamp(0, 1))  # much of it black or white
    together = fitted.sample(ImageStreams(1, range(6)))
    assert together.dtype == torch.float32
    assert together.min() == 0
    assert together.max() == 1
    alone = torch.cat([fitted.sample(ImageStreams(1, [i])) for i in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert not torch.allclose(together[0], together[1], atol=1e-2)
    assert not torch.allclose(together, fitted.sample(ImageStreams(2, range(6))), atol=1e-2)


def test_class_samples_depend_on_class_number_and_seed_only() -> None:
    images, labels = blobs(30), torch.arange(30) % 3
    images[labels == 2] *= 0.5
    found = class_samples(images, labels, classes=(0, 1, 2), each=4, seed=7)
    assert found.shape == (3, 4, 2, 4, 4)
    assert abs(found[2].mean() - 0.25) < 0.03
    assert (found[:2].mean((1, 2, 3, 4)) - 0.5).abs().max() < 0.05
    fewer = class_samples(images, labels, classes=(2,), each=2, seed=7)
    torch.testing.assert_close(fewer[0], found[2, :2], atol=1e-6, rtol=0)
    assert not torch.allclose(found, class_samples(images, labels, classes=(0, 1, 2), each=4, seed=8), atol=1e-2)
    with pytest.raises(UserError, match="needs at least 2 images, not 0"):
        class_samples(images, labels, classes=(3,), each=1)


def test_white_noise_is_a_clipped_standard_normal() -> None:
    noise = white_noise((1, 100, 100), ImageStreams(5, range(3)))
    assert noise.shape == (3, 1, 100, 100)
    assert ((noise >= 0) & (noise <= 1)).all()
    black, white = (noise == 0).double().mean(), (noise == 1).double().mean()
    assert abs(black - 0.5) < 5 * (0.25 / 30000) ** 0.5
    assert abs(white - 0.15866) < 5 * (0.1335 / 30000) ** 0.5
    assert torch.equal(noise[1:2], white_noise((1, 100, 100), ImageStreams(5, [1])))


@pytest.mark.parametrize(
    ("images", "factor", "message"),
    [
        (torch.zeros(1, 1, 4, 4), 1, "a class Gaussian needs at least 2 images, not 1"),
        (torch.zeros(2, 1, 4, 4), 0, "factor is 0; give a divisor of the images' sides, 4 and 4 pixels"),
        (torch.zeros(2, 1, 4, 6), 4, "factor is 4; give a divisor of the images' sides, 4 and 6 pixels"),
    ],
)
def test_what_the_user_can_mend(images: Tensor, factor: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_gaussian(images, factor)
