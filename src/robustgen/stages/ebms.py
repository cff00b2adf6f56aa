"""Loading energy-based models for the stages that sample from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustgen import models
from robustgen.errors import UserError

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
    found, wanted = (
        "{}x{}x{}".format(*shape) for shape in (images.images.shape[1:], (config.channels, config.size, config.size))
    )
    if found != wanted:
        raise UserError(f"{data}: images are {found} where the energy model in {path} needs {wanted}; train one on it")
    return ebm
