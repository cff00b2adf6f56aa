"""From a folder of raw files to labelled parts. Pixels of image files are decoded later, and only those wanted."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from robustgen.data import registry, supertraffic
from robustgen.data.parts import Part, Source
from robustgen.errors import UserError

RUN = 10  # frames that count as one track where file names do not tell: the share of a 30-frame track in every third
_TRACK = re.compile(r"(\d{5})_\d{5}")  # GTSRB's names: track_frame


Read = tuple[dict[str, Part], tuple[str, ...]]


def read(name: str, root: Path, size: int | None, origin: str) -> Source:
    """Read set `name` from the torchvision layout below `root`. Raises UserError where the files cannot be read.

    torchvision compares the batches of CIFAR with their MD5 sums before it unpickles any of them.
    """
    reader = _READERS[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CIFAR's old pickles make numpy warn
            parts, classes = reader(root, size)
    except UserError:
        raise
    except Exception as error:  # whatever a decoder says about a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")
        raise UserError(f"{origin}: the raw files of {name} cannot be read ({reason}); replace them") from error
    return Source(parts=parts, classes=classes, origin=origin)


def read_digits() -> Source:
    """scikit-learn's 1,797 digits: (N, 1, 8, 8), its grey levels 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    part = Part(images=images, labels=digits.target.astype(np.int64))
    return Source(parts={"train": part}, classes=registry.CLASSES_DIGITS, origin="scikit-learn")


def read_folder(root: Path) -> Source:
    """A user's image folders: class folders below `train` and one or both of `val` and `test`, or class folders alone.

    Of `val` and `test` a single one is the test part; where both exist, `val` is the validation part. Raises UserError
    for folders of another layout, and for the first file that is no image.
    """
    if not root.is_dir():
        raise UserError(f"no image folder {root}; give --root a folder of class folders, or of train and test folders")
    names = {"train": root} if not (root / "train").is_dir() else {"train": root / "train"}
    held = [each for each in ("test", "val") if (root / each).is_dir()] if "train" in _subfolders(root) else []
    names |= dict(zip(("test", "validation"), (root / each for each in held), strict=False))
    classes = tuple(_subfolders(names["train"]))
    if len(classes) < 2:
        raise UserError(f"{names['train']} holds {len(classes)} class folder(s); at least two are needed")
    labels = {each: number for number, each in enumerate(classes)}
    parts = {part: _image_folder(folder, labels) for part, folder in names.items()}
    for part in parts.values():
        for file in part.images:
            _check_file(Path(file))
    return Source(parts=parts, classes=classes, origin=str(root))


def _check_file(file: Path) -> None:
    """Raise UserError for a file that is no image, as far as is told without decoding its pixels."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} is not a readable image ({error}); replace or remove it") from error


def _subfolders(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir() if each.is_dir())


def _image_folder(folder: Path, labels: Mapping[str, int]) -> Part:
    """The files below class folders, labelled by `labels[folder name]`."""
    from torchvision.datasets import ImageFolder

    try:
        samples = [Path(path) for path, _ in ImageFolder(str(folder)).samples]
    except FileNotFoundError as error:
        raise UserError(f"{folder}: {' '.join(str(error).split())}; every class folder needs images") from error
    found = [path.relative_to(folder).parts[0] for path in samples]
    strange = sorted(set(found) - set(labels))
    if strange:
        raise UserError(
            f"{folder} has class folders that are not expected: {', '.join(strange)}; rename or remove them"
        )
    return Part(images=tuple(samples), labels=np.array([labels[each] for each in found], dtype=np.int64))


def _idx(root: Path, folder: str, classes: tuple[str, ...]) -> Read:
    """MNIST's four IDX files."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        raw = root / folder / "raw"
        images = read_image_file(str(raw / f"{prefix}-images-idx3-ubyte")).numpy()[:, None]
        labels = read_label_file(str(raw / f"{prefix}-labels-idx1-ubyte")).numpy()
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} {part} images but {len(labels)} labels")
        parts[part] = Part(images=images, labels=labels)
    return parts, classes


def _cifar(root: Path, name: str) -> Read:
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    parts, classes = {}, ()
    for part in ("train", "test"):
        data = kind(str(root), train=part == "train")
        images = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))
        parts[part] = Part(images=images, labels=np.array(data.targets, dtype=np.int64))
        classes = tuple(data.classes)
    return parts, classes


def _svhn(root: Path) -> Read:
    from torchvision.datasets import SVHN

    parts = {}
    for part in ("train", "test"):
        data = SVHN(str(root), split=part)
        parts[part] = Part(images=np.ascontiguousarray(data.data), labels=data.labels)
    return parts, registry.CLASSES_DIGITS


def _gtsrb(root: Path) -> Read:
    """Training frames in folders named by class number, test frames in one folder with a table of classes."""
    base = root / "gtsrb" / "GTSRB"
    train = _image_folder(base / "Training", {f"{number:05d}": number for number in range(43)})
    with (root / "gtsrb" / "GT-final_test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";", skipinitialspace=True))
    files = tuple(base / "Final_Test" / "Images" / row["Filename"] for row in rows)
    test = Part(images=files, labels=np.array([int(row["ClassId"]) for row in rows], dtype=np.int64))
    grouped = Part(
        images=train.images, labels=train.labels, groups=_tracks([Path(p) for p in train.images], train.labels)
    )
    return {"train": grouped, "test": test}, registry.CLASSES_GTSRB


def _tracks(files: list[Path], labels: np.ndarray) -> np.ndarray:
    """Number (N,) of each frame's track: by file name where it tells, else runs of neighbours within the class.

    `files` are sorted by name within each class.
    """
    keys: list[tuple[int, str]] = []
    seen: dict[int, int] = {}
    for file, label in zip(files, labels.tolist(), strict=True):
        rank = seen.get(label, 0)
        seen[label] = rank + 1
        named = _TRACK.fullmatch(file.stem)
        keys.append((label, f"track {named[1]}" if named else f"run {rank // RUN}"))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _imagenette(root: Path, size: int | None) -> Read:
    paths = registry.raw_paths("imagenette", root, size)
    assert paths is not None  # the caller has looked
    labels = {wnid: number for number, wnid in enumerate(sorted(registry.CLASSES_IMAGENETTE))}
    parts = {part: _image_folder(path, labels) for part, path in zip(("train", "test"), paths, strict=True)}
    return parts, tuple(registry.CLASSES_IMAGENETTE[wnid] for wnid in labels)


def _restricted_imagenet(root: Path, size: int | None) -> Read:
    """Folders of ImageNet that belong to one of the nine classes; others are not looked into."""
    paths = registry.raw_paths("restricted-imagenet", root, size)
    assert paths is not None  # the caller has looked
    parts = {part: _grouped(path) for part, path in zip(("train", "test"), paths, strict=True)}
    return parts, tuple(registry.CLASSES_RESTRICTED_IMAGENET)


def _grouped(folder: Path) -> Part:
    """The files below folders named by WordNet id, labelled by the class in whose range the id lies."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    ranges = registry.CLASSES_RESTRICTED_IMAGENET
    names = _subfolders(folder)
    found = {
        each: label
        for label, (first, last) in enumerate(ranges.values())
        for each in names
        if len(each) == len(first) and first <= each <= last
    }
    absent = [name for label, name in enumerate(ranges) if label not in found.values()]
    if absent:
        raise UserError(f"{folder} has no folder for {', '.join(absent)}; unpack ImageNet with a folder per WordNet id")
    try:
        samples = make_dataset(str(folder), found, extensions=IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: {' '.join(str(error).split())}; every class folder needs images") from error
    labels = np.array([label for _, label in samples], dtype=np.int64)
    return Part(images=tuple(Path(path) for path, _ in samples), labels=labels)


_READERS: dict[str, Callable[[Path, int | None], Read]] = {
    "mnist": lambda root, _: _idx(root, "MNIST", registry.CLASSES_DIGITS),
    "fashion-mnist": lambda root, _: _idx(root, "FashionMNIST", registry.CLASSES_FASHION),
    "cifar10": lambda root, _: _cifar(root, "cifar10"),
    "cifar100": lambda root, _: _cifar(root, "cifar100"),
    "svhn": lambda root, _: _svhn(root),
    "gtsrb": lambda root, _: _gtsrb(root),
    "imagenette": _imagenette,
    "restricted-imagenet": _restricted_imagenet,
    "supertraffic10": lambda root, _: supertraffic.read(root),
}
