"""Loading energy-based models for the stages that sample from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustgen import models
from robustgen.errors import UserError
from robustgen.stages.compute import check_shape

if TYPE_CHECKING:
    from torch import nn

    from robustgen.data import ImageSet


def load_ebm(path: Path, device: str, arch: str | None, images: ImageSet, data: Path) -> nn.Module:
    """The energy-based model in `path`, in eval mode on `device`.

    Raises UserError where the file holds none, or one whose images are not shaped as `images`, which come from `data`.
    """
    from robustgen.protocols import EnergyModel

    ebm = models.load(path, device, arch)
    config: Any = ebm.config
    if not isinstance(ebm, EnergyModel):
        raise UserError(f"{path} holds a {config.arch}, which has no energy; give a model made by train-ebm")
    check_shape(config, images, data, f"the energy model in {path}", "train one on it")
    return ebm
