"""Where image synthesis starts: Gaussians fitted to each class (Santurkar et al. 2019, Sec. 3.1), and white noise.

Everything is on the CPU. A sample belongs to its stream, not to the batch that it is drawn in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.errors import UserError
from robustgen.seeding import ImageStreams, derive

RIDGE = 1e-4  # variance added to every pixel, of images in [0, 1]; theirs and GAT's released code
TOGETHER = 1024  # training images multiplied at once, in double precision


@dataclass(frozen=True)
class ClassGaussian:
    """N(mean, rootᵀ root + RIDGE · 1) of a class' images, averaged over squares of `factor`×`factor` pixels.

    mean (D,) float64 and root (n, D) float32, the n centred images over √n: their covariance in full without its D×D
    numbers, of any rank. D = C·h·w, shape = (C, h, w) after averaging. Pixel units.
    """

    mean: Tensor
    root: Tensor
    shape: tuple[int, int, int]
    factor: int

    def sample(self, streams: ImageStreams) -> Tensor:
        """(N, C, H, W) float32 in [0, 1], one image from each stream: drawn small, clipped, each pixel made a square.

        With weights w ~ N(0, 1), one a training image, rootᵀw has the covariance that was asked for.
        """
        weights = streams.normal((len(self.root),), "cpu").double()
        spread = torch.zeros(len(weights), len(self.mean), dtype=torch.float64)
        for part, root in zip(weights.split(TOGETHER, 1), self.root.split(TOGETHER), strict=True):
            spread += part @ root.double()
        white = RIDGE**0.5 * streams.normal((len(self.mean),), "cpu").double()
        small = (self.mean + spread + white).float().clamp_(0, 1).unflatten(1, self.shape)
        image: Tensor = small.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)
        return image


def fit_gaussian(images: Tensor, factor: int = 1) -> ClassGaussian:
    """The Gaussian of images (n, C, H, W) of one class, n >= 2; `factor` divides H and W.

    Mean and covariance are the maximum-likelihood ones (Σ over n, not n − 1). Raises UserError for fewer images, and
    for a factor below 1 or one that leaves a rest.
    """
    if len(images) < 2:
        raise UserError(f"a class Gaussian needs at least 2 images, not {len(images)}; take more training images")
    height, width = images.shape[2:]
    if factor < 1 or height % factor or width % factor:
        raise UserError(f"factor is {factor}; give a divisor of the images' sides, {height} and {width} pixels")
    small = F.avg_pool2d(images.detach().cpu().float(), factor)
    flat = small.flatten(1)
    mean = flat.mean(0, dtype=torch.float64)
    root = (flat - mean).div_(len(flat) ** 0.5).float()
    channels, rows, columns = small.shape[1:]
    return ClassGaussian(mean, root, (channels, rows, columns), factor)


def class_samples(
    images: Tensor, labels: Tensor, *, classes: Sequence[int], each: int, factor: int = 1, seed: int = 0
) -> Tensor:
    """(L, each, C, H, W) float32 samples of the Gaussians of `classes`, fitted to images (n, C, H, W) by label (n,).

    A sample depends on its class, its number in it and the seed. Raises UserError for a class of fewer than 2 images.
    """
    found = []
    for label in classes:
        fitted = fit_gaussian(images[labels == label], factor)
        found.append(fitted.sample(ImageStreams(derive(seed, "gaussian", label), range(each))))
    return torch.stack(found)


def white_noise(shape: Sequence[int], streams: ImageStreams) -> Tensor:
    """(N, *shape) float32 in [0, 1], one image from each stream: every pixel N(0, 1), clipped.

    So half of the pixels are black. GAT's figure 19 starts there, as its released code tells.
    """
    return streams.normal(tuple(shape), "cpu").clamp_(0, 1)
