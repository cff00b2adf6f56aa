"""Time GAT's detectors as one network against the loop over ten networks: inference, and an update of training."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import rounds
from torch import Tensor, nn

from robustgen import models
from robustgen.models import madry_cnn
from robustgen.models.detectors import Config, Detectors
from robustgen.records import processor
from robustgen.training.gat import Adversary, losses, perturbed

NETWORKS = {
    "paper": madry_cnn.Config(classes=1),
    "quick": madry_cnn.Config(size=16, classes=1, widths=(8, 16), hidden=64, mean=(0.3,), std=(0.35,)),
}
K = 10  # classes, and detectors
BATCH = 32  # images; in training so many of the class and so many others
ADVERSARY = Adversary(eps=0.3, alpha=0.05, steps=10, rule="steepest", random_start=False)
ASKED = {"quick": (3.0, 2.0), "paper": (0.0, 0.0)}  # the loop's time over ours: inference, update
SLACK = 0.8  # share of these that passes: times of milliseconds on a machine that others use too
LOGITS = 1e-5  # by which logits may differ, in float32
# A pixel whose gradient is within rounding of 0 may go either way in float32. Updates are compared in double precision.
GRADIENTS = 1e-9
CHECKED = 4  # images of each kind

OURS, LOOP, LAID, SINGLE = "one network", "loop", "loop, channels last", "one softmax classifier"


@dataclass(frozen=True)
class Result:
    """Median seconds by way; largest differences of logits and of gradients by parameters."""

    inference: dict[str, float]
    update: dict[str, float]
    logits: float
    gradients: float

    @property
    def ratios(self) -> tuple[float, float]:
        """The loop's time over ours, in inference and in an update."""
        return self.inference[LOOP] / self.inference[OURS], self.update[LOOP] / self.update[OURS]

    def failures(self, asked: tuple[float, float]) -> list[str]:
        """What is not as it should be, in words."""
        found = []
        if not self.logits <= LOGITS:
            found.append(f"logits differ by more than {LOGITS}")
        if not self.gradients <= GRADIENTS:
            found.append(f"gradients differ by more than {GRADIENTS}")
        for ratio, bound, what in zip(self.ratios, asked, ("inference", "an update"), strict=True):
            if not ratio >= SLACK * bound:
                found.append(f"{what} is {ratio:.2f} times as fast as the loop, far from {bound:g} times")
        return found


@torch.no_grad()
def looped(networks: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Logits (N, K), one network after another."""
    return torch.cat([network(x) for network in networks], 1)


def gradients_together(detectors: Detectors, own: Tensor, others: Tensor) -> list[Tensor]:
    """Gradients of Eq. 5 by the stacked parameters; images (K, M, C, H, W) of the classes and of the others."""
    moved = perturbed(detectors, others, ADVERSARY, 0)
    detectors.zero_grad(set_to_none=True)
    positives, negatives = detectors.each(torch.cat([own, moved], 1)).split([own.shape[1], others.shape[1]], 1)
    losses(positives, negatives).sum().backward()
    return [p.grad for p in detectors.parameters() if p.grad is not None]


def gradients_alone(network: nn.Module, own: Tensor, others: Tensor) -> list[Tensor]:
    """The same of one detector, written plainly: PGD, then the loss."""
    low, high = (others - ADVERSARY.eps).clamp(min=0), (others + ADVERSARY.eps).clamp(max=1)
    moved = others
    network.requires_grad_(False)
    for _ in range(ADVERSARY.steps):
        moved = moved.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(network(moved).sum(), moved)
        moved = torch.clamp(moved.detach() + ADVERSARY.alpha * gradient.sign(), low, high)
    network.requires_grad_(True)
    network.zero_grad(set_to_none=True)
    positives, negatives = network(torch.cat([own, moved]))[:, 0].split([len(own), len(others)])
    (F.softplus(-positives).mean() + F.softplus(negatives).mean()).backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


def updating(networks: Sequence[nn.Module], own: Tensor, others: Tensor) -> Callable[[], None]:
    """One update of every network, in a loop; images (K, M, C, H, W)."""
    optimizers = [torch.optim.Adam(network.parameters(), lr=5e-4) for network in networks]

    def update() -> None:
        for network, optimizer, *images in zip(networks, optimizers, own, others, strict=True):
            gradients_alone(network, *images)
            optimizer.step()

    return update


def updating_together(detectors: Detectors, own: Tensor, others: Tensor) -> Callable[[], None]:
    """One update of all detectors at once."""
    optimizer = torch.optim.Adam(detectors.parameters(), lr=5e-4)

    def update() -> None:
        gradients_together(detectors, own, others)
        optimizer.step()

    return update


def difference(detectors: Detectors, own: Tensor, others: Tensor) -> float:
    """Largest difference between both ways' gradients of an update, in double precision, on a few images."""
    own, others = own[:, :CHECKED].double(), others[:, :CHECKED].double()
    exact = copy.deepcopy(detectors).double()
    alone = [gradients_alone(exact.member(k), own[k], others[k]) for k in range(K)]
    together = gradients_together(exact, own, others)
    pairs = zip(together, map(torch.stack, zip(*alone, strict=True)), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def compare(name: str, repetitions: int, device: torch.device) -> Result:
    """All ways on the same networks and images."""
    torch.manual_seed(0)
    member = NETWORKS[name]
    detectors = Detectors(Config(labels=tuple(range(K)), classes=K, member=member)).to(device)
    softmax = models.build(madry_cnn.Config(**{**vars(member), "classes": K})).eval().to(device)
    alone = [detectors.member(k) for k in range(K)]
    laid = [copy.deepcopy(network).to(memory_format=torch.channels_last) for network in alone]
    x = torch.rand(BATCH, member.channels, member.size, member.size, device=device)
    flat = x.contiguous(memory_format=torch.channels_last)
    own, others = torch.rand(2, K, *x.shape, device=device)
    turned = [
        images.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (K, -1)) for images in (own, others)
    ]
    with torch.no_grad():
        logits = float((detectors(x) - looped(alone, x)).abs().max())
        inference: dict[str, Callable[[], object]] = {
            OURS: lambda: detectors(x),
            LOOP: lambda: looped(alone, x),
            LAID: lambda: looped(laid, flat),
            SINGLE: lambda: softmax(flat),
        }
        quick = rounds(inference, 10 * repetitions, device)
    gradients = difference(detectors, own, others)
    updates: dict[str, Callable[[], object]] = {
        OURS: updating_together(detectors, own, others),
        LOOP: updating(alone, own, others),
        LAID: updating(laid, *turned),
    }
    return Result(quick, rounds(updates, repetitions, device), logits, gradients)


def table(found: Result) -> str:
    lines = [f"{'':24}{'inference, ms':>14}{'ratio':>8}{'update, ms':>12}{'ratio':>8}"]
    for name, seconds in found.inference.items():
        line = f"{name:24}{1e3 * seconds:14.2f}{seconds / found.inference[OURS]:8.2f}"
        if name in found.update:
            line += f"{1e3 * found.update[name]:12.1f}{found.update[name] / found.update[OURS]:8.2f}"
        lines.append(line)
    cost = found.inference[OURS] / found.inference[SINGLE]
    lines.append(f"\nten detectors cost {cost:.1f} times a softmax classifier of their architecture (paper: about 10)")
    lines.append(f"largest difference of a logit {found.logits:.2g}; of a gradient, in double, {found.gradients:.2g}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 where the ways compute different things, or ours is not as fast as asked for, else 0."""
    parser = argparse.ArgumentParser(prog=f"python benchmarks/{Path(__file__).name}", description=__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="quick")
    parser.add_argument("--repetitions", type=int, default=10, help="timed rounds of updates, ten times as many passes")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default 1)")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    found = compare(args.network, args.repetitions, torch.device(args.device))
    print(f"{processor()}, {args.threads} thread(s), torch {torch.__version__}; network {args.network}, {args.device}")
    print(
        f"K = {K}; inference of {BATCH} images; update on {BATCH} + {BATCH} per class, PGD of {ADVERSARY.steps} steps"
    )
    print(f"median of {args.repetitions} rounds; ratio: time over that of one network\n")
    print(table(found))
    failures = found.failures(ASKED[args.network])
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
