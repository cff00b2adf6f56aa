"""Loading GAT's detectors and the classifiers beside them, and what the stages that attack them have in common."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustgen import models
from robustgen.errors import UserError
from robustgen.io import load_weights
from robustgen.options import recorded
from robustgen.stages.compute import check_data, check_shape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustgen.data import ImageSet
    from robustgen.models.detectors import Detectors

SOURCES = (  # modules that every such stage's outcome depends on, beside the networks' own
    *("adam", "attacks.ball", "attacks.first_order", "replicates", "seeding", "stages.detector_models"),
)


def load_bank(
    path: Path, device: str, arch: str | None, images: ImageSet, data: Path, *, complete: bool = False
) -> Detectors:
    """The detectors in `path`, a file or a folder of files, on `device`, in eval mode and without weight gradients.

    Raises UserError where there are none, they are damaged or do not go together, their members are no `arch` (where
    that is given), or they were not made for the shape and classes of `images`, from `data`; with `complete` also where
    a class has no detector.
    """
    from robustgen.models.detectors import load_detectors

    bank = load_detectors(path, device, complete=complete)
    config = bank.config
    if arch is not None and config.member.arch != arch:
        raise UserError(
            f"{path} holds detectors of the kind {config.member.arch}, not the {arch} asked for; name the one it holds"
        )
    check_shape(config, images, data, f"the bank of detectors in {path}", "train one on it")
    if config.classes != images.num_classes:
        raise UserError(
            f"{data} has {images.num_classes} classes where the detectors in {path} are for {config.classes}; "
            "use their own data file"
        )
    return bank.requires_grad_(False)


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


def detector_files(path: Path) -> list[Path]:
    """The files that `load_bank` reads: `path` itself, or the weights in it where it is a folder."""
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path]


def modules_of(networks: Sequence[nn.Module]) -> list[str]:
    """The modules of networks and of the detectors within them, as `identity` takes them."""
    found = [type(network).__module__.removeprefix("robustgen.") for network in networks]
    configs: list[Any] = [network.config for network in networks]
    members = [("models.grouped", f"models.{config.member.arch}") for config in configs if hasattr(config, "member")]
    return [*found, *(name for each in members for name in each)]


def training_facts(path: Path) -> list[dict[str, Any]]:
    """How the detectors in `path` were trained: of each file its `labels` and its `training`, None where unknown."""
    headers = [load_weights(file)[1] for file in detector_files(path)]
    return [{"labels": header["parameters"]["labels"], "training": header.get("training")} for header in headers]


def described(options: Any, labels: Tensor, trained: list[dict[str, Any]], first: int = 0) -> dict[str, np.ndarray]:
    """What each result says of its test images, from number `first` on, and of its making.

    labels, indices int64 (N,), indices being rows of the test split; config, the options as JSON with `trained`.
    """
    config = {**recorded(options), "trained": trained}
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
