"""Train a classifier, naturally or adversarially, and write its best validation epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from robustgen import models
from robustgen.data import load_split
from robustgen.io import save_csv
from robustgen.options import recorded
from robustgen.stages.compute import Compute, check_data, chosen, identity, prepare
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Epoch, Images, Recipe, train_classifier

M = TypeVar("M")
SOURCES = (
    "training.classifier",
    "attacks.base",
    "attacks.ball",
    "seeding",
)  # and the network's: what a checkpoint belongs to


@dataclass(frozen=True, kw_only=True)
class Options(Compute, Generic[M]):
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # model to write, safetensors
    curve: Path  # training curve to write, CSV: loss, clean and robust validation accuracy per epoch
    model: M  # the network: --model.arch chooses which options it has
    recipe: Recipe  # how it is trained
    monitor_images: int = 256  # validation images that are attacked after each epoch


def options_type(args: Sequence[str]) -> type[Options[object]]:
    """The options of the architecture that `args` name."""
    config: type[object] = models.config_type(chosen(args, "--model.arch", "resnet10"))
    return Options[config]  # type: ignore[valid-type]


def run(options: Options[Any]) -> None:
    device = prepare(options)
    train = load_split(options.data, "train")
    validation = load_split(options.data, "validation", limit=options.monitor_images)
    check_data(models.build(options.model), train, options.data)
    checkpoint = Checkpoint(identity(options, [options.data], [*SOURCES, f"models.{options.model.arch}"]))
    model, curve = train_classifier(
        lambda: models.build(options.model),
        Images(train.images, train.labels),
        Images(validation.images, validation.labels),
        options.recipe,
        device=device,
        checkpoint=checkpoint,
        label=options.out.stem,
    )
    save_csv(options.curve, [field.name for field in fields(Epoch)], map(astuple, curve))
    models.save(options.out, model, classes=list(train.classes), training=recorded(options.recipe))
    checkpoint.clear()
