"""SPSA (Uesato et al. 2018): the attack that sees a defence's losses and no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustgen.attacks.eot import Climb, EotAttack, StepOptions
from robustgen.attacks.objectives import LOSSES, Loss, check_loss
from robustgen.errors import UserError
from robustgen.options import Ratio
from robustgen.seeding import ImageStreams, derive

FEWEST = 64  # queries at once: fewer are not worth a call


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    name: Literal["spsa"] = "spsa"
    queries: int = 1280  # losses that an update asks for, two for each direction (Yoon et al. 2021, Sec. 5.1)
    delta: Ratio = 0.01  # length of a probe in each pixel, pixel units
    query_draws: int = 1  # replicates that the defence combines for a query
    loss: Loss = "ce"  # cross-entropy, the logits' margin, or the difference of logits ratio

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loss(self.loss)
        if self.queries < 2 or self.queries % 2 or not self.delta > 0 or self.query_draws < 1:
            raise UserError(f"spsa needs an even number of queries, delta > 0 and query_draws >= 1, not {self}")


class SPSA(EotAttack):
    """SPSA in 'Adversarial Risk and the Dangers of Evaluating Against Weak Attacks' (arXiv 1802.05666). L∞ and L2.

    A step follows the sign of Σ_j (L(x + δ v_j) − L(x − δ v_j)) v_j / 2δ over random sign vectors v_j, L being the loss
    of what the defence makes of `query_draws` fresh draws, other ones for every query; probes stay in [0, 1]. (Uesato
    et al. give the estimate to Adam; the sign is that of Yoon et al. 2021, Table 1.) H_adv draws are the screen's.
    Options: eps (pixel units), norm, step, steps, draws, verify, restarts, seed, queries, delta, query_draws, loss.
    Example: `SPSA(defense, eps=8 / 255, queries=1280).evaluate(images, labels).broken`.
    """

    Options = Options

    def propose(self, climb: Climb, wanted: bool) -> Tensor:
        suspects = self.screen(climb)
        if wanted:
            climb.gradient = self.estimate(climb.state, climb.y, climb.draws)
        return suspects

    @torch.no_grad()
    def estimate(self, x: Tensor, y: Tensor, streams: ImageStreams) -> Tensor:
        """Estimated gradient (N, C, H, W) of the expected loss at x, as many queries at once as an attack step has
        replicates."""
        o = self.options
        pairs = o.queries // 2
        seeds = draw_seeds(streams)
        size = max(FEWEST, self.batch * o.draws // o.query_draws)
        signs, slopes = [], []
        for first in range(0, len(x) * pairs, size):
            asked = [divmod(row, pairs) for row in range(first, min(first + size, len(x) * pairs))]
            rows = torch.tensor([image for image, _ in asked], device=x.device)
            ahead, behind = (
                streams_of([derive(seeds[i], j, side) for i, j in asked], streams.device) for side in range(2)
            )
            v = self.signs(x[rows], ahead)
            signs.append(v.to(torch.int8))
            up, down = (
                self.query(x[rows] + step * v, y[rows], s) for step, s in ((o.delta, ahead), (-o.delta, behind))
            )
            slopes.append((up - down) / (2 * o.delta))
        v, slope = torch.cat(signs).flatten(1).unflatten(0, (len(x), pairs)), torch.cat(slopes).view(len(x), pairs)
        # image by image and in double precision: the sum over 1,280 queries must not hang on who shares the batch
        mean = [each.double() @ directions.double() / pairs for each, directions in zip(slope, v, strict=True)]
        return torch.stack(mean).to(x).view_as(x)

    def signs(self, x: Tensor, streams: ImageStreams) -> Tensor:
        """A direction of −1 and 1 for each row of x, shaped as x."""
        return (streams.uniform(x.shape[1:], x.device) < 0.5).to(x) * 2 - 1

    def query(self, x: Tensor, y: Tensor, streams: ImageStreams) -> Tensor:
        """(N,) losses of what the defence answers on x."""
        return self.loss(self.combined(self.model.purify_draws(x.clamp(0, 1), self.options.query_draws, streams)), y)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return LOSSES[self.options.loss](logits, y)


def draw_seeds(streams: ImageStreams) -> list[int]:
    """A seed from each stream."""
    return [int(torch.randint(2**62, (), generator=g, device=streams.device)) for g in streams.generators]


def streams_of(seeds: Sequence[int], device: torch.device) -> ImageStreams:
    """A stream for each seed."""
    streams = ImageStreams(0, (), device)
    streams.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    return streams


Attack = SPSA
