"""What attacks on classification by inference ask: the latents of the question before, and Eq. 8's gradient.

A step of an attack moves an image little, and its best latents with it (Ju & Wagner 2020, Sec. 4.2): an attacker who
goes on from those of the step before need not search for them anew. What it believes to be an error is one only if
inference from nothing agrees (`attacks.synthesis.confirmed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from robustgen.attacks.ball import Ball
from robustgen.data.images import check_count
from robustgen.errors import UserError
from robustgen.replicates import in_company
from robustgen.seeding import ImageStreams, derive


class Latents(Protocol):
    """Latents of R rows, images or runs of them."""

    reconstruction: Tensor  # (R, K, C, H, W)

    def at(self, rows: Tensor, /) -> Self:
        """Some of the rows."""
        ...


@runtime_checkable
class Synthesis(Protocol):
    """A classifier that infers the latents of every class (defenses/e_abs.py)."""

    random: bool  # whether two inferences of an image may differ

    def infer(
        self,
        x: Tensor,
        streams: ImageStreams,
        start: Latents | None = None,
        *,
        runs: int = 1,
        draws: int | None = None,
        iterations: int | None = None,
    ) -> Latents:
        """The latents of x (N, C, H, W), `runs` rows an image, without gradient."""
        ...

    def logits(self, x: Tensor, inferred: Latents, /) -> Tensor:
        """(N, K), averaged over the runs, differentiable in x with the latents held."""
        ...


class Following(nn.Module):
    """Images (N, C, H, W) in [0, 1] -> logits (N, K) as an attacker gets them, differentiable in x.

    Of a `Synthesis` the first call infers fully, later ones go on from the latents of the call before for `iterations`
    evaluations of the loss (0: every call infers fully). Logits are means over `runs` inferences of an image side by
    side, each with `draws` samples of its Q* (None: the network's own number): expectation over transformation. Every
    call draws anew, but one that asks again about the images of the call before gets its answer. Row i is always the
    same image, the one at `indices[i]` in its data set, which with `seed` sets its random stream. Any other classifier
    is asked as it is. Raises UserError for another number of images than of indices.
    """

    def __init__(
        self,
        network: nn.Module,
        indices: Sequence[int],
        *,
        iterations: int = 5,
        draws: int | None = None,
        runs: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if iterations < 0 or runs < 1 or (draws is not None and draws < 1):
            raise UserError(
                f"an attacker needs follow >= 0, runs >= 1 and draws >= 1, not {iterations}, {runs}, {draws}"
            )
        self.network = network
        self.indices = [int(index) for index in indices]
        self.iterations, self.draws, self.seed = iterations, draws, seed
        self.synthesis = network if isinstance(network, Synthesis) else None
        self.runs = runs if self.synthesis is not None and self.synthesis.random else 1
        self.renew()

    def renew(self, *path: int | str) -> None:
        """Infer fully in the next call, with the random streams named by `path`."""
        self.path = path
        self.inferred: Latents | None = None
        self.asked: Tensor | None = None
        self.streams: ImageStreams | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.synthesis is None:
            return in_company(self.network, x)
        check_count(len(x), len(self.indices), "index", "indices")
        return self.synthesis.logits(x, self.latents(x))

    def latents(self, x: Tensor) -> Latents:
        """Those of x (N, C, H, W), `runs` rows an image; those of the call before if it was about the same x."""
        assert self.synthesis is not None
        if self.inferred is not None and self.asked is not None and torch.equal(x, self.asked):
            return self.inferred
        follow = self.inferred is not None and self.iterations > 0
        self.inferred = self.synthesis.infer(
            x.detach().repeat_interleave(self.runs, 0),
            self._streams(x.device),
            self.inferred if follow else None,
            draws=self.draws,
            iterations=self.iterations if follow else None,
        )
        self.asked = x.detach().clone()
        return self.inferred

    def reconstructions(self, x: Tensor) -> Tensor:
        """(N, K, C, H, W): what the latents of x make, averaged over the runs. UserError where there are none."""
        if self.synthesis is None:
            raise UserError("only analysis by synthesis has reconstructions; take another attack on this classifier")
        return self.latents(x).reconstruction.unflatten(0, (-1, self.runs)).mean(1)  # type: ignore[no-any-return]

    def part(self, rows: Tensor) -> Following:
        """The same for some of the images, by their rows in the batch: it goes on where this one is."""
        part = Following(
            self.network,
            [self.indices[row] for row in rows.tolist()],
            iterations=self.iterations,
            draws=self.draws,
            runs=self.runs,
            seed=self.seed,
        )
        part.path = self.path
        if self.inferred is not None and self.asked is not None and self.streams is not None:
            runs = (rows[:, None] * self.runs + torch.arange(self.runs, device=rows.device)).flatten()
            part.inferred, part.asked = self.inferred.at(runs), self.asked[rows]
            part.streams = self.streams.subset(runs.tolist())
        return part

    def _streams(self, device: torch.device) -> ImageStreams:
        """The streams of the runs, made when first asked for."""
        if self.streams is None:
            self.streams = ImageStreams(0, (), device)
            for index in self.indices:
                for run in range(self.runs):
                    seed = derive(self.seed, index, run, *self.path)
                    self.streams.generators.append(torch.Generator(device).manual_seed(seed))
        return self.streams


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is attacked: images x (N, C, H, W) in [0, 1] with labels y (N,), none of them an error yet."""

    following: Following
    x: Tensor
    y: Tensor
    ball: Ball  # of infinite radius where the smallest change is sought
    streams: ImageStreams  # of the attack's own draws
    starts: Tensor | None = None  # images (J, C, H, W) where an attack that needs an error may find one; None: noise

    def part(self, rows: Tensor) -> Task:
        """The same for some of the images, by their rows."""
        return Task(
            following=self.following.part(rows),
            x=self.x[rows],
            y=self.y[rows],
            ball=self.ball,
            streams=self.streams.subset(rows.tolist()),
            starts=self.starts,
        )
