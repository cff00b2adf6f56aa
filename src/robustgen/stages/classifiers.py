"""What the stages that attack classifiers and detectors have in common: loading, asking, and describing the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustgen import models
from robustgen.errors import UserError
from robustgen.options import recorded
from robustgen.stages.compute import check_data

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustgen.data import ImageSet

SOURCES = (  # modules that every such stage's outcome depends on, beside the networks' own
    *("adam", "attacks.ball", "attacks.first_order", "replicates", "seeding", "stages.classifiers"),
)


def load_classifier(path: Path, device: str, arch: str | None, images: ImageSet, data: Path) -> nn.Module:
    """The classifier in `path`, on `device`, in eval mode and without weight gradients.

    Raises UserError where the file holds none, or one for another shape or other classes than those of `images`, from
    `data`.
    """
    model = models.load(path, device, arch)
    config: Any = model.config
    if config.arch == "detectors" or not hasattr(config, "classes"):
        raise UserError(f"{path} holds no classifier but {config.arch}; give a model made by train-classifier")
    check_data(model, images, data)
    return model.requires_grad_(False)


def described(options: Any, labels: Tensor, first: int = 0, **facts: Any) -> dict[str, np.ndarray]:
    """What each result says of its test images, from number `first` on, and of its making.

    labels, indices int64 (N,), indices being rows of the test split; config, the options as JSON with `facts` (JSON
    values), such as how the networks were `trained`.
    """
    config = {**recorded(options), **facts}
    return {
        "labels": labels.numpy(),
        "indices": np.arange(first, first + len(labels)),
        "config": np.array(json.dumps(config, sort_keys=True, default=str)),
    }


def logits_of(network: nn.Module, images: Tensor, batch: int, what: str) -> np.ndarray:
    """float32 (N, K) outputs of a classifier or of detectors for images (N, C, H, W) in [0, 1].

    Raises UserError, naming them `what`, where one is NaN or infinite.
    """
    import torch

    from robustgen.replicates import in_company

    device = next(network.parameters()).device
    with torch.no_grad():
        found = torch.cat([in_company(network, x.to(device)).cpu() for x in images.split(batch)])
    check_logits(found, what)
    return found.numpy()


def check_logits(logits: Tensor, what: str) -> None:
    """Raise UserError, naming them `what`, where logits (N, K) are not finite."""
    from robustgen.replicates import check_finite

    check_finite(logits, what, "; train the network again, with a smaller --recipe.lr")


def together(**lists: Sequence[Any]) -> list[dict[str, Any]]:
    """Lists that belong together, entry by entry; a list of one value serves every entry.

    Raises UserError for an empty list, and for lists of unequal length.
    """
    lengths = {name: len(values) for name, values in lists.items()}
    count = max(lengths.values())
    wrong = {name: length for name, length in lengths.items() if length not in (1, count) or length == 0}
    if wrong:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise UserError(f"{', '.join(lists)} belong together, but {found}; give each {max(count, 1)} values, or one")
    return [{name: values[i if len(values) > 1 else 0] for name, values in lists.items()} for i in range(count)]
