"""Resumable state of a training, kept outside the pipeline's outputs (DVC removes those before a run).

A checkpoint is a safetensors file: tensors, and everything else as JSON. It is named by what is being trained, so
a changed option or changed data never resumes from a foreign state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.io import load_weights, save_weights

FOLDER = Path(".cache/checkpoints")


class Checkpoint:
    """Saves and restores models, an optimizer and further tensors; `identity` (JSON values) names the training."""

    def __init__(self, identity: Any, folder: Path = FOLDER) -> None:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        self.path = folder / f"{digest[:32]}.safetensors"

    def save(
        self,
        modules: dict[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        facts: dict[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write the modules' weights, the optimizer's state, `facts` (JSON values) and other `tensors`, atomically."""
        weights = {
            f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()
        }
        state = optimizer.state_dict()["state"]
        slots = {f"optimizer/{i}/{key}": value for i, slot in state.items() for key, value in slot.items()}
        others = {f"tensors/{name}": value for name, value in (tensors or {}).items()}
        save_weights(self.path, weights | slots | others, facts)

    def restore(
        self,
        modules: dict[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        tensors: dict[str, Tensor] | None = None,
    ) -> dict[str, Any] | None:
        """Load what `save` wrote into the modules and the optimizer; its facts, or None where there is nothing.

        The further tensors that it wrote are put into `tensors`, on the CPU. A damaged checkpoint counts as none:
        training starts over rather than from a doubtful state.
        """
        if not self.path.is_file():
            return None
        try:
            found, facts = load_weights(self.path)
        except UserError:
            self.clear()
            return None
        for name, module in modules.items():
            module.load_state_dict(_below(found, name))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(found, "optimizer").items():
            index, field = key.split("/", 1)
            slots.setdefault(int(index), {})[field] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
        if tensors is not None:
            tensors.update(_below(found, "tensors"))
        return facts

    def clear(self) -> None:
        """Forget the state; called once the training's output is written."""
        self.path.unlink(missing_ok=True)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{prefix}/")}
