"""Models kept along a training of an energy-based model, with some states of the persistent bank: one file for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from robustgen import models
from robustgen.errors import UserError
from robustgen.io import load_weights, save_weights

BANK = "bank"  # the name that no weight has


@dataclass(frozen=True)
class Snapshot:
    """A training after `update` weight updates, the last of which belonged to `phase` ("adam" or "sgd").

    weights: the network's state dict. bank: (M, C, H, W) states of the persistent bank, units of v = 2x − 1.
    """

    update: int
    phase: str
    weights: dict[str, Tensor]
    bank: Tensor


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one training in the order of their updates; `config` builds their network."""

    config: Any
    snapshots: tuple[Snapshot, ...]

    def model(self, snapshot: Snapshot, device: str | torch.device = "cpu") -> nn.Module:
        """The network as it was, in eval mode on `device`; UserError where the weights do not fit it."""
        network = models.build(self.config)
        try:
            network.load_state_dict(snapshot.weights)
        except RuntimeError as error:
            first = " ".join(line.strip() for line in str(error).splitlines()[:2])
            raise UserError(
                f"snapshot {snapshot.update}: the weights do not fit a {self.config.arch} ({first}); train again"
            ) from error
        return network.eval().to(device).to(memory_format=torch.channels_last)


def save_snapshots(path: str | PathLike[str], config: Any, snapshots: Sequence[Snapshot]) -> None:
    """Write snapshots of a network that `config` builds as one safetensors file; none is fine."""
    tensors = {}
    for snapshot in snapshots:
        for name, tensor in (snapshot.weights | {BANK: snapshot.bank}).items():
            tensors[f"{snapshot.update}/{name}"] = tensor.clone()  # two snapshots may share what did not change
    known = [{"update": snapshot.update, "phase": snapshot.phase} for snapshot in snapshots]
    header = {"architecture": config.arch, "parameters": asdict(config), "snapshots": known}
    save_weights(path, tensors, header)


def load_snapshots(path: str | PathLike[str]) -> Snapshots:
    """What `save_snapshots` wrote, on the CPU.

    Raises UserError for a missing or damaged file, and one that holds something else.
    """
    tensors, header = load_weights(path)
    try:
        config = models.config_type(header["architecture"])(**_parameters(header["parameters"]))
        found = [(int(entry["update"]), str(entry["phase"])) for entry in header["snapshots"]]
        by_update: dict[int, dict[str, Tensor]] = {update: {} for update, _ in found}
        for key, tensor in tensors.items():
            update, name = key.split("/", 1)
            by_update[int(update)][name] = tensor
        snapshots = [Snapshot(update, phase, by_update[update], by_update[update].pop(BANK)) for update, phase in found]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is no file of training snapshots ({type(error).__name__}: {error}); give the one that "
            "`robustgen train-ebm --snapshots` wrote"
        ) from error
    return Snapshots(config, tuple(sorted(snapshots, key=lambda snapshot: snapshot.update)))


def _parameters(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where configurations have tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
