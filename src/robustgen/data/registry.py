"""What is known about each data set: its shape, its classes, the files of its raw layout and its checksums.

Raw layouts are torchvision's: paths below are relative to the folder that torchvision calls `root`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from robustgen.errors import UserError

FOLDER = "folder"  # the name under which a user's own image folders are fetched
TEST_FRACTION = 0.2  # where a source has no test part of its own

CLASSES_DIGITS = tuple("0123456789")
CLASSES_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CLASSES_GTSRB = (
    "speed limit 20", "speed limit 30", "speed limit 50", "speed limit 60", "speed limit 70", "speed limit 80",
    "end of speed limit 80", "speed limit 100", "speed limit 120", "no passing", "no passing for trucks",
    "priority at next intersection", "priority road", "yield", "stop", "no vehicles", "no trucks", "no entry",
    "danger", "curve left", "curve right", "double curve", "bumpy road", "slippery road", "road narrows",
    "road work", "traffic signals", "pedestrians", "children", "bicycles", "snow", "wild animals",
    "end of restrictions", "turn right", "turn left", "ahead only", "ahead or right", "ahead or left",
    "keep right", "keep left", "roundabout", "end of no passing", "end of no passing for trucks",
)  # fmt: skip
CLASSES_IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}

# The classes of Restricted ImageNet (Tsipras et al. 2019), in their order, each with its first and last WordNet id.
# ImageNet's classes are ordered by these ids: dogs are its classes 151 to 268, of 0 to 999.
CLASSES_RESTRICTED_IMAGENET = {
    "dog": ("n02085620", "n02113978"),
    "cat": ("n02123045", "n02124075"),
    "frog": ("n01641577", "n01644900"),
    "turtle": ("n01664065", "n01669191"),
    "bird": ("n01795545", "n01860187"),
    "primate": ("n02480495", "n02494079"),
    "fish": ("n02514041", "n02655020"),
    "crab": ("n01978287", "n01981276"),
    "insect": ("n02165105", "n02268443"),
}

# Imagenette's published variants and the length of the shorter image side, in pixels, smallest first.
# The last one keeps the original pictures. 64 is no official variant; a mirror may hold it.
IMAGENETTE_SIDES = {"imagenette2-64": 64, "imagenette2-160": 160, "imagenette2-320": 320, "imagenette2": 10**6}

_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """What people bring themselves. needed: in few words; how: what to get and where to put it, below the mirror."""

    needed: str
    how: str


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One known data set. `pins` maps a part to the SHA-256 of its decoded images (uint8 NCHW) and labels (uint8)."""

    name: str
    title: str
    num_classes: int
    shape: tuple[int, int, int] | None  # (C, H, W); None where the images' sizes vary
    sizes: tuple[int, int] | None  # images in the training and test part; test 0 where there is none; None: not known
    licence: str
    layout: tuple[str, ...] = ()  # files or folders that a complete raw copy has, unpacked
    archives: tuple[str, ...] = ()  # the published files, packed, where torchvision would put them
    fit: Literal["squash", "crop"] = "squash"  # how a frame that is not square becomes one
    side: int | None = None  # to which its paper resizes it, in pixels: where neither size nor pad is asked for
    by_hand: ByHand | None = None  # where there is no download
    pins: dict[str, tuple[str, str]] = field(default_factory=dict)


_ALL = (
    DataSet(
        name="digits",
        title="handwritten digits of scikit-learn (UCI)",
        num_classes=10,
        shape=(1, 8, 8),
        sizes=(1797, 0),
        licence="CC BY 4.0",
        pins={
            "train": (
                "b41ca9fd335466eee997366c2e6f6bbe0a1b4582afe091fc4eba35f4a254182f",
                "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
            )
        },
    ),
    DataSet(
        name="mnist",
        title="MNIST",
        num_classes=10,
        shape=(1, 28, 28),
        sizes=(60000, 10000),
        licence="CC BY-SA 3.0",
        layout=tuple(f"MNIST/raw/{name}" for name in _IDX),
        archives=tuple(f"MNIST/raw/{name}.gz" for name in _IDX),
        pins={
            "train": (
                "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
                "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            ),
            "test": (
                "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
                "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
            ),
        },
    ),
    DataSet(
        name="fashion-mnist",
        title="Fashion-MNIST",
        num_classes=10,
        shape=(1, 28, 28),
        sizes=(60000, 10000),
        licence="MIT",
        layout=tuple(f"FashionMNIST/raw/{name}" for name in _IDX),
        archives=tuple(f"FashionMNIST/raw/{name}.gz" for name in _IDX),
        pins={
            "train": (
                "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
                "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            ),
            "test": (
                "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
                "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
            ),
        },
    ),
    DataSet(
        name="cifar10",
        title="CIFAR-10",
        num_classes=10,
        shape=(3, 32, 32),
        sizes=(50000, 10000),
        licence="not stated",
        layout=tuple(
            f"cifar-10-batches-py/{name}"
            for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta")
        ),
        archives=("cifar-10-python.tar.gz",),
        pins={
            "train": (
                "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
                "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            ),
            "test": (
                "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
                "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
            ),
        },
    ),
    DataSet(
        name="cifar100",
        title="CIFAR-100",
        num_classes=100,
        shape=(3, 32, 32),
        sizes=(50000, 10000),
        licence="not stated",
        layout=("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"),
        archives=("cifar-100-python.tar.gz",),
    ),
    DataSet(
        name="svhn",
        title="Street View House Numbers, cropped",
        num_classes=10,
        shape=(3, 32, 32),
        sizes=(73257, 26032),
        licence="non-commercial use only",
        layout=("train_32x32.mat", "test_32x32.mat"),
        archives=("train_32x32.mat", "test_32x32.mat"),
    ),
    DataSet(
        name="gtsrb",
        title="German Traffic Sign Recognition Benchmark",
        num_classes=43,
        shape=None,
        sizes=(26640, 12630),
        licence="not stated",
        layout=("gtsrb/GTSRB/Training", "gtsrb/GTSRB/Final_Test/Images", "gtsrb/GT-final_test.csv"),
        archives=(
            "gtsrb/GTSRB-Training_fixed.zip",
            "gtsrb/GTSRB_Final_Test_Images.zip",
            "gtsrb/GTSRB_Final_Test_GT.zip",
        ),
    ),
    DataSet(
        name="imagenette",
        title="ten classes of ImageNet",
        num_classes=10,
        shape=None,
        sizes=(9469, 3925),
        licence="ImageNet's terms: non-commercial research",
        layout=("imagenette2-160/train", "imagenette2-160/val"),
        archives=("imagenette2-160.tgz",),
        fit="crop",
    ),
    DataSet(
        name="restricted-imagenet",
        title="nine groups of ImageNet's classes",
        num_classes=9,
        shape=None,
        sizes=(257748, 10150),
        licence="ImageNet's terms: non-commercial research",
        layout=("restricted-imagenet/train", "restricted-imagenet/val"),
        fit="crop",
        by_hand=ByHand(
            needed="your own copy of ImageNet",
            how="get ImageNet (ILSVRC 2012) from image-net.org, unpack it as imagenet/train/WNID/*.JPEG and "
            "imagenet/val/WNID/*.JPEG",
        ),
    ),
    DataSet(
        name="supertraffic10",
        title="SuperTraffic-10: the commonest signs of GTSRB, BTS and DFG",
        num_classes=10,
        shape=(3, 32, 32),
        sizes=None,
        licence="that of each of the three sets",
        layout=(
            "gtsrb/GTSRB/Final_Training/Images",
            "gtsrb/GTSRB/Final_Test/Images",
            "gtsrb/GT-final_test.csv",
            "BelgiumTSC/Training",
            "BelgiumTSC/Testing",
            "DFG/JPEGImages",
            "DFG/DFG-tsd-annot-json/train.json",
            "DFG/DFG-tsd-annot-json/test.json",
        ),
        side=32,
        by_hand=ByHand(
            needed="your own copies of GTSRB, BTS and DFG",
            how="get GTSRB (Final_Training, Final_Test and its GT), BTS (BelgiumTSC_Training, BelgiumTSC_Testing) and "
            "DFG (photos, annotations) from their authors, unpack them as gtsrb/GTSRB/Final_Training/Images/00000/*, "
            "gtsrb/GTSRB/Final_Test/Images/*.ppm, gtsrb/GT-final_test.csv, BelgiumTSC/Training/00000/*, "
            "BelgiumTSC/Testing/00000/*, DFG/JPEGImages/*.jpg and DFG/DFG-tsd-annot-json/{train,test}.json",
        ),
    ),
)

DATASETS: dict[str, DataSet] = {each.name: each for each in _ALL}


def dataset(name: str) -> DataSet:
    """The registered set `name`; UserError naming the known ones (and the nearest) for any other."""
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name, [*DATASETS, FOLDER], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"unknown data set {name!r}; {hint}known: {', '.join(DATASETS)}, and {FOLDER} with --root PATH")


def imagenette_variant(size: int | None) -> str:
    """The official Imagenette variant (folder name) to download for images of `size` pixels."""
    wanted = IMAGENETTE_SIDES["imagenette2"] if size is None else size
    official = [name for name in IMAGENETTE_SIDES if name != "imagenette2-64"]
    return next((name for name in official if IMAGENETTE_SIDES[name] >= wanted), official[-1])


def archive_paths(name: str, size: int | None = None) -> tuple[str, ...]:
    """The published files of set `name`, relative to a mirror's root; for Imagenette the variant fit for `size`."""
    if name == "imagenette":
        return (f"{imagenette_variant(size)}.tgz",)
    return dataset(name).archives


def raw_paths(name: str, root: Path, size: int | None = None) -> tuple[Path, ...] | None:
    """The files and folders of the complete raw copy of set `name` below `root`; None where one of them is missing.

    Of several Imagenette variants it is the smallest that need not be enlarged to `size`, else the largest.
    """
    layouts = [dataset(name).layout]
    if name == "imagenette":
        enough = [v for v, side in IMAGENETTE_SIDES.items() if size is not None and side >= size]
        others = [v for v in reversed(IMAGENETTE_SIDES) if v not in enough]
        layouts = [(f"{variant}/train", f"{variant}/val") for variant in enough + others]
    elif name == "restricted-imagenet":
        layouts.append(("imagenet/train", "imagenet/val"))  # the whole of ImageNet, of which it is a part
    for layout in layouts:
        paths = tuple(root / each for each in layout)
        if paths and all(path.exists() for path in paths):
            return paths
    return None
