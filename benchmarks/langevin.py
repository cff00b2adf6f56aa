"""Time our Langevin sampler against the plain loop: same network, states and step size, in one run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from robustgen import models
from robustgen.models.nijkamp import Config, Nijkamp
from robustgen.records import processor, versions
from robustgen.sampling.langevin import CHUNK, Force, force, langevin, micro_batch, stream_noise
from robustgen.seeding import ImageStreams

IMAGES = 100
NETWORKS = {
    "paper": Config(size=32, channels=3, width=32, tau=0.01),
    "quick": Config(size=16, channels=1, width=8, tau=0.08),
}
LONG, PAPER_SECONDS = 1500, 13.0  # Hill et al., App. E: steps, and their seconds on an RTX 2070 Super
OURS, PLAIN, HALF = "robustgen", "plain loop", "  in bfloat16"
TOLERANCE = {HALF: 0.2}  # of the mean move in CHUNK steps without noise: rounding grows where it crosses a kink
FLOAT32 = 1e-3  # of those in float32

Sampler = Callable[[Tensor, int, float], Tensor]  # states, steps, eta -> states


@dataclass(frozen=True)
class Result:
    """Seconds of every sampler's rounds of `steps` steps, and how far its states end from the plain loop's."""

    seconds: dict[str, list[float]]
    steps: int
    differences: dict[str, float]  # without noise, mean of the pixels, as a share of their mean move

    def agrees(self) -> bool:
        """Whether every sampler ends where the plain loop does, up to rounding."""
        return all(difference <= TOLERANCE.get(name, FLOAT32) for name, difference in self.differences.items())

    def rate(self, name: str) -> float:
        """Langevin updates of the whole batch per second, in the best round."""
        return self.steps / min(self.seconds[name])

    def ratio(self, name: str) -> float:
        """Best rate over the plain loop's."""
        return self.rate(name) / self.rate(PLAIN)

    def paired(self, name: str) -> float:
        """Median over the rounds of the plain loop's time over this one's."""
        pairs = zip(self.seconds[PLAIN], self.seconds[name], strict=True)
        return median(plain / own for plain, own in pairs)


def network(config: Config) -> Nijkamp:
    """An untrained network with forces as large as a trained one's. Its parameters require gradients, as any do."""
    torch.manual_seed(0)
    model = models.build(config)
    assert isinstance(model, Nijkamp)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    return model


def plain(model: Nijkamp) -> Sampler:
    """What the equation says: autograd through the network in its default layout, noise drawn step by step."""

    def sample(v: Tensor, steps: int, eta: float) -> Tensor:
        for _ in range(steps):
            v = v.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(model(v).sum(), v)
            v = v - gradient + eta * model.tau * torch.randn_like(v)
        return v.detach()

    return sample


def ours(model: Nijkamp, device: torch.device, step: Force | None = None) -> Sampler:
    """The sampler of the defence, with a random stream per image; `step` replaces its force."""
    shape = (model.config.channels, model.config.size, model.config.size)
    noise = stream_noise(ImageStreams(0, range(IMAGES), device), shape, 1, device)
    push, together = step or force(model), micro_batch(model, device)

    def sample(v: Tensor, steps: int, eta: float) -> Tensor:
        return langevin(push, v, noise, steps=steps, tau=model.tau, eta=eta, micro_batch=together)

    return sample


def graphed(model: Nijkamp, device: torch.device) -> Sampler:
    """Our sampler as a CUDA graph of CHUNK steps: one launch for all their kernels."""
    shape = (model.config.channels, model.config.size, model.config.size)
    noise = stream_noise(ImageStreams(0, range(IMAGES), device), shape, 1, device)
    v = torch.zeros(IMAGES, *shape, device=device).contiguous(memory_format=torch.channels_last)
    draws = torch.zeros(CHUNK, IMAGES, *shape, device=device)
    push = model.prepared_force()

    @torch.no_grad()
    def advance() -> None:
        state = v
        for z in draws:
            state = state - push(state) + z
        v.copy_(state)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries choose their kernels and make their workspaces before the capture
        advance()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        advance()

    def sample(start: Tensor, steps: int, eta: float) -> Tensor:
        v.copy_(start)
        for _ in range(steps // CHUNK):
            torch.mul(noise(CHUNK), eta * model.tau, out=draws)
            graph.replay()
        return v.clone()

    return sample


def samplers(config: Config, device: torch.device) -> dict[str, Sampler]:
    """The plain loop, ours, and on a GPU ours compiled and as a CUDA graph."""
    fast = network(config).to(device).to(memory_format=torch.channels_last)
    found = {PLAIN: plain(network(config).to(device)), OURS: ours(fast, device)}
    found[HALF] = ours(fast, device, force(fast, torch.bfloat16))
    if device.type == "cuda":
        found["torch.compile"] = ours(fast, device, torch.compile(fast.prepared_force()))
        found["CUDA graph"] = graphed(fast, device)
    return found


def timed(sampler: Sampler, v: Tensor, steps: int) -> float:
    finish(v.device)
    start = time.perf_counter()
    sampler(v, steps, 1.0)
    finish(v.device)
    return time.perf_counter() - start


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(config: Config, steps: int, repetitions: int, device: torch.device) -> Result:
    """All samplers in turn, `repetitions` rounds after one to warm up; every other round goes backwards."""
    known = samplers(config, device)
    v = torch.rand(IMAGES, config.channels, config.size, config.size, generator=torch.Generator().manual_seed(1))
    v = (2 * v - 1).to(device)
    ends = {name: sampler(v, CHUNK, 0.0) for name, sampler in known.items()}
    move = float((ends[PLAIN] - v).abs().mean())
    differences = {name: float((end - ends[PLAIN]).abs().mean()) / move for name, end in ends.items()}
    seconds: dict[str, list[float]] = {name: [] for name in known}
    names = list(known)
    for repetition in range(repetitions):
        for name in names if repetition % 2 == 0 else names[::-1]:
            seconds[name].append(timed(known[name], v, steps))
    return Result(seconds, steps, differences)


def step_flops(config: Config) -> int:
    """Floating-point operations of one force on the batch, counted at the convolutions, forward and to the input.

    Those that the equation takes; a sampler that does more because it is faster is not credited with them.
    """
    model = network(config)
    leaf = torch.zeros(IMAGES, config.channels, config.size, config.size, requires_grad=True)
    v = leaf * 1  # the counter's hooks want no leaf
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(model(v).sum(), v)
    return int(counter.get_total_flops())


def reachable(device: torch.device, repetitions: int = 5) -> float:
    """Operations per second of a large matrix product or a wide 3x3 convolution, whichever reaches more here.

    On a GPU both in TF32, in which its convolutions compute by default.
    """
    torch.backends.cuda.matmul.allow_tf32 = True
    side, images = (8192, 1024) if device.type == "cuda" else (1024, 8)
    a = torch.rand(side, side, device=device)
    x = torch.rand(images, 256, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(256, 256, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    tasks: list[tuple[int, Callable[[], Tensor]]] = [
        (2 * side**3, lambda: a @ a),
        (2 * weight.numel() * images * 32**2, lambda: torch.conv2d(x, weight, padding=1)),
    ]
    return max(operations / best_time(task, device, repetitions) for operations, task in tasks)


def best_time(task: Callable[[], object], device: torch.device, repetitions: int) -> float:
    """Seconds of the fastest of `repetitions` runs, after one to warm up."""
    seconds = []
    for _ in range(repetitions + 1):
        finish(device)
        start = time.perf_counter()
        task()
        finish(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def line(network: str, sampler: str, *numbers: str) -> str:
    widths = (11, 8, 8, 15, 11)
    return f"{network:8}{sampler:15}" + "".join(
        f"{number:>{width}}" for number, width in zip(numbers, widths, strict=True)
    )


def report(name: str, config: Config, found: Result, peak: float) -> None:
    """Lines of the table: one for each sampler."""
    flops = step_flops(config)
    for sampler in found.seconds:
        rate = found.rate(sampler)
        share = flops * rate / peak
        numbers = (f"{rate:.1f}", f"{found.ratio(sampler):.2f}", f"{found.paired(sampler):.2f}", f"{LONG / rate:.1f}")
        print(line(name, sampler, *numbers, f"{share:.0%}"), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 where the samplers disagree, else 0."""
    parser = argparse.ArgumentParser(prog=f"python benchmarks/{Path(__file__).name}", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=6, help="timed rounds (default 6)")
    parser.add_argument("--steps", type=int, default=CHUNK, help=f"steps in a round (default {CHUNK})")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default 1)")
    parser.add_argument("--networks", choices=NETWORKS, nargs="+", default=list(NETWORKS), help="which networks")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    if options.steps % CHUNK or options.steps < 1 or options.repetitions < 1:
        parser.error(f"--steps must be a multiple of {CHUNK}, the noise drawn at once, and --repetitions at least 1")
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    gpu = f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""
    print(f"{processor()}, {options.threads} thread(s){gpu}, torch {versions('torch')['torch']}")
    print(f"Langevin steps of {IMAGES} images, {options.repetitions} rounds of {options.steps} steps\n")
    peak = reachable(device)
    print(line("network", "sampler", "updates/s", "ratio", "paired", f"{LONG} steps, s", "of reach"))
    equal = True
    for name in options.networks:
        found = compare(NETWORKS[name], options.steps, options.repetitions, device)
        report(name, NETWORKS[name], found, peak)
        equal &= found.agrees()
    print(f"\nratio: best updates/s over the plain loop's; paired: median over rounds; {LONG} steps on the paper's")
    print(f"network took its authors about {PAPER_SECONDS:g} s on an RTX 2070 Super; reach: {peak / 1e9:.0f} GFLOP/s")
    if not equal:
        print(f"FAILED: without noise, states differ after {CHUNK} steps by more than rounding")
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
