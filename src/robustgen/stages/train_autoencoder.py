"""Train the encoders, decoders and discriminators of every class that E-ABS or ABS classifies with."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from robustgen import models
from robustgen.data import load_split
from robustgen.io import save_csv
from robustgen.models import aae
from robustgen.options import recorded
from robustgen.seeding import derive
from robustgen.stages.compute import Compute, check_data, identity, prepare, sources
from robustgen.training.aae import Check, Recipe, train_autoencoder
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Images

SOURCES = ("training.aae", "training.passes", "seeding")  # and the network's: what a checkpoint belongs to


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # networks of all classes to write, all in one safetensors file
    curve: Path  # training curve to write, CSV: losses, validation accuracy without inference, validation cost
    model: aae.Config  # the networks
    recipe: Recipe  # how they are trained
    monitor_images: int = 256  # validation images behind every row of the curve


def run(options: Options) -> None:
    device = prepare(options)
    train = load_split(options.data, "train")
    validation = load_split(options.data, "validation", limit=options.monitor_images)
    torch.manual_seed(derive(options.recipe.seed, "init"))
    start: Any = models.build(options.model)
    check_data(start, train, options.data)
    checkpoint = Checkpoint(identity(options, [options.data], [*SOURCES, *sources(start)]))
    model, curve = train_autoencoder(
        start,
        Images(train.images, train.labels),
        Images(validation.images, validation.labels),
        options.recipe,
        device=device,
        checkpoint=checkpoint,
        label=options.out.stem,
    )
    save_csv(options.curve, [field.name for field in fields(Check)], map(astuple, curve))
    models.save(options.out, model, classes=list(train.classes), training=recorded(options.recipe))
    checkpoint.clear()
