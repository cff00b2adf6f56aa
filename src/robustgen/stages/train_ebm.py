"""Train an energy-based model by maximum likelihood with persistent Langevin chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from robustgen import models
from robustgen.data import load_split
from robustgen.io import save_csv
from robustgen.stages.compute import Compute, check_shape, chosen, identity, prepare
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.ebm import Recipe, Window, train_ebm
from robustgen.training.snapshots import save_snapshots

M = TypeVar("M")
# A change in these, or in the network, starts a training afresh.
SOURCES = ("training.ebm", "sampling.langevin", "seeding")


@dataclass(frozen=True, kw_only=True)
class Options(Compute, Generic[M]):
    data: Path  # images, as `robustgen fetch` writes them; labels are not used
    out: Path  # model to write, safetensors
    snapshots: Path  # models along the way to write, one safetensors file
    curve: Path  # training curve to write, CSV
    model: M  # the network: --model.arch chooses which options it has
    recipe: Recipe  # how it is trained


def options_type(args: Sequence[str]) -> type[Options[object]]:
    """The options of the architecture that `args` name."""
    config: type[object] = models.config_type(chosen(args, "--model.arch", "nijkamp"))
    return Options[config]  # type: ignore[valid-type]


def run(options: Options[Any]) -> None:
    device = prepare(options)
    train = load_split(options.data, "train")
    config = options.model
    models.build(config)  # an impossible network is the first thing to say
    check_shape(config, train, options.data)
    checkpoint = Checkpoint(identity(options, [options.data], [*SOURCES, f"models.{options.model.arch}"]))
    trained = train_ebm(
        lambda: models.build(config),
        train.images,
        options.recipe,
        device=device,
        checkpoint=checkpoint,
        label=options.out.stem,
    )
    save_csv(options.curve, [field.name for field in fields(Window)], map(astuple, trained.curve))
    save_snapshots(options.snapshots, config, trained.snapshots)
    models.save(options.out, trained.model, training=asdict(options.recipe))
    checkpoint.clear()
