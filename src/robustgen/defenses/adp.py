"""Adaptive Denoising Purification (Yoon, Hwang & Lee 2021, Algorithm 1) before a naturally trained classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustgen.errors import UserError
from robustgen.options import Ratio
from robustgen.protocols import EnergyModel
from robustgen.replicates import Parts, in_company, joined, rewinding
from robustgen.sampling.langevin import force
from robustgen.sampling.purification import (
    LARGEST,
    SMALLEST,
    Noise,
    Scheme,
    begin,
    check_score,
    follow,
    free_step,
    held_step,
)
from robustgen.seeding import ImageStreams, generator

DELTA = {"paper": 1e-5, "released": 1e-3}  # δ
TOGETHER = 96  # states that a CPU moves at once: their activations stay in its cache


@dataclass(frozen=True, kw_only=True)
class Options:
    """ADP; symbols as in Algorithm 1. What is left unset is as `fidelity` says."""

    # Whose choices: the paper's (δ 1e-5, an image rests where its score norm is below τ), or the released code's (δ
    # 1e-3, it rests where its step size is at most τ, and a pixel grid entered once but left at every step).
    fidelity: Literal["paper", "released"] = "paper"
    sigma: Ratio | None = None  # σ of the injected noise, pixel units; CIFAR-10: 0.25. Unset: the median heuristic
    steps: int = 10  # T, steps of a purification at most
    draws: int = 10  # S, purifications whose softmax outputs are averaged
    step: Ratio | None = None  # α of every step, tuned on validation images; unset: adaptive (Eq. 18)
    lam: float = 0.05  # λ, share of the way to the estimated mode that an adaptive step goes
    delta: float | None = None  # δ, probing step of Eq. 17
    # Bound of adaptive step sizes: the released code's, the paper names none. On digits the first steps reach it.
    largest: float = LARGEST
    stop: float = 0.001  # τ, of adaptive steps only
    updates: Literal["deterministic", "langevin"] = "deterministic"  # Eq. 11, or with noise as Eq. 6
    temperature: float = 1.0  # of Langevin updates: noise √(2 · temperature · α); Eq. 6 takes 1
    detect: float | None = None  # images whose score norm is at most this count as natural and take less noise
    calm: Ratio = 0.2  # share of σ that these take

    def __post_init__(self) -> None:
        if self.steps < 0 or self.draws < 1 or not 0 < self.lam <= 1 or not 0 <= self.calm <= 1:
            raise UserError(f"ADP needs steps >= 0, draws >= 1, 0 < lam <= 1 and 0 <= calm <= 1, not {self}")
        sizes = {"delta": self.delta, "step": self.step}
        wrong = [f"{name} {value:g}" for name, value in sizes.items() if value is not None and not value > 0]
        if not self.largest > SMALLEST:
            raise UserError(f"largest is {self.largest:g}; give more than {SMALLEST:g}, the smallest adaptive step")
        if wrong or (self.sigma is not None and not self.sigma >= 0) or not self.temperature >= 0:
            raise UserError(f"ADP needs delta > 0, step > 0, sigma >= 0 and temperature >= 0, not {self}")

    @property
    def random(self) -> bool:
        """Whether two purifications of an image may differ."""
        return self.sigma != 0 or (self.updates == "langevin" and self.temperature > 0)

    def scheme(self, *, box: bool = True) -> Scheme:
        """The steps after the noise."""
        released = self.fidelity == "released"
        return Scheme(
            steps=self.steps,
            step=self.step,
            lam=self.lam,
            delta=self.delta or DELTA[self.fidelity],
            largest=self.largest,
            stop=self.stop,
            rule="step" if released else "norm",
            temperature=self.temperature if self.updates == "langevin" else 0,
            box=box,
            grid=released,
        )


class EnergyScore(nn.Module):
    """The score −∇_x U of an energy-based model trained by maximum likelihood: x (N, C, H, W) in [0, 1] -> same shape.

    In units of x its own Langevin step (sampling/langevin.py) is the one of Eq. 6 with α = τ²/8 here.
    """

    def __init__(self, ebm: nn.Module) -> None:
        super().__init__()
        self.ebm = ebm

    @property
    def own_step(self) -> float:
        """α with which the model was trained, τ²/8."""
        return float(cast(EnergyModel, self.ebm).tau) ** 2 / 8

    def forward(self, x: Tensor) -> Tensor:
        ebm = cast(EnergyModel, self.ebm)
        v = 2 * x - 1
        if torch.is_grad_enabled() and v.requires_grad:
            (gradient,) = torch.autograd.grad(ebm.scaled_energy(v).sum(), v, create_graph=True)
        else:
            gradient = force(ebm)(v.contiguous(memory_format=torch.channels_last))
        return -4 / float(ebm.tau) ** 2 * gradient  # 2 for dv/dx, 2/τ² for the energy's scale


class ADP(nn.Module):
    """ŷ(x) of Eq. 13: the mean softmax output of S noisy purifications of x; a `RandomDefense`.

    `score` is a score network (`ScoreModel`), or an energy-based model, whose states are then not clipped. As a module
    it maps images (N, C, H, W) in [0, 1] to log-probabilities (N, K) and takes image i's random stream to be i;
    `predict` takes the images' positions. `hold_steps=False` lets `unrolled` differentiate step sizes too.
    Raises UserError where σ is unset (see `sigma_of`) or the score is not finite.
    """

    def __init__(
        self, classifier: nn.Module, score: nn.Module, options: Options, *, seed: int = 0, hold_steps: bool = True
    ) -> None:
        super().__init__()
        if options.sigma is None:
            raise UserError("sigma is unset; give the noise's standard deviation, e.g. sigma_of(training images)")
        self.box = not isinstance(score, EnergyModel | EnergyScore)
        self.classifier = classifier
        self.score_model = EnergyScore(score) if isinstance(score, EnergyModel) else score
        # one memory format for all: an image's result does not depend on who shares its batch
        self.score_model.to(memory_format=torch.channels_last)
        self.options = options
        self.draws = options.draws if options.random else 1
        self.seed = seed
        self.hold_steps = hold_steps
        self._parts = Parts("purifying one image", "lower draws, for an attack verify too")
        self._classified = Parts("classifying one purified image", "free the accelerator or set device cpu")

    @property
    def sigma(self) -> float:
        """σ of the injected noise."""
        assert self.options.sigma is not None
        return self.options.sigma

    @property
    def random(self) -> bool:
        """Whether two draws may differ."""
        return self.options.random

    def forward(self, x: Tensor) -> Tensor:
        return self.predict(x, range(len(x)))

    def predict(self, x: Tensor, indices: Sequence[int], draws: int | None = None) -> Tensor:
        """(N, K) log of the mean softmax output of `draws` purifications (default S)."""
        streams = ImageStreams(self.seed, indices, x.device)
        images = self.purify_draws(x, draws or self.draws, streams).flatten(0, 1)
        logits = joined(self._classified.run(lambda rows: in_company(self.classifier, images[rows]), len(images)))
        return self.combine(logits.unflatten(0, (len(x), -1)))

    def purify(self, x: Tensor) -> Tensor:
        """One purified image for each of x, same shape."""
        return self.purify_draws(x, 1, ImageStreams(self.seed, range(len(x)), x.device))[:, 0]

    @torch.no_grad()
    def purify_draws(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        """(N, draws, C, H, W) independent purifications, without gradient; `streams` hold one random stream an image.

        On a CPU they are computed in parts that fit its cache, elsewhere in as few as memory allows.
        """

        def part(rows: slice) -> Tensor:
            chosen = streams.subset(range(len(x))[rows])
            with rewinding(chosen):
                return self._purify(x[rows], draws, chosen)

        cached = max(1, TOGETHER // draws) if x.device.type == "cpu" else None
        return joined(self._parts.run(part, len(x), cached))

    def _purify(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        states = self.noisy(x, draws, streams).flatten(0, 1)
        noise = self._step_noise(x, draws, streams)
        return cast(Tensor, follow(self._score, states, self._scheme, noise=noise).unflatten(0, (len(x), draws)))

    def unrolled(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        """`purify_draws` differentiable in x, with step sizes held constant unless `hold_steps` is off.

        Each step is computed again on the way back, so memory grows by one state a step.
        """
        scheme = self._scheme
        states, active = begin(self.noisy(x, draws, streams).flatten(0, 1), scheme)
        noise = self._step_noise(x, draws, streams)
        for _ in range(scheme.steps):
            z = None if noise is None else noise()
            if self.hold_steps:
                states, active = held_step(states, active, z, self._score, scheme)
            else:
                step = (free_step, states, active, z, self._score, scheme)
                states, active = checkpoint(*step, use_reentrant=False, preserve_rng_state=False)
        return cast(Tensor, states.unflatten(0, (len(x), draws)))

    def noisy(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        """x_0 (N, draws, C, H, W): images with the injected noise, clipped to [0, 1]."""
        if self.sigma == 0:
            return x.unsqueeze(1).expand(-1, draws, *x.shape[1:])
        noise = streams.normal((draws, *x.shape[1:]), x.device)
        return (x.unsqueeze(1) + self.noise_scale(x).view(-1, 1, 1, 1, 1) * noise).clamp(0, 1)

    def noise_scale(self, x: Tensor) -> Tensor:
        """(N,) σ for each image: less for those whose score norm counts as natural, where `detect` is set."""
        sigma = torch.full((len(x),), self.sigma, dtype=x.dtype, device=x.device)
        if self.options.detect is None:
            return sigma
        natural: Tensor = torch.linalg.vector_norm(self.score(x), dim=(1, 2, 3)) <= self.options.detect
        return torch.where(natural, self.options.calm * sigma, sigma)

    def score(self, x: Tensor) -> Tensor:
        """s_θ(x) (N, C, H, W) without gradient."""
        with torch.no_grad():
            found = self._score(x)
        check_score(found)
        return found

    def combine(self, logits: Tensor) -> Tensor:
        """The logarithm of the mean softmax of logits (N, draws, K), (N, K): the prediction of Eq. 13."""
        return logits.log_softmax(2).logsumexp(1) - math.log(logits.shape[1])

    @property
    def _scheme(self) -> Scheme:
        return self.options.scheme(box=self.box)

    def _score(self, x: Tensor) -> Tensor:
        return in_company(self.score_model, x)

    def _step_noise(self, x: Tensor, draws: int, streams: ImageStreams) -> Noise | None:
        """Noise (N · draws, C, H, W) for each Langevin update in turn; None where updates are deterministic."""
        if self._scheme.temperature == 0:
            return None
        return lambda: streams.normal((draws, *x.shape[1:]), x.device).flatten(0, 1)


def sigma_of(images: Tensor, *, limit: int = 2000, seed: int = 0) -> float:
    """The median heuristic for σ (Sec. 3.3): the median Euclidean distance of two images (N, C, H, W), over √D.

    Of more than `limit` images a random sample of so many is taken.
    """
    if len(images) < 2:
        raise UserError(f"the median heuristic needs 2 images at least, not {len(images)}; give sigma instead")
    flat = images.flatten(1)
    if len(flat) > limit:
        flat = flat[torch.randperm(len(flat), generator=generator(seed, "median"))[:limit]]
    distances = torch.pdist(flat.double())
    return float(distances.median()) / math.sqrt(flat.shape[1])
