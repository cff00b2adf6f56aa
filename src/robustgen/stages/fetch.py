"""`robustgen fetch`: the one door through which images enter the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustgen.data import pixels, sources, splits
from robustgen.data.registry import DATASETS, FOLDER
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.progress import log


def shorthand(args: Sequence[str]) -> list[str]:
    """`robustgen fetch NAME` for people: the same as `--name NAME --out data/images/NAME.npz`."""
    if not args or args[0].startswith("-"):
        return list(args)
    given = any(arg == "--out" or arg.startswith("--out=") for arg in args)
    return ["--name", args[0], *([] if given else ["--out", f"data/images/{args[0]}.npz"]), *args[1:]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fetch a data set: find its raw images, verify them, divide them into train, validation and test."""

    out: Path
    """The npz file to write: uint8 NCHW images, labels and source positions of each split, class names."""
    name: str
    """The data set: digits, mnist, fashion-mnist, cifar10, cifar100, svhn, gtsrb, imagenette, restricted-imagenet,
    supertraffic10 (`robustgen datasets` lists them), or folder for images of your own."""
    root: Path | None = None
    """Only with --name folder: a folder of class folders, or of train and val or test folders of class folders."""
    size: int | None = None
    """Side in pixels after bilinear resizing; left out, images keep their size (supertraffic10: 32). gtsrb and both
    parts of ImageNet need it."""
    pad: int | None = None
    """Side in pixels after padding with zeros, image centred (MNIST: 28 to 32). Not together with --size."""
    crop: int | None = None
    """Side in pixels of the middle square that is kept, without resizing (imagenette: 150 of 160)."""
    validation: float = 0.1
    """Fraction of the training part set aside for choosing checkpoints and thresholds, stratified by class."""
    test: float | None = None
    """Fraction of all images set aside for testing; only for sets without an official test part (then 0.2)."""
    seed: int = 0
    """Fixes the splits and the order of images within them."""
    limit_train: int | None = None
    """Keep at most this many training images, stratified by class."""
    limit_validation: int | None = None
    """Keep at most this many validation images, stratified by class."""
    limit_test: int | None = None
    """Keep at most this many test images, stratified by class."""


def run(options: Options) -> None:
    """Write the data file `options.out`. Raises UserError where the images are not at hand or not as they should be."""
    _check(options)
    size = _side(options)
    source = sources.find(options.name, size, options.root)
    rows = splits.split(
        source.parts, validation=options.validation, test=options.test, seed=options.seed, classes=source.classes
    )
    crop = options.name == FOLDER or DATASETS[options.name].fit == "crop"
    limits = {"train": options.limit_train, "validation": options.limit_validation, "test": options.limit_test}
    arrays: dict[str, np.ndarray] = {"classes": np.array(source.classes)}
    for split, limit in limits.items():
        part, indices = source.parts[rows[split].part], rows[split].indices[:limit]
        label = f"{options.name} {split}"
        images = pixels.render(part, indices, size=size, pad=options.pad, crop=crop, label=label, centre=options.crop)
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, part.labels[indices]
        arrays[f"{split}_indices"] = indices.astype(np.int64)
    if len({arrays[f"{split}_images"].shape[1:] for split in limits}) > 1:
        raise UserError(f"the images of {options.name} differ in size between its parts; give --size PIXELS")
    save_arrays(options.out, arrays)
    counts = ", ".join(f"{len(arrays[f'{split}_labels'])} {split}" for split in limits)
    shape = "x".join(str(each) for each in arrays["train_images"].shape[1:])
    log(f"{options.name} from {source.origin}: {counts} images of {shape} -> {options.out}")


def _side(options: Options) -> int | None:
    """To which images are resized: as asked for, else as the set's paper does it; not where they are padded."""
    known = DATASETS.get(options.name)
    return known.side if known and options.size is None and options.pad is None else options.size


def _check(options: Options) -> None:
    """Refuse numbers that cannot be meant before anything is downloaded."""
    if options.size is not None and options.pad is not None:
        raise UserError("--size and --pad exclude each other; --size resizes the image, --pad puts zeros around it")
    for name in ("size", "pad", "crop", "limit_train", "limit_validation", "limit_test"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}; give a whole number above 0")
    if options.seed < 0:
        raise UserError(f"--seed is {options.seed}; give a whole number from 0 on")
    splits.check_fraction(options.validation, "--validation")
    if options.test is not None:
        splits.check_fraction(options.test, "--test")
    known = DATASETS.get(options.name)
    if known is not None and (known.sizes is None or known.sizes[1]) and options.test is not None:
        raise UserError(f"--test is for sets without an official test part; leave it out for {options.name}")
    if known is not None and known.shape is None and options.size is None:
        raise UserError(f"the images of {options.name} differ in size; give --size PIXELS (side after resizing)")
