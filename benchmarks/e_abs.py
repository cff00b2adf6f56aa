"""Time E-ABS's inference with ten decoders as one network against the loop over ten, and the scoring of candidates."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import torch
from timing import rounds
from torch import Tensor, nn

from robustgen.defenses.e_abs import AnalysisBySynthesis, Candidates, Inferred, Loss, Options
from robustgen.models.aae import AAE, Config
from robustgen.records import processor
from robustgen.seeding import ImageStreams

NETWORKS = {
    "quick": Config(
        size=16,
        latent=8,
        encoder_channels=(16, 32, 32),
        encoder_kernels=(5, 5, 4),
        encoder_strides=(2, 2, 1),
        encoder_paddings=(2, 2, 0),
        decoder_channels=(16, 16, 8, 1),
        decoder_kernels=(4, 4, 4, 1),
        decoder_strides=(1, 2, 2, 1),
        decoder_paddings=(0, 1, 1, 0),
        neurons=(64, 32),
    ),
    "mnist": Config(),
}
ASKED = {"quick": (3.0, 1.0), "mnist": (0.0, 1.0)}  # the loop's time over ours: inference, scoring
SLACK = 0.8  # share of these that passes: the machine may have others to serve
LOSSES = 1e-8  # by which losses may differ in double precision, as a share; in single, Adam enlarges what is rounded
CHECKED = 4  # images of that comparison

OURS, LOOP = "one network", "loop"


class Single(nn.Module):
    """Class k of an autoencoder as one of a single class, its decoder a plain network."""

    def __init__(self, model: AAE, k: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(latent=model.config.latent, adversarial=True)
        self.num_classes = 1
        self.whole = [model]  # not a part: it would be counted ten times
        self.k = k
        self.decoder = model.member(k)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.whole[0].encode(x)
        return mean[:, self.k : self.k + 1], log_variance[:, self.k : self.k + 1]

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z[:, 0]).unsqueeze(1)  # type: ignore[no-any-return]

    def log_d(self, z: Tensor) -> Tensor:
        return self.whole[0].log_d(z)


@dataclass(frozen=True)
class Result:
    """Median seconds by way; the largest relative difference of a loss, and whether the same candidates are best."""

    inference: dict[str, float]
    scoring: dict[str, float]
    losses: float
    same: bool

    def failures(self, asked: tuple[float, float]) -> list[str]:
        """What is not as it should be, in words."""
        found = [] if self.losses <= LOSSES else [f"losses differ by more than {LOSSES}"]
        found += [] if self.same else ["other candidates are best"]
        for what, seconds, bound in zip(("inference", "scoring"), (self.inference, self.scoring), asked, strict=True):
            ratio = seconds[LOOP] / seconds[OURS]
            if not ratio >= SLACK * bound:
                found.append(f"{what} is {ratio:.2f} times as fast as the loop, far from {bound:g} times")
        return found


def inferring(defenses: Sequence[AnalysisBySynthesis], x: Tensor) -> Callable[[], Tensor]:
    """Losses (N, K) of defences of some classes each, one after another."""

    def infer() -> Tensor:
        found: list[Inferred] = [each.infer(x, ImageStreams(0, range(len(x)), x.device)) for each in defenses]
        return torch.cat([each.losses for each in found], 1)

    return infer


def scored(candidates: Candidates, x: Tensor) -> tuple[Tensor, Tensor]:
    """The least losses (N, K) and the means that have them, written plainly: an image and a class after another."""
    (images, rest), *more = candidates.kept or []
    assert not more, "as many candidates as are scored in one piece"
    count = len(candidates.means)
    least = x.new_empty(len(x), len(rest) // count)
    best = torch.empty_like(least, dtype=torch.long)
    for k, (reconstructed, row) in enumerate(zip(images.split(count), rest.split(count), strict=True)):
        penalty = row - reconstructed.square().sum(1)
        for n, image in enumerate(x.flatten(1)):
            least[n, k], best[n, k] = ((reconstructed - image).square().sum(1) + penalty).min(0)
    return least, candidates.means[best]


def trained(config: Config) -> AAE:
    """A network whose images depend on the latents, as those of a trained one do: normalised maps, and contrast."""
    torch.manual_seed(0)
    model = AAE(config).eval()
    norms: list[nn.BatchNorm2d] = [each for each in model.decoder.norms if isinstance(each, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None  # statistics of what follows
            norm.train()
        model.decode(torch.randn(256, config.classes, config.latent))
        for parameter in model.decoder.convolutions[-1].parameters():
            parameter.mul_(5)
    return model.eval()


def difference(model: AAE, x: Tensor, options: Options) -> float:
    """The largest relative difference of a loss on a few images, in double precision."""
    exact = copy.deepcopy(model).double()
    x = x[:CHECKED].double()
    ours = inferring([AnalysisBySynthesis(exact, options)], x)()
    theirs = inferring([AnalysisBySynthesis(Single(exact, k), options) for k in range(exact.num_classes)], x)()
    return float(((ours - theirs) / theirs).abs().max())


@torch.no_grad()
def compare(name: str, images: int, count: int, repetitions: int, device: torch.device) -> Result:
    """Both ways on the same networks and images; `count` candidates."""
    config = NETWORKS[name]
    model = trained(config).to(device)
    options = Options(candidates=count)
    x = torch.rand(images, config.channels, config.size, config.size, device=device)
    singles = [AnalysisBySynthesis(Single(model, k), options) for k in range(model.num_classes)]
    ways: dict[str, Callable[[], object]] = {
        OURS: inferring([AnalysisBySynthesis(model, options)], x),
        LOOP: inferring(singles, x),
    }
    inference = rounds(ways, repetitions, device)
    candidates = Candidates(Loss(model, options), options, x)
    images_of, rest = (
        torch.cat([piece.unflatten(0, (model.num_classes, -1)) for piece in pieces], 1).flatten(0, 1)
        for pieces in zip(*(candidates.kept or []), strict=True)
    )
    whole = copy.copy(candidates)
    whole.kept, whole.size = [(images_of, rest)], count
    scoring = rounds({OURS: lambda: candidates.best(x), LOOP: lambda: scored(whole, x)}, repetitions, device)
    same = torch.equal(candidates.best(x)[1], scored(whole, x)[1])
    return Result(inference, scoring, difference(model, x, replace(options, candidates=min(count, 500))), same)


def table(found: Result) -> str:
    lines = [f"{'':16}{'inference, s':>14}{'ratio':>8}{'scoring, ms':>14}{'ratio':>8}"]
    for name, seconds in found.inference.items():
        first = f"{name:16}{seconds:14.3f}{seconds / found.inference[OURS]:8.2f}"
        lines.append(f"{first}{1e3 * found.scoring[name]:14.1f}{found.scoring[name] / found.scoring[OURS]:8.2f}")
    lines.append(f"\nlargest difference of a loss, as a share, in double precision: {found.losses:.2g}")
    lines.append(f"the same candidates are best: {'yes' if found.same else 'no'}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 where the ways compute different things, or ours is not as fast as asked for, else 0."""
    parser = argparse.ArgumentParser(prog=f"python benchmarks/{Path(__file__).name}", description=__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="quick")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--candidates", type=int, default=8000)
    parser.add_argument("--repetitions", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default 1)")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    found = compare(args.network, args.images, args.candidates, args.repetitions, torch.device(args.device))
    print(f"{processor()}, {args.threads} thread(s), torch {torch.__version__}; network {args.network}, {args.device}")
    print(f"K = {NETWORKS[args.network].classes}; {args.images} images, {args.candidates} candidates, 50 evaluations")
    print(f"median of {args.repetitions} rounds; ratio: time over that of the one network\n")
    print(table(found))
    failures = found.failures(ASKED[args.network])
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
