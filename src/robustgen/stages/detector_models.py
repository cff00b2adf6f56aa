"""Loading GAT's detectors, and what results say of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustgen.errors import UserError
from robustgen.io import load_weights
from robustgen.stages import classifiers
from robustgen.stages.compute import check_shape

if TYPE_CHECKING:
    from torch import nn

    from robustgen.data import ImageSet
    from robustgen.models.detectors import Detectors

# modules that every outcome of a stage with detectors depends on, beside the networks' own
SOURCES = (*classifiers.SOURCES, "stages.detector_models")


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
