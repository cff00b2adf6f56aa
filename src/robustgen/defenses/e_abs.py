"""Analysis by synthesis: ABS, E-ABS and what lies between (Ju & Wagner 2020, Sec. 3.3 and 4.2).

The loss l_k(x) of class k is what its decoder cannot explain of x at the best latents: min over Q(Z) of
E[c(x, G_k(z))] + β · regulariser, z ~ Q, with c the squared error. The regulariser is −log D(z) of an adversarial
autoencoder (Eq. 6), else KL[Q ‖ N(0, 1)] (Eq. 2, with the sign that a minimum needs). Smallest loss wins.

Choices where the paper is silent: Adam with Schott et al.'s (2018) learning rate and count, in which the last of the
50 evaluations updates nothing; Σ diagonal and optimised as its logarithm, as the encoder gives it; noise the same for
all classes, so that a class's loss is what it is without the others, and where latents agree D cancels as in Eq. 4.
Random starts are scored at their means: of thousands of scores of one sample each the least would be the luckiest, and
the encoder's single one never below it. The best of them and the encoder's Q(Z|x) then meet in the same few samples.
The last evaluation is the loss of a variational inference: the least of many noisy ones would be the luckiest. An
exact inference keeps the least, which is nearer to its minimum. There is no early stopping: none is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, Self, cast

import torch
from torch import Tensor, nn

from robustgen.adam import Adam
from robustgen.errors import UserError
from robustgen.models import evaluating
from robustgen.models.aae import AAE
from robustgen.models.folded import Folded
from robustgen.options import Ratio
from robustgen.replicates import LEAST, Parts, check_finite, joined, rewinding
from robustgen.seeding import ImageStreams, generator

CHUNK = 2**24  # numbers of a piece of reconstructions that are scored at once, 64 MB
TRAIN = "; train the autoencoder again, with a smaller --recipe.lr"


class Autoencoder(Protocol):
    """The networks of K classes (models/aae.py). Latents z are (N, K, M), class by class."""

    config: Any  # with `latent` (M) and `adversarial`
    num_classes: int  # K

    def encode(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of Q(Z|x), (N, K, M) each."""
        ...

    def decode(self, z: Tensor, /) -> Tensor:
        """G_k(z_k), (N, K, C, H, W)."""
        ...

    def log_d(self, z: Tensor, /) -> Tensor:
        """log D(z_k), (N, K); of adversarial autoencoders only."""
        ...


@dataclass(frozen=True, kw_only=True)
class Options:
    """Inference of the latents of every class."""

    variational: bool = True  # V: mean and variance of Q(Z) are optimised, z is drawn from it; else z itself
    beta: float = 1.0  # β, weight of the regulariser
    cost: Literal["sum", "mean"] = "sum"  # squared error of all pixels and channels: its sum (the paper's c), or mean
    candidates: int = 8000  # random starts, from N(0, I)
    encoder: bool = True  # whether the encoder's output is one more
    compared: int = 4  # samples by whose mean loss it and the best random start are compared, where variational
    iterations: int = 50  # evaluations of the loss; all but the last are followed by an update
    lr: Ratio = 0.05  # Adam's learning rate (Schott et al.)
    draws: int = 1  # samples of the optimal Q(Z) whose losses are averaged, where variational
    seed: int = 0  # of candidates, and of noise
    batch: int = 64  # images whose latents are optimised together; results do not depend on it
    cache: float = 4.0  # gigabytes of reconstructed candidates that are kept; more are made anew in each call

    def __post_init__(self) -> None:
        if min(self.candidates, self.compared, self.iterations, self.draws, self.batch) < 1:
            raise UserError(f"inference needs candidates, compared, iterations, draws and batch >= 1, not {self}")
        if not self.lr > 0 or not self.beta >= 0 or not self.cache >= 0:
            raise UserError(f"inference needs lr > 0, beta >= 0 and cache >= 0, not {self}")
        if self.cost not in ("sum", "mean"):
            raise UserError(f"cost is {self.cost!r}; sum or mean")


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """What inference found in R rows, images or runs of them, for K classes; all without gradient."""

    mean: Tensor  # (R, K, M) of Q*
    log_variance: Tensor  # (R, K, M) of Q*; 0 where not variational: Eq. 2 fixes it, exact z have none
    z: Tensor  # (R, K, M) the last sample of Q*; the mean where not variational
    reconstruction: Tensor  # (R, K, C, H, W): G_k(z), averaged over the samples
    losses: Tensor  # (R, K): l_k(x), averaged over the samples

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The rows of all, in order."""
        return cls(**{f.name: joined([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def at(self, rows: slice | Tensor) -> Self:
        """Some of the rows."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


class AnalysisBySynthesis(nn.Module):
    """Images (N, C, H, W) in [0, 1] -> logits −l_k(x) (N, K); a `Defense`, and itself the classifier in it.

    Logits are differentiable in x with the latents held where they are (Eq. 8): the gradient of l_k is 2(x − G_k(z*)).
    Called as a module it takes image i's random stream to be i, with the same noise in each call; `predict` takes the
    images' positions, and `infer` streams, which go on. `model` is an `Autoencoder`; whether it is adversarial (A) and
    has one encoder for all (D) is its own affair. Its weights must not change after the first call, which keeps copies.
    """

    def __init__(self, model: nn.Module, options: Options | None = None) -> None:
        super().__init__()
        self.model = model
        self.options = options or Options()
        self.draws = self.options.draws if self.random else 1
        self._loss: Loss | None = None
        self._candidates: Candidates | None = None
        self._parts = Parts("inferring the latents of one image", "lower draws or cache, or set device cpu")

    @property
    def classifier(self) -> Self:
        return self

    @property
    def loss(self) -> Loss:
        """What is minimised, with the weights as they were when it was first asked for."""
        if self._loss is None:
            self._loss = Loss(cast(Autoencoder, self.model), self.options)
        return self._loss

    @property
    def random(self) -> bool:
        """Whether two inferences of an image may differ."""
        return self.options.variational

    def purify(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x, self._inferred(x, range(len(x)), 1))

    @torch.no_grad()
    def predict(self, x: Tensor, indices: Sequence[int], *, runs: int = 1) -> Tensor:
        """Logits (N, K), averaged over independent inferences."""
        return self.logits(x, self._inferred(x, indices, runs))

    def logits(self, x: Tensor, inferred: Inferred) -> Tensor:
        """−l_k (N, K) as inferred for x, averaged over the runs, with the gradient of Eq. 8."""
        runs = len(inferred.losses) // len(x)
        losses, target = (
            cast(Tensor, each.unflatten(0, (-1, runs))).mean(1) for each in (inferred.losses, inferred.reconstruction)
        )
        if not torch.is_grad_enabled():
            return -losses
        # to the mean reconstruction the distance has the gradient of the mean distance
        moving = self.loss.scale(x) * squared(x.unsqueeze(1) - target)
        return moving.detach() - moving - losses

    @torch.no_grad()
    def infer(
        self,
        x: Tensor,
        streams: ImageStreams,
        start: Inferred | None = None,
        *,
        runs: int = 1,
        draws: int | None = None,
        iterations: int | None = None,
    ) -> Inferred:
        """The best latents of every class for x (N, C, H, W), and their losses.

        `streams` hold one random stream an image; nothing is drawn where not variational. `start`, of N rows, are
        latents to go on from in place of candidates: those of images close to x. `runs` independent inferences of an
        image are so many successive rows of what is returned. `draws` and `iterations` stand in for the options'.
        Raises UserError where losses are not finite.
        """
        updates = (self.options.iterations if iterations is None else iterations) - 1
        samples = (self.draws if draws is None else draws) if self.random else 1
        if updates < 0 or min(samples, runs) < 1:
            raise UserError(f"inference needs iterations, draws and runs >= 1, not {updates + 1}, {samples} and {runs}")

        def part(rows: slice) -> Inferred:
            images, chosen = x[rows].detach(), streams.subset(range(len(x))[rows])
            with rewinding(chosen):
                # drawn apart: whatever their number, samples are of the same Q*
                first = self.options.compared
                noise = torch.cat([self._noise(chosen, runs, count, x) for count in (first + updates, samples)], 1)
                if start is None:
                    latents = self._start(images, noise[:, :first])
                else:
                    latents = torch.stack([start.mean[rows], start.log_variance[rows]]).repeat_interleave(runs, 1)
                images = images.repeat_interleave(runs, 0)
                return self._optimal(images, latents if self.random else latents[:1], noise[:, first:], updates)

        with evaluating(self.model):
            return Inferred.join(self._parts.run(part, len(x), max(1, self.options.batch // runs)))

    def _inferred(self, x: Tensor, indices: Sequence[int], runs: int) -> Inferred:
        found: Inferred = self.infer(x, ImageStreams(self.options.seed, indices, x.device), runs=runs)
        return found

    def _noise(self, streams: ImageStreams, runs: int, count: int, x: Tensor) -> Tensor:
        """(R, count, M) standard normal numbers, zeros where z is exact."""
        shape = (runs, count, self.loss.latent)
        if not self.random:
            return x.new_zeros(len(streams.generators) * runs, *shape[1:])
        return streams.normal(shape, x.device).flatten(0, 1).to(x.dtype)

    def _start(self, x: Tensor, noise: Tensor) -> Tensor:
        """Mean and log-variance (2, R, K, M) of the best candidate for x (N, C, H, W), noise (R, S, M)."""
        if self._candidates is None:
            self._candidates = Candidates(self.loss, self.options, x)
        rows, runs = len(noise), len(noise) // len(x)
        means = self._candidates.best(accompanied(x))[1][: len(x)].repeat_interleave(runs, 0)
        best = torch.stack([means, torch.zeros_like(means)])
        if not self.options.encoder:
            return best
        x, noise = accompanied(x.repeat_interleave(runs, 0)), accompanied(noise)
        own = self._encoded(x)
        noise = noise if self.random else noise[:, :1]
        mine, theirs = (self._score(x, state, noise)[:rows] for state in (own, accompanied_state(best)))
        check_finite(mine, "losses of the encoder's latents", TRAIN)
        return torch.where((mine < theirs).unsqueeze(2), own[:, :rows], best)

    def _encoded(self, x: Tensor) -> Tensor:
        """The encoder's mean and log-variance (2, R, K, M); on a CPU of as many images at a time whatever the batch,
        as the last digit depends on their number.
        """
        parts = x.split(LEAST) if x.device.type == "cpu" else [x]
        return torch.cat(
            [torch.stack(self.loss.networks.encode(accompanied(part)))[:, : len(part)] for part in parts], 1
        )

    def _score(self, x: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """Mean loss (R, K) over the samples that noise (R, S, M) makes of a state (2, R, K, M)."""
        return self.loss.sampled(x, state if self.random else state[:1], noise).losses

    def _optimal(self, x: Tensor, state: Tensor, noise: Tensor, updates: int) -> Inferred:
        """Q* of rows x (R, C, H, W) by Adam, a sample an update; noise (R, updates + samples, M).

        state (P, R, K, M): the mean at the start, and where variational the log-variance.
        """
        rows = len(x)
        x, noise, state = accompanied(x), accompanied(noise), accompanied_state(state)
        least, best = state.new_full(state.shape[1:3], torch.inf), state
        adam = Adam(self.options.lr)
        for step in range(updates):
            losses, gradient = self.loss.gradient(x, state, noise[:, step])
            if not self.random:
                best = torch.where((losses < least).unsqueeze(2), state, best)
                least = torch.minimum(losses, least)
            state = adam(state, gradient)
        found = self.loss.sampled(x, state, noise[:, updates:])
        check_finite(found.losses[:rows], "losses of the classes", TRAIN)
        worse = least < found.losses
        if worse.any():
            found = self.loss.sampled(x, torch.where(worse.unsqueeze(2), best, state), noise[:, updates:])
        return found.at(slice(rows))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._loss = self._candidates = None  # they lie where the weights lay
        return cast(Self, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]


class Loss:
    """l_k of Q(Z) = N(μ, Σ), a mean over samples of it, and its gradient."""

    def __init__(self, networks: Autoencoder, options: Options) -> None:
        self.networks = networks
        self.decode = Folded(networks.decoder) if isinstance(networks, AAE) else networks.decode
        self.beta = options.beta
        self.average = options.cost == "mean"
        self.adversarial = bool(networks.config.adversarial)
        self.latent = int(networks.config.latent)

    def scale(self, x: Tensor) -> float:
        """What c is of a squared distance."""
        return 1 / x[0].numel() if self.average else 1.0

    def penalty(self, z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        """β times the regulariser (R, K) of samples z, or of the distribution that they come from."""
        if self.adversarial:
            return -self.beta * self.networks.log_d(z)
        return self.beta / 2 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(2)

    def at(self, x: Tensor, state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Losses (R, K) for x (R, C, H, W) of the sample that noise (R, M) makes, the sample and its reconstruction."""
        mean, log_variance = parameters(state)
        z = mean + (log_variance / 2).exp() * noise.unsqueeze(1)
        found = self.decode(z)
        distance = self.scale(x) * squared(x.unsqueeze(1) - found)
        return distance + self.penalty(z, mean, log_variance), z, found

    def gradient(self, x: Tensor, state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (R, K) of one sample, and their gradient by the state."""
        leaf = state.detach().requires_grad_()
        with torch.enable_grad():
            losses, _, _ = self.at(x, leaf, noise)
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)  # a class's latents have part in its loss alone
        return losses.detach(), gradient

    def sampled(self, x: Tensor, state: Tensor, noise: Tensor) -> Inferred:
        """The mean over the S samples that noise (R, S, M) makes."""
        found = [self.at(x, state, each) for each in noise.unbind(1)]
        mean, log_variance = parameters(state)
        losses, reconstruction = (torch.stack([each[i] for each in found]).mean(0) for i in (0, 2))
        return Inferred(
            mean=mean, log_variance=log_variance, z=found[-1][1], reconstruction=reconstruction, losses=losses
        )


class Candidates:
    """z_j ~ N(0, I), the same for every class and image, and what the decoders make of each.

    Where variational a candidate is N(z_j, I).
    """

    def __init__(self, loss: Loss, options: Options, x: Tensor) -> None:
        """For images like x (N, C, H, W): of its shape, type and device."""
        random = generator(options.seed, "candidates")
        self.means = torch.randn(options.candidates, loss.latent, generator=random).to(x.device, x.dtype)
        self.loss = loss
        self.batch = options.batch
        self.scale = loss.scale(x)
        numbers = loss.networks.num_classes * x[0].numel()
        self.size = max(1, CHUNK // numbers)
        self.kept: list[tuple[Tensor, Tensor]] | None = None
        if options.candidates * numbers * x.element_size() <= 1e9 * options.cache:
            self.kept = list(self._pieces())

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The least loss (N, K) among the candidates for x (N, C, H, W), and the mean (N, K, M) that has it."""
        flat = x.flatten(1)
        classes = self.loss.networks.num_classes
        least = flat.new_full((len(x), classes), torch.inf)
        place = torch.zeros_like(least, dtype=torch.long)
        for number, (images, rest) in enumerate(self.kept or self._pieces()):
            # c(x, G) = scale · (‖x‖² + ‖G‖² − 2 x·G), of which the first is the same for all
            losses = torch.addmm(rest, flat, images.T, alpha=-2 * self.scale).unflatten(1, (classes, -1))
            found, where = losses.min(2)
            place = torch.where(found < least, where + number * self.size, place)
            least = torch.minimum(found, least)
        return least + self.scale * flat.square().sum(1, keepdim=True), self.means[place]

    def _pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Of some candidates after others: reconstructions (K · J, D), and what of their losses is not x's (K · J,)."""
        for means in self.means.split(self.size):
            images, penalty = (
                torch.cat(each, 1) for each in zip(*map(self._made, means.split(self.batch)), strict=True)
            )
            rest = self.scale * images.square().sum(2) + penalty
            check_finite(rest.T, "reconstructions of candidates", TRAIN)
            yield images.flatten(0, 1), rest.flatten()

    def _made(self, means: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions (K, J, D) of candidates (J, M), and their penalties (K, J)."""
        z = accompanied(means).unsqueeze(1).expand(-1, self.loss.networks.num_classes, -1).contiguous()
        penalty = self.loss.penalty(z, z, torch.zeros_like(z))[: len(means)]
        return self.loss.decode(z)[: len(means)].flatten(2).transpose(0, 1), penalty.T


def parameters(state: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of what is optimised: of both (2, ...), or of the mean alone (1, ...)."""
    return state[0], state[1] if len(state) == 2 else torch.zeros_like(state[0])


def squared(difference: Tensor) -> Tensor:
    """‖·‖² (R, K) of images (R, K, C, H, W)."""
    return cast(Tensor, torch.linalg.vecdot(difference.flatten(2), difference.flatten(2)))


def accompanied(rows: Tensor) -> Tensor:
    """A CPU's few rows with copies of the last for company, as kernels for a few round differently."""
    lacking = LEAST - len(rows) if rows.device.type == "cpu" else 0
    return torch.cat([rows, *[rows[-1:]] * lacking]) if lacking > 0 else rows


def accompanied_state(state: Tensor) -> Tensor:
    """The same for a state (P, R, K, M)."""
    return accompanied(state.transpose(0, 1)).transpose(0, 1)
