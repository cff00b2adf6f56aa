"""Long-run Langevin purification before a naturally trained classifier (Hill, Mitchell & Zhu 2021, Eq. 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustgen.errors import UserError
from robustgen.protocols import EnergyModel
from robustgen.replicates import Parts, joined, rewinding
from robustgen.sampling.langevin import CHUNK, force, langevin, micro_batch, stream_noise
from robustgen.seeding import ImageStreams

Average = Literal["logits", "softmax", "log_softmax"]
Precision = Literal["float32", "bfloat16"]
Look = Callable[[Tensor], Tensor]  # purified images (n, draws, C, H, W) -> (n, ...), each image by itself


class LangevinDefense(nn.Module):
    """F̂_H(x): the classifier's outputs averaged over H independent Langevin purifications of x.

    `steps` is K, `draws` H. `average` says what is averaged; the paper takes logits. With K = 0 purification is the
    identity. `precision` is that of the energy network's convolutions. Purified images are not clamped: they may leave
    [0, 1] a little, as the paper's do. Called as a module on x (N, C, H, W) it takes image i's random stream to be i;
    `predict` takes the images' positions.
    """

    def __init__(
        self,
        classifier: nn.Module,
        ebm: nn.Module,
        *,
        steps: int,
        draws: int = 1,
        average: Average = "logits",
        seed: int = 0,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        if steps < 0 or draws < 1:
            raise UserError(f"a Langevin defence needs steps >= 0 and draws >= 1, not {steps} and {draws}")
        if average not in get_args(Average):
            raise UserError(f"average is {average!r}; one of {', '.join(get_args(Average))}")
        if precision not in get_args(Precision):
            raise UserError(f"precision is {precision!r}; one of {', '.join(get_args(Precision))}")
        if not isinstance(ebm, EnergyModel):
            raise UserError(f"{type(ebm).__name__} has no scaled_energy and tau; give an energy-based model")
        self.classifier = classifier
        self.ebm = ebm
        self.steps = steps
        self.draws = draws
        self.average = average
        self.seed = seed
        self.precision = precision
        self._parts = Parts("purifying one image", "lower draws, for an attack verify too")

    def forward(self, x: Tensor) -> Tensor:
        return self.predict(x, range(len(x)))

    def predict(self, x: Tensor, indices: Sequence[int], draws: int | None = None) -> Tensor:
        """(N, K) outputs averaged over `draws` replicates (default H)."""
        streams = ImageStreams(self.seed, indices, x.device)
        return self.combine(self.logits(self.purify_draws(x, draws or self.draws, streams)))

    def purify(self, x: Tensor) -> Tensor:
        """One purified image for each of x, same shape."""
        return self.purify_draws(x, 1, ImageStreams(self.seed, range(len(x)), x.device))[:, 0]

    def purify_draws(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        """(N, draws, C, H, W) independent purifications, without gradient."""
        return self.chain(x, draws, streams, (self.steps,), lambda purified: purified)[0]

    @torch.no_grad()
    def chain(self, x: Tensor, draws: int, streams: ImageStreams, at: Sequence[int], look: Look) -> list[Tensor]:
        """`look(purified)` (N, ...) after each of the ascending numbers `at` of Langevin steps of one chain per draw.

        `look` takes the purified images (n, draws, C, H, W) of some of the N images: as many as memory allows. After 0
        steps they are x itself.
        """

        def part(rows: slice) -> list[Tensor]:
            chosen = streams.subset(range(len(x))[rows])
            with rewinding(chosen):
                return self._chain(x[rows], draws, chosen, at, look)

        return [joined(list(found)) for found in zip(*self._parts.run(part, len(x)), strict=True)]

    def _chain(self, x: Tensor, draws: int, streams: ImageStreams, at: Sequence[int], look: Look) -> list[Tensor]:
        found = [look(x.unsqueeze(1).expand(-1, draws, *x.shape[1:]))] if 0 in at else []
        langevin(
            force(self._ebm, getattr(torch, self.precision)),
            (2 * x - 1).repeat_interleave(draws, 0),
            stream_noise(streams, x.shape[1:], draws, x.device),
            steps=max(at, default=0),
            tau=self._ebm.tau,
            callback=lambda _, v: found.append(look(((v + 1) / 2).unflatten(0, (len(x), draws)))),
            at=at,
            micro_batch=micro_batch(self._ebm, x.device),
        )
        return found

    def unrolled(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        """`purify_draws` differentiable in x: each step is computed again on the way back, so memory grows by one
        state a step.

        Raises UserError for an energy model whose dynamics are not its energy's, as clipping makes them.
        """
        if hasattr(self.ebm, "force") and not hasattr(self.ebm, "prepared_force"):
            raise UserError(
                f"{type(self.ebm).__name__}'s Langevin steps are not the gradient of its energy; a full gradient needs "
                "an energy without clipping, so take gradient bpda"
            )
        v = (2 * x - 1).repeat_interleave(draws, 0)
        noise = stream_noise(streams, x.shape[1:], draws, x.device)
        for done in range(0, self.steps, CHUNK):
            for z in noise(min(CHUNK, self.steps - done)):
                v = checkpoint(self._step, v, z, use_reentrant=False)
        return cast(Tensor, ((v + 1) / 2).unflatten(0, (len(x), draws)))

    def logits(self, purified: Tensor) -> Tensor:
        """The classifier's logits (N, draws, K) of purified images (N, draws, C, H, W)."""
        logits: Tensor = self.classifier(purified.flatten(0, 1))
        return cast(Tensor, logits.unflatten(0, purified.shape[:2]))

    def combine(self, logits: Tensor) -> Tensor:
        """Logits (N, draws, K), averaged over the draws as `average` says, (N, K)."""
        if self.average == "softmax":  # its logarithm: the same prediction, and fit for a cross-entropy
            return logits.log_softmax(2).logsumexp(1) - math.log(logits.shape[1])
        return (logits if self.average == "logits" else logits.log_softmax(2)).mean(1)

    @property
    def _ebm(self) -> EnergyModel:
        assert isinstance(self.ebm, EnergyModel)
        return self.ebm

    def _step(self, v: Tensor, z: Tensor) -> Tensor:
        with torch.enable_grad():
            state = v if v.requires_grad else v.requires_grad_()
            energy = self._ebm.scaled_energy(state).sum()
            (gradient,) = torch.autograd.grad(energy, state, create_graph=True)
        return v - gradient + self._ebm.tau * z
