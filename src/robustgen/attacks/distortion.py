"""How far an image must go in L2 until detectors, as a generative classifier, err (Yin et al. 2020, Appendix B)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgen.attacks.ball import L2
from robustgen.attacks.first_order import Rule, check_rule, climb_best
from robustgen.attacks.objectives import accepted, best_other
from robustgen.data.images import check_images, check_labels
from robustgen.errors import UserError
from robustgen.models import evaluating
from robustgen.options import Ratio
from robustgen.replicates import in_company

Progress = Callable[[int, int], None]  # values of c tried, images still searched

FREE = L2(math.inf)  # no constraint but [0, 1]


@dataclass(frozen=True, kw_only=True)
class Options:
    depth: int = 20  # values of c tried for an image, the first one included
    steps: int = 1000  # updates of a climb
    alpha: Ratio = 1.0  # Adam's learning rate, or the L2 length of a step, pixel units (of 0-255: over 255)
    rule: Rule = "adam"  # how a step is made: Adam on the change, or normalised steepest ascent
    c: float = 0.0  # weight of the squared distance tried first, logits per pixel unit² (of 0-255: times 255²)
    c_low: float = 0.0  # lower end of the binary search
    c_high: float = 8.0  # upper end; so large that no climb succeeds there

    def __post_init__(self) -> None:
        check_rule(self.rule)
        if self.depth < 1 or self.steps < 0 or not self.alpha > 0:
            raise UserError(f"a search needs depth >= 1, steps >= 0 and alpha > 0, not {self}")
        if not 0 <= self.c_low <= self.c <= self.c_high < math.inf:
            raise UserError(f"a search needs 0 <= c_low <= c <= c_high, not {self.c_low}, {self.c}, {self.c_high}")


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """What a search found for N images.

    distance (N,): L2 length of the smallest change that is an error, pixel units; 0 where the image is one already,
    infinite where none was found. c (N,): the weight that found it; NaN where no search did. adversarial (N, C, H, W)
    in [0, 1]: the image at that distance; the natural one where there is none.
    """

    distance: Tensor
    c: Tensor
    adversarial: Tensor


def distort(
    detectors: nn.Module,
    x: Tensor,
    y: Tensor,
    threshold: float,
    options: Options,
    *,
    progress: Progress | None = None,
) -> Distortion:
    """The nearest errors around images x (N, C, H, W) in [0, 1] with labels y (N,).

    An error is an image whose largest logit z_H (N, K) is not y's and above the threshold T. For each image and each
    of `depth` weights c, a climb from x raises max_{i≠y} z_H(x')_i − c‖x' − x‖² (Eq. 21) in [0, 1]; c grows where any
    iterate is an error and falls where none is, by binary search.
    Raises UserError for images and labels that are none, and where logits are NaN.
    """
    check_images(x)
    check_labels(y, len(x))
    x, y = x.detach(), y.detach().long()
    search = _Search(x, options)
    with evaluating(detectors):
        with torch.no_grad():
            z = in_company(detectors, x)
        check_labels(y, len(x), z.shape[1])
        search.settle(accepted(z, z, y) > threshold)
        for tried in range(options.depth):
            rows = search.standing()
            if not len(rows):
                break
            if progress is not None:
                progress(tried, len(rows))
            search.record(rows, *_climb(detectors, x[rows], y[rows], search.c[rows], threshold, options))
    return Distortion(distance=search.distance, c=search.found_at, adversarial=search.adversarial)


def _climb(
    detectors: nn.Module, x: Tensor, y: Tensor, c: Tensor, threshold: float, options: Options
) -> tuple[Tensor, Tensor]:
    """The nearest error among the iterates and its distance (N,), infinite without one."""

    def objective(images: Tensor) -> tuple[Tensor, Tensor]:
        z = in_company(detectors, images)
        square = (images - x).square().flatten(1).sum(1)
        error = accepted(z.detach(), z.detach(), y) > threshold
        return best_other(z, y) - c * square, -square.detach().sqrt().where(error, math.inf)

    images, score = climb_best(objective, x, ball=FREE, alpha=options.alpha, steps=options.steps, rule=options.rule)
    return images, -score


class _Search:
    """The binary searches of N images, side by side."""

    def __init__(self, x: Tensor, options: Options) -> None:
        def full(value: float) -> Tensor:
            return torch.full((len(x),), value, dtype=x.dtype, device=x.device)

        self.low, self.high, self.c = full(options.c_low), full(options.c_high), full(options.c)
        self.distance, self.found_at = full(math.inf), full(math.nan)
        self.adversarial = x.clone()

    def settle(self, errors: Tensor) -> None:
        """End the search of images that are errors already, (N,) bool."""
        self.distance[errors] = 0
        self.low[errors] = self.high[errors]

    def standing(self) -> Tensor:
        """Rows of the images whose c is not known yet."""
        return (self.low < self.high).nonzero().flatten()

    def record(self, rows: Tensor, images: Tensor, distance: Tensor) -> None:
        """Take up what the climbs of `rows` with their c found, and set their next c."""
        success = distance.isfinite()
        nearer = distance < self.distance[rows]
        closer = rows[nearer]
        self.distance[closer], self.adversarial[closer] = distance[nearer], images[nearer]
        self.found_at[closer] = self.c[closer]
        self.low[rows[success]] = self.c[rows[success]]
        self.high[rows[~success]] = self.c[rows[~success]]
        self.c[rows] = (self.low[rows] + self.high[rows]) / 2
