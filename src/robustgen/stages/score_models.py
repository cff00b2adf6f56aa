"""Loading the models whose score purifies, for the stages that follow it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustgen import models
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.stages.compute import check_shape

if TYPE_CHECKING:
    from torch import nn

    from robustgen.data import ImageSet
    from robustgen.defenses.adp import Options


def load_score(path: Path, device: str, arch: str | None, images: ImageSet, data: Path) -> nn.Module:
    """The score network or energy-based model in `path`, in eval mode on `device`.

    Raises UserError where the file holds neither, or one whose images are not shaped as `images`, from `data`.
    """
    from robustgen.protocols import EnergyModel

    model = models.load(path, device, arch)
    config: Any = model.config
    if not (hasattr(model, "sigmas") or isinstance(model, EnergyModel)):
        raise UserError(
            f"{path} holds a {config.arch}, which has no score; give a model made by train-ncsn or train-ebm"
        )
    check_shape(config, images, data, f"the score model in {path}", "train one on it")
    return model


def resolved(options: Options, data: Path) -> Options:
    """The defence's options with σ: where unset, the median heuristic on the training images in `data`."""
    from robustgen.defenses.adp import sigma_of

    if options.sigma is not None:
        return options
    return replace(options, sigma=sigma_of(load_split(data, "train").images))
