"""Time ADP's batched purification against Algorithm 1 as written: same network, images and noise, in one run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustgen import models
from robustgen.defenses.adp import ADP, Options
from robustgen.models import ncsnv2, wide_resnet
from robustgen.records import processor
from robustgen.sampling.purification import LARGEST, SMALLEST
from robustgen.seeding import ImageStreams

NETWORKS = {
    "paper": (ncsnv2.Config(), wide_resnet.Config(depth=28, widen=10)),
    "quick": (
        ncsnv2.Config(size=16, channels=1, width=8, sigma_first=8.08, levels=49),
        wide_resnet.Config(size=16, channels=1, depth=10, widen=1, base=8, mean=(0.3,), std=(0.35,)),
    ),
}
# Eq. 18 divides by δ = 1e-5, so that in float32 the last bits, which batched kernels round otherwise than single ones,
# change step sizes by per cents. Equality is checked in double precision.
TOLERANCE = 1e-6  # pixel units
CHECKED = 5  # images


@dataclass(frozen=True)
class Result:
    """Seconds of both ways, and how far they differ."""

    batched: float
    looped: float
    difference: float  # largest of a pixel, in double precision
    rounding: float  # the same between the timed ways
    agreeing: int  # images that both predict alike
    images: int

    @property
    def ratio(self) -> float:
        return self.looped / self.batched

    def agrees(self) -> bool:
        """Whether both purify and predict alike, up to rounding."""
        return self.difference <= TOLERANCE and self.agreeing >= 0.9 * self.images


@torch.no_grad()
def algorithm1(
    x: Tensor, noise: Tensor, score: nn.Module, classifier: nn.Module, options: Options
) -> tuple[Tensor, Tensor]:
    """ŷ's probabilities (K,) and the purified images (S, C, H, W) of one image x (C, H, W), line by line.

    `noise` (S, C, H, W) is ε. Step sizes keep the bounds that the batched ones have.
    """
    assert options.sigma is not None
    lam, delta, tau = options.lam, 1e-5, options.stop
    outputs, purified = [], []
    for epsilon in noise:
        state = (x + options.sigma * epsilon).clamp(0, 1)[None]
        for _ in range(options.steps):
            s = score(state)
            if torch.linalg.vector_norm(s) < tau:
                break
            probed = score(state + delta * s)
            fall = 1 - (s.double() * probed.double()).sum() / s.double().square().sum()
            alpha = float(lam * delta / fall) if fall > 0 else LARGEST
            state = (state + min(max(alpha, SMALLEST), LARGEST) * s).clamp(0, 1)
        purified.append(state[0])
        outputs.append(classifier(state)[0].softmax(0))
    return torch.stack(outputs).mean(0), torch.stack(purified)


def compare(name: str, images: int, options: Options, device: torch.device, weights: Path | None) -> Result:
    """Both ways on the same random images and noise, after a warm-up of either."""
    torch.manual_seed(0)
    config, classes = NETWORKS[name]
    score = models.load(weights, str(device)) if weights else models.build(config).to(device)
    score, classifier = score.eval(), models.build(classes).to(device).eval()
    defense = ADP(classifier, score, options).eval()
    x = torch.rand(images, config.channels, config.size, config.size, device=device)
    noise = ImageStreams(0, range(images), device).normal((options.draws, *x.shape[1:]))

    def batched(count: int) -> tuple[Tensor, Tensor]:
        rows = range(count)
        purified = defense.purify_draws(x[:count], options.draws, ImageStreams(0, rows, device))
        with torch.no_grad():
            logits = classifier(purified.flatten(0, 1)).unflatten(0, purified.shape[:2])
        return defense.combine(logits), purified

    def looped(count: int) -> tuple[Tensor, Tensor]:
        found = [algorithm1(x[i], noise[i], score, classifier, options) for i in range(count)]
        return torch.stack([each[0] for each in found]), torch.stack([each[1] for each in found])

    timed = {}
    for way in (batched, looped):
        way(2)
        start = time.perf_counter()
        outcome = way(images)
        if device.type == "cuda":
            torch.cuda.synchronize()
        timed[way.__name__] = (time.perf_counter() - start, *outcome)
    (fast, a, p), (slow, b, q) = timed["batched"], timed["looped"]
    score.double()
    few = slice(0, CHECKED)
    exact = defense.purify_draws(x[few].double(), options.draws, ImageStreams(0, range(images)[few], device))
    alone = [
        algorithm1(*pair, score, classifier.double(), options)[1] for pair in zip(x[few].double(), noise, strict=False)
    ]
    same = float((exact - torch.stack(alone)).abs().max())
    agreeing = int((a.argmax(1) == b.argmax(1)).sum())
    return Result(fast, slow, same, float((p - q).abs().max()), agreeing, images)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="quick")
    parser.add_argument("--weights", type=Path, help="a trained score network instead of a random one")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--draws", type=int, default=10, help="S")
    parser.add_argument("--steps", type=int, default=10, help="T")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    options = Options(sigma=0.25, steps=args.steps, draws=args.draws)
    found = compare(args.network, args.images, options, torch.device(args.device), args.weights)
    print(f"{processor()}, {args.threads} thread(s), torch {torch.__version__}; network {args.network}")
    print(f"{args.images} images, S = {args.draws}, T = {args.steps}")
    print(f"batched        {found.batched:9.2f} s   {args.images / found.batched:9.1f} images/s")
    print(f"Algorithm 1    {found.looped:9.2f} s   {args.images / found.looped:9.1f} images/s")
    print(f"ratio          {found.ratio:9.2f}")
    print(f"largest difference of a pixel {found.difference:.2g} in double precision, {found.rounding:.2g} in float32")
    print(f"{found.agreeing} of {found.images} predictions equal")
    return 0 if found.agrees() else 1


if __name__ == "__main__":
    raise SystemExit(main())
