"""Options every computing stage has, and the torch settings that make its results repeatable."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustgen.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from robustgen.data import ImageSet


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@dataclass(frozen=True, kw_only=True)
class Compute:
    device: str = "cpu"  # where torch computes: cpu, cuda or cuda:N
    threads: int = 1  # CPU threads of torch; results repeat bit for bit at equal numbers


def prepare(compute: Compute) -> str:
    """Set torch's threads and deterministic kernels; the device, checked."""
    import torch

    if compute.threads < 1:
        raise UserError(f"threads is {compute.threads}; give at least 1")
    torch.set_num_threads(compute.threads)
    keep_freed_memory()
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # ADP divides a difference of scores by its δ of 1e-5: TF32 keeps 1e-3 of them
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    kind, _, number = compute.device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(f"unknown device {compute.device!r}; use cpu, cuda or cuda:N")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                f"device {compute.device} was asked for, but torch sees no GPU; use --device cpu or a GPU node"
            )
        if number and int(number) >= torch.cuda.device_count():
            raise UserError(f"device {compute.device} was asked for, but there are {torch.cuda.device_count()} GPUs")
    return compute.device


def keep_freed_memory() -> None:
    """Have the C library keep what tensors leave instead of returning it to the system, which zeroes it for the next:
    small networks spend a fifth of their time on that. Where there is no glibc, nothing happens.
    """
    try:
        tune = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        tune(parameter, 1 << 30)


def identity(options: Compute, files: Sequence[Path], sources: Sequence[str]) -> dict[str, Any]:
    """What work kept on disk belongs to: options, the content of `files`, the modules `sources` of this package that do
    it, torch. A change in any starts afresh.
    """
    import torch

    from robustgen.io import sha256

    specs = [find_spec(f"robustgen.{name}") for name in sources]  # found, not imported
    return {
        **asdict(options),
        "device": options.device.partition(":")[0],
        "files": [sha256(path.read_bytes()) for path in files],
        "sources": [sha256(Path(str(spec.origin)).read_bytes()) for spec in specs if spec],
        "torch": torch.__version__,
    }


def sources(network: nn.Module) -> list[str]:
    """The modules of this package that parts of the network come from, as `identity` takes them."""
    parts = {type(part).__module__ for part in network.modules()}
    return sorted(name.removeprefix("robustgen.") for name in parts if name.startswith("robustgen."))


def check_shape(
    config: Any, images: ImageSet, data: Path, who: str = "the model", advice: str = "use its own data file"
) -> None:
    """Raise UserError unless `images`, read from `data`, have the shape that a network of `config` takes."""
    shapes = images.images.shape[1:], (config.channels, config.size, config.size)
    found, wanted = ("{}x{}x{}".format(*shape) for shape in shapes)
    if found != wanted:
        raise UserError(f"{data}: images are {found} where {who} needs {wanted}; {advice}")


def check_data(model: nn.Module, images: ImageSet, path: Path) -> None:
    """Raise UserError unless `images`, read from `path`, have the shape and classes that `model` was built for."""
    config: Any = model.config
    found = (*images.images.shape[1:], images.num_classes)
    wanted = (config.channels, config.size, config.size, config.classes)
    if found != wanted:
        shapes = ("{}x{}x{} with {} classes".format(*numbers) for numbers in (found, wanted))
        raise UserError("{}: images are {} where the model needs {}; use its own data file".format(path, *shapes))


def chosen(args: Sequence[str], option: str, default: str) -> str:
    """The value that `args` give to `option`, ahead of the full parse: it decides which options there are."""
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(f"{option}="):
            return arg.split("=", 1)[1]
    return default
