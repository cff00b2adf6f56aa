"""Time our PGD loop against those of torchattacks and foolbox: same network, images, steps and start."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import foolbox
import torch
import torchattacks
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from robustgen import models
from robustgen.attacks.pgd import PGD
from robustgen.models.resnet10 import Config
from robustgen.records import processor, versions

EPS, ALPHA, STEPS, BATCH = 8 / 255, 2 / 255, 10, 32
WIDTHS = (16, 64)
TOLERANCE = 1e-6  # pixel units; a batch whose size is a power of two leaves nothing to rounding
OURS = "robustgen"

Attack = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Result:
    """Median seconds of each attack, and the largest difference between our images and any peer's, pixel units."""

    seconds: dict[str, float]
    difference: float

    @property
    def ratio(self) -> float:
        """Our time over the fastest peer's."""
        return self.seconds[OURS] / min(time for name, time in self.seconds.items() if name != OURS)


def network(width: int) -> nn.Module:
    """A ResNet10 for 32x32 colour images whose batch-norm statistics fit the images below."""
    torch.manual_seed(0)
    model = models.build(Config(width=width))
    with torch.no_grad():
        for _ in range(20):
            model(torch.rand(BATCH, 3, 32, 32))
    return model.eval()


def attacks(model: nn.Module) -> dict[str, Attack]:
    """The three implementations, each from the image itself and with its own interface around the loop."""
    bounded = PyTorchModel(model, bounds=(0, 1), device="cpu")
    peer = foolbox.attacks.LinfPGD(abs_stepsize=ALPHA, steps=STEPS, random_start=False)
    return {
        OURS: PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False),
        "torchattacks": torchattacks.PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False),
        "foolbox": lambda x, y: peer.run(bounded, x, y, epsilon=EPS),
    }


def timed(attack: Attack, model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.zero_grad(set_to_none=True)  # foolbox leaves gradients behind, which would slow whoever comes next
    start = time.perf_counter()
    attack(x, y)
    return time.perf_counter() - start


def compare(width: int, repetitions: int) -> Result:
    """Run all attacks in turn, `repetitions` times after one round to warm up, the first one changing each round."""
    model = network(width)
    x = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    known = attacks(model)
    images = {name: attack(x, y) for name, attack in known.items()}
    difference = max(float((images[OURS] - other).abs().max()) for other in images.values())
    seconds: dict[str, list[float]] = {name: [] for name in known}
    names = list(known)
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(timed(known[name], model, x, y))
    return Result({name: median(values) for name, values in seconds.items()}, difference)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 where adversarial images differ, else 0."""
    parser = argparse.ArgumentParser(prog=f"python benchmarks/{Path(__file__).name}", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15, help="timed rounds (default 15)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default 1)")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="widths of the ResNet10")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(f"{processor()}, {options.threads} thread(s)")
    print(", ".join(f"{name} {number}" for name, number in versions("torch", "torchattacks", "foolbox").items()))
    print(f"PGD, {STEPS} steps, batch {BATCH}, 3x32x32, median seconds of {options.repetitions} rounds\n")
    print(f"{'network':14}{OURS:>12}{'torchattacks':>14}{'foolbox':>10}{'ratio':>8}{'max difference':>17}")
    equal = True
    for width in options.widths:
        found = compare(width, options.repetitions)
        ours, first, second = (found.seconds[name] for name in (OURS, "torchattacks", "foolbox"))
        numbers = f"{ours:12.3f}{first:14.3f}{second:10.3f}{found.ratio:8.3f}{found.difference:17.1e}"
        print(f"ResNet10 w{width:<4}{numbers}", flush=True)
        equal &= found.difference <= TOLERANCE
    print("\nratio: ours over the fastest peer's")
    if not equal:
        print(f"FAILED: adversarial images differ by more than {TOLERANCE}")
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
