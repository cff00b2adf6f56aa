"""Options every computing stage has, and the torch settings that make its results repeatable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustgen.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Compute:
    device: str = "cpu"  # where torch computes: cpu, cuda or cuda:N
    threads: int = 1  # CPU threads of torch; results repeat bit for bit at equal numbers


def prepare(compute: Compute) -> str:
    """Set torch's threads and deterministic kernels; the device, checked."""
    import torch

    torch.set_num_threads(compute.threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    kind, _, number = compute.device.partition(":")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"unknown device {compute.device!r}; use cpu, cuda or cuda:N")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                f"device {compute.device} was asked for, but torch sees no GPU; use --device cpu or a GPU node"
            )
        if number and int(number) >= torch.cuda.device_count():
            raise UserError(f"device {compute.device} was asked for, but there are {torch.cuda.device_count()} GPUs")
    return compute.device


def chosen(args: Sequence[str], option: str, default: str) -> str:
    """The value that `args` give to `option`, ahead of the full parse: it decides which options there are."""
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(f"{option}="):
            return arg.split("=", 1)[1]
    return default
