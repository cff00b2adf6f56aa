"""Train one detector a class against its own adversary (GAT), from scratch or from a classifier; write all as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from robustgen import models
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.io import existing, save_csv
from robustgen.options import recorded
from robustgen.stages.compute import Compute, check_data, check_shape, chosen, identity, prepare
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Images
from robustgen.training.gat import Check, Recipe, train_detectors

if TYPE_CHECKING:
    from robustgen.data import ImageSet
    from robustgen.models.detectors import Detectors

M = TypeVar("M")
SOURCES = (
    "training.gat",
    "training.classifier",
    "training.passes",
    "adam",
    "attacks.first_order",
    "attacks.ball",
    "models.detectors",
    "models.grouped",
    "replicates",
    "seeding",
)  # and the network's: what a checkpoint belongs to


@dataclass(frozen=True, kw_only=True)
class Options(Compute, Generic[M]):
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # detectors to write, all in one safetensors file
    curve: Path  # training curve to write, CSV: loss and AUCs of each detector at each check
    # classifier to fine-tune: each detector starts as the subnetwork of its class' logit (App. A.2); none: from scratch
    init: Path | None = None
    init_arch: str | None = None  # architecture of that classifier; the one that its file names
    model: M  # network of one detector, classes 1: --model.arch chooses which options it has
    classes: tuple[int, ...] = ()  # labels of the classes whose detectors are trained; none: all
    recipe: Recipe  # how they are trained
    monitor_images: int = 256  # validation images that are attacked at each check


def options_type(args: Sequence[str]) -> type[Options[object]]:
    """The options of the architecture that `args` name."""
    config: type[object] = models.config_type(chosen(args, "--model.arch", "madry_cnn"))
    return Options[config]  # type: ignore[valid-type]


def run(options: Options[Any]) -> None:
    device = prepare(options)
    train = load_split(options.data, "train")
    validation = load_split(options.data, "validation", limit=options.monitor_images)
    detectors = beginning(options, train)
    files = [options.data] if options.init is None else [options.data, options.init]
    checkpoint = Checkpoint(identity(options, files, [*SOURCES, f"models.{options.model.arch}"]))
    detectors, curve = train_detectors(
        detectors,
        Images(train.images, train.labels),
        Images(validation.images, validation.labels),
        options.recipe,
        device=device,
        checkpoint=checkpoint,
        label=options.out.stem,
    )
    save_csv(options.curve, [field.name for field in fields(Check)], map(astuple, curve))
    models.save(options.out, detectors, classes=list(train.classes), training=recorded(options.recipe))
    checkpoint.clear()


def beginning(options: Options[Any], train: ImageSet) -> Detectors:
    """The detectors that training starts from; UserError where the options do not fit each other or the data."""
    if getattr(options.model, "classes", None) != 1:
        raise UserError("a detector is a network with a single output; set --model.classes 1")
    check_shape(options.model, train, options.data, "a detector")
    labels = labels_of(options.classes, train.num_classes)
    if options.init is None:
        return fresh(options, labels, train.num_classes)
    return subnetworks(options, options.init, labels, train)


def labels_of(chosen_classes: Sequence[int], count: int) -> tuple[int, ...]:
    """The labels to train, ascending; UserError for one that the data's `count` classes do not have, or twice."""
    unknown = [label for label in chosen_classes if not 0 <= label < count]
    if unknown:
        raise UserError(f"no class {', '.join(map(str, unknown))}; the data's labels are 0 to {count - 1}")
    if len(set(chosen_classes)) < len(chosen_classes):
        raise UserError(f"classes names a label twice: {' '.join(map(str, chosen_classes))}")
    return tuple(sorted(chosen_classes)) or tuple(range(count))


def fresh(options: Options[Any], labels: Sequence[int], count: int) -> Detectors:
    """Newly drawn detectors; the draw is named by (seed, class), so that it does not depend on the others."""
    import torch

    from robustgen.models.detectors import Detectors
    from robustgen.seeding import derive

    members = []
    for label in labels:
        torch.manual_seed(derive(options.recipe.seed, "init", label))
        members.append(models.build(options.model))
    return Detectors.of(members, labels, count)


def subnetworks(options: Options[Any], path: Path, labels: Sequence[int], train: ImageSet) -> Detectors:
    """For each label the part of the classifier in `path` that computes its logit."""
    from robustgen.models.detectors import from_classifier

    classifier = models.load(existing(path, "classifier"), arch=options.init_arch)
    check_data(classifier, train, options.data)
    held: Any = classifier.config
    holds = models.differing(replace(held, classes=1), options.model)
    if holds:
        raise UserError(
            f"{path} holds a classifier of {holds}, unlike the detectors; a detector starts as a part of it: "
            "give model the classifier's options, with classes 1"
        )
    return from_classifier(classifier, labels, train.num_classes)
