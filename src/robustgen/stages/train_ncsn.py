"""Train a score network by denoising score matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from robustgen import models
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.io import save_csv
from robustgen.protocols import ScoreModel
from robustgen.stages.compute import Compute, check_shape, chosen, identity, prepare
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.dsm import Recipe, Window, level_losses, train_dsm

M = TypeVar("M")
# A change in these, or in the network, starts a training afresh.
SOURCES = ("training.dsm", "training.perturbations", "training.classifier", "seeding")
ARCHITECTURES = ("ncsnv2",)


@dataclass(frozen=True, kw_only=True)
class Options(Compute, Generic[M]):
    data: Path  # images, as `robustgen fetch` writes them; labels are not used
    out: Path  # model to write, safetensors
    curve: Path  # training curve to write, CSV: loss of training and validation images
    levels: Path  # loss per noise level to write, CSV; of the validation images, per pixel: 1 knows nothing, 0 all
    model: M  # the network: --model.arch chooses which options it has
    recipe: Recipe  # how it is trained
    validation_images: int = 256  # validation images behind every row of the curve and of the levels


def options_type(args: Sequence[str]) -> type[Options[object]]:
    """The options of the architecture that `args` name; UserError where it is no score network."""
    arch = chosen(args, "--model.arch", "ncsnv2")
    config: type[object] = models.config_type(arch)
    if arch not in ARCHITECTURES:
        raise UserError(f"train-ncsn trains {' and '.join(ARCHITECTURES)}, not {arch}; set --model.arch")
    return Options[config]  # type: ignore[valid-type]


def run(options: Options[Any]) -> None:
    device = prepare(options)
    train = load_split(options.data, "train")
    validation = load_split(options.data, "validation", limit=options.validation_images)
    config = options.model
    models.build(config)  # an impossible network is the first thing to say
    check_shape(config, train, options.data)
    checkpoint = Checkpoint(identity(options, [options.data], [*SOURCES, f"models.{config.arch}"]))
    model, curve = train_dsm(
        lambda: models.build(config),
        train.images,
        validation.images,
        options.recipe,
        device=device,
        checkpoint=checkpoint,
        label=options.out.stem,
    )
    save_csv(options.curve, [field.name for field in fields(Window)], map(astuple, curve))
    network = cast(ScoreModel, model)
    per_level = level_losses(network, validation.images, options.recipe.seed).tolist()
    rows = zip(range(1, len(per_level) + 1), network.sigmas.tolist(), per_level, strict=True)
    save_csv(options.levels, ("level", "sigma", "loss"), rows)
    models.save(options.out, model, training=asdict(options.recipe))
    checkpoint.clear()
