"""Train a classifier that is an energy-based model too: JEM or IGEBM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from robustgen import models
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.io import save_csv
from robustgen.stages.compute import Compute, check_data, chosen, identity, prepare
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Images
from robustgen.training.joint import Recipe, Window, train_joint

M = TypeVar("M")
SOURCES = (
    "training.joint",
    "training.classifier",
    "sampling.langevin",
    "seeding",
    "models.wide_resnet",
)  # and the network's: what a checkpoint belongs to
ARCHITECTURES = ("igebm", "jem")


@dataclass(frozen=True, kw_only=True)
class Options(Compute, Generic[M]):
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # model to write, safetensors
    curve: Path  # training curve to write, CSV: loss, its parts and validation accuracy
    model: M  # the network: --model.arch chooses which options it has
    recipe: Recipe  # how it is trained
    monitor_images: int = 256  # validation images that are classified for every row of the curve


def options_type(args: Sequence[str]) -> type[Options[object]]:
    """The options of the architecture that `args` name; UserError where it cannot be trained here."""
    arch = chosen(args, "--model.arch", "jem")
    config: type[object] = models.config_type(arch)
    if arch not in ARCHITECTURES:
        raise UserError(f"train-joint trains {' and '.join(ARCHITECTURES)}, not {arch}; set --model.arch")
    return Options[config]  # type: ignore[valid-type]


def run(options: Options[Any]) -> None:
    device = prepare(options)
    train = load_split(options.data, "train")
    validation = load_split(options.data, "validation", limit=options.monitor_images)
    check_data(models.build(options.model), train, options.data)
    checkpoint = Checkpoint(identity(options, [options.data], [*SOURCES, f"models.{options.model.arch}"]))
    model, curve = train_joint(
        lambda: models.build(options.model),
        Images(train.images, train.labels),
        Images(validation.images, validation.labels),
        options.recipe,
        device=device,
        checkpoint=checkpoint,
        label=options.out.stem,
    )
    save_csv(options.curve, [field.name for field in fields(Window)], map(astuple, curve))
    models.save(options.out, model, classes=list(train.classes), training=asdict(options.recipe))
    checkpoint.clear()
