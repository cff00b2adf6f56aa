"""Train a classifier, naturally or adversarially, anew or from another; write its best validation epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from robustgen import models
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.io import existing, save_csv
from robustgen.options import recorded
from robustgen.stages.compute import Compute, check_data, chosen, identity, prepare, sources
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Epoch, Images, Recipe, train_classifier

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M")
SOURCES = (
    "training.classifier",
    "attacks.ascent",
    "attacks.ball",
    "seeding",
)  # and the network's: what a checkpoint belongs to


@dataclass(frozen=True, kw_only=True)
class Options(Compute, Generic[M]):
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # model to write, safetensors
    curve: Path  # training curve to write, CSV: loss, clean and robust validation accuracy per epoch
    init: Path | None = None  # classifier of the same options whose weights training goes on from; none: drawn anew
    init_arch: str | None = None  # architecture of that classifier; the one that its file names
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
    network = models.build(options.model)
    check_data(network, train, options.data)
    build = builder(options)
    files = [options.data] if options.init is None else [options.data, options.init]
    checkpoint = Checkpoint(identity(options, files, [*SOURCES, *sources(network)]))
    model, curve = train_classifier(
        build,
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


def builder(options: Options[Any]) -> Callable[[], nn.Module]:
    """What makes the network that training starts with; UserError where `init` holds one of other options."""
    if options.init is None:
        return lambda: models.build(options.model)
    model: Any = models.load(existing(options.init, "classifier"), arch=options.init_arch)
    holds = models.differing(model.config, options.model)
    if holds:
        raise UserError(
            f"{options.init} holds a classifier of {holds}, unlike the one to train, which goes on from its weights: "
            "give model its options, or leave init out"
        )
    return lambda: model
