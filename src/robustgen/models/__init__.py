"""Networks only: images in [0, 1] -> logits, energy, score or code. One architecture a file.

A module `robustgen.models.<arch>` holds `Config` (a frozen dataclass whose field `arch` is its name) and `Model`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from os import PathLike
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from robustgen.errors import UserError
from robustgen.io import load_weights, save_weights

ARCHITECTURES = (
    "aae",
    "detectors",
    "encoder_cnn",
    "igebm",
    "jem",
    "madry_cnn",
    "madry_resnet",
    "ncsnv2",
    "nijkamp",
    "resnet10",
    "resnet50",
    "wide_resnet",
)
# A header that asks for more than EXCESS times its file's weights and SPARE besides is refused.
EXCESS, SPARE = 8, 1000


def config_type(arch: str) -> type[Any]:
    """The `Config` dataclass of an architecture; UserError for an unknown one."""
    if arch not in ARCHITECTURES:
        raise UserError(f"unknown architecture {arch!r}; known are {', '.join(ARCHITECTURES)}")
    return import_module(f"robustgen.models.{arch}").Config  # type: ignore[no-any-return]


def build(config: Any) -> nn.Module:
    """A freshly initialised network of `config`, drawn from torch's global generator; UserError where it has none."""
    config_type(config.arch)
    network: type[nn.Module] = import_module(f"robustgen.models.{config.arch}").Model
    try:
        return network(config)
    except ValueError as error:
        raise UserError(f"no {config.arch} has these options: {error}") from error


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every submodule's own mode restored after."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, no weight asks for a gradient: passes for images' gradients need none, and leave none behind."""
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def differing(config: Any, wanted: Any) -> str:
    """The options of `config` that are not as in `wanted`, with their values, as words; empty where there are none."""
    if config.arch != wanted.arch:
        return f"arch {config.arch}"
    found = {name: value for name, value in asdict(config).items() if value != getattr(wanted, name)}
    return ", ".join(f"{name} {value}" for name, value in found.items())


def save(path: str | PathLike[str], model: nn.Module, **facts: Any) -> None:
    """Write a network built here as safetensors; `facts` (JSON values) join the architecture in the header."""
    config: Any = model.config
    header = {"architecture": config.arch, "parameters": asdict(config), **facts}
    save_weights(path, model.state_dict(), header)


def load(path: str | PathLike[str], device: str | torch.device = "cpu", arch: str | None = None) -> nn.Module:
    """The network in a file written by `save`, in eval mode on `device`.

    A network many times the size of its file is refused before it takes memory.

    Raises UserError for a missing or damaged file, an unknown architecture or one that is not `arch` (where that is
    given), and weights that do not fit it.
    """
    tensors, header = load_weights(path)
    found = str(header.get("architecture") if isinstance(header, dict) else None)
    if arch is not None and found != arch:
        raise UserError(f"{path} holds a {found}, not the {arch} that was asked for; set arch")
    kind = config_type(found)
    try:
        parameters = {k: tuple(v) if isinstance(v, list) else v for k, v in header["parameters"].items()}
        limit = EXCESS * (SPARE + sum(tensor.numel() for tensor in tensors.values()))
        if _largest(header["parameters"]) > limit:
            raise UserError(f"it names a number above {limit}, for so few weights")
        with _at_most(limit):
            model = build(kind(**parameters))
        model.load_state_dict(tensors)
    except Exception as error:  # a stranger's header may break a constructor in any way
        first = [line.strip() for line in str(error).strip().splitlines()]
        raise UserError(
            f"{path}: the weights do not fit the architecture its header names ({' '.join(first[:2])}); train it again"
        ) from error
    return model.eval().to(device).to(memory_format=torch.channels_last)


@contextmanager
def _at_most(limit: int) -> Iterator[None]:
    """Inside, a network of more than `limit` weights is a UserError before their memory is filled."""
    registered, thread = 0, get_ident()

    def count(_: nn.Module, __: str, parameter: Tensor | None) -> None:
        nonlocal registered
        if parameter is not None and get_ident() == thread:  # others may be building networks
            registered += parameter.numel()
            if registered > limit:
                raise UserError(f"it asks for more than {limit} weights, many times those of the file")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _largest(value: Any) -> int:
    """The largest whole number in JSON's values; 0 where there is none."""
    if isinstance(value, dict):
        return _largest(list(value.values()))
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int) else 0
