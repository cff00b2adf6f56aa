"""Small made data sets in the official raw layouts, and a guard that keeps the tests off the network."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import pickle
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustgen.data import registry, sources, transport


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, no mirror, no Debian package, and no network beyond this machine's loopback."""
    real = urllib.request.urlopen

    def urlopen(request: Any, *args: Any, **kwargs: Any) -> Any:
        url = request if isinstance(request, str) else request.full_url
        if not url.startswith("http://127.0.0.1:"):
            raise urllib.error.URLError("the tests have no network")
        return real(request, *args, **kwargs)

    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv(transport.MIRROR, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(sources, "DEBIAN", tmp_path / "no-debian")
    return work


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty mirror folder to which ROBUSTGEN_MIRROR points."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv(transport.MIRROR, str(folder))
    return folder


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def grey(random: np.random.Generator, n: int) -> np.ndarray:
    return random.integers(0, 256, (n, 28, 28), dtype=np.uint8)


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the pinned checksums: made files cannot have them."""
    for name, known in list(registry.DATASETS.items()):
        monkeypatch.setitem(registry.DATASETS, name, dataclasses.replace(known, pins={}))


@pytest.fixture
def make_idx(random: np.random.Generator) -> Callable[..., dict[str, np.ndarray]]:
    """make(root, "MNIST", packed=False): the four IDX files below `root`; returns the images by part."""

    def make(root: Path, folder: str = "MNIST", n: int = 20, packed: bool = False) -> dict[str, np.ndarray]:
        raw = root / folder / "raw"
        raw.mkdir(parents=True)
        images = {}
        for part, prefix in (("train", "train"), ("test", "t10k")):
            images[part] = grey(random, n)
            labels = np.arange(n, dtype=np.uint8) % 10
            head = np.array([0x803, n, 28, 28], dtype=">u4").tobytes(), np.array([0x801, n], dtype=">u4").tobytes()
            for kind, data in (
                ("images-idx3", head[0] + images[part].tobytes()),
                ("labels-idx1", head[1] + labels.tobytes()),
            ):
                file = raw / f"{prefix}-{kind}-ubyte"
                if packed:
                    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(data, mtime=0))
                else:
                    file.write_bytes(data)
        return images

    return make


@pytest.fixture
def make_cifar100(random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, np.ndarray]]:
    """make(root): CIFAR-100's three pickles, whose MD5 sums torchvision is told to expect."""
    from torchvision.datasets import CIFAR100

    def make(root: Path) -> dict[str, np.ndarray]:
        base = root / "cifar-100-python"
        base.mkdir(parents=True)
        images, sums = {}, {}
        for part in ("train", "test"):
            images[part] = random.integers(0, 256, (200, 3, 32, 32), dtype=np.uint8)
            batch = {"data": images[part].reshape(200, -1), "fine_labels": [k % 100 for k in range(200)]}
            (base / part).write_bytes(pickle.dumps(batch))
        (base / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {k}" for k in range(100)]}))
        for name in ("train", "test", "meta"):
            sums[name] = hashlib.md5((base / name).read_bytes()).hexdigest()
        monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
        monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
        monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})
        return images

    return make


@pytest.fixture
def make_svhn(random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, np.ndarray]]:
    """make(root): SVHN's two .mat files (H, W, C, N; label 10 means zero), expected by torchvision."""
    import scipy.io
    from torchvision.datasets import SVHN

    def make(root: Path) -> dict[str, np.ndarray]:
        images, listed = {}, dict(SVHN.split_list)
        for part in ("train", "test"):
            images[part] = random.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
            file = root / f"{part}_32x32.mat"
            labels = (np.arange(40) % 10 + 1).astype(np.uint8)[:, None]
            scipy.io.savemat(file, {"X": images[part].transpose(2, 3, 1, 0), "y": labels})
            listed[part] = [*listed[part][:2], hashlib.md5(file.read_bytes()).hexdigest()]
        monkeypatch.setattr(SVHN, "split_list", listed)
        return images

    return make


def picture(file: Path, shade: int, size: tuple[int, int] = (32, 32)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 0, 255 - shade)).save(file)


@pytest.fixture
def save_picture() -> Callable[..., None]:
    """save(file, shade, (width, height)): one picture of a single colour (shade, 0, 255 - shade)."""
    return picture


@pytest.fixture
def make_gtsrb() -> Callable[..., None]:
    """make(root, official=True): two classes (3 and 7), six tracks each, five frames a track, sizes varying.

    official names are track_frame; the others are running numbers, ten neighbours alike.
    """

    def make(root: Path, official: bool = True) -> None:
        base, count = root / "gtsrb" / "GTSRB", 0
        for label in (3, 7):
            for frame in range(60):
                name = f"{frame // 5:05d}_{frame % 5:05d}.ppm" if official else f"{count:06d}.ppm"
                picture(base / "Training" / f"{label:05d}" / name, frame, (30 + frame % 9, 28 + frame % 4))
                count += 1
        rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
        for number in range(10):
            picture(base / "Final_Test" / "Images" / f"{number:05d}.ppm", number, (40, 35))
            rows.append(f"{number:05d}.ppm;40;35;0;0;40;35;{7 if number % 2 else 3}")
        (root / "gtsrb" / "GT-final_test.csv").write_text("\n".join(rows) + "\n")

    return make


@pytest.fixture
def make_imagenette() -> Callable[..., None]:
    """make(root, variant): two of the ten classes, pictures wider than high."""

    def make(root: Path, variant: str = "imagenette2-160") -> None:
        for part in ("train", "val"):
            for shade, wnid in ((10, "n01440764"), (200, "n03888257")):
                for number in range(12):
                    picture(root / variant / part / wnid / f"{number:05d}.JPEG", shade, (60, 40))

    return make


@pytest.fixture
def make_imagenet() -> Callable[..., None]:
    """make(root, name): first and last folder of each of the nine classes, class k of shade 20k, and three others."""

    def make(root: Path, name: str = "imagenet") -> None:
        shades = {wnid: 20 * k for k, ids in enumerate(registry.CLASSES_RESTRICTED_IMAGENET.values()) for wnid in ids}
        others = {"n01440764": 250, "n02114367": 250, "n15075141": 250}  # tench, timber wolf, the last of all
        for part, count in (("train", 3), ("val", 2)):
            for wnid, shade in (shades | others).items():
                for number in range(count):
                    picture(root / name / part / wnid / f"{wnid}_{number}.JPEG", shade, (60, 40))

    return make


GERMAN = (1, 2, 3, 4, 9, 12, 13, 14, 17, 25, 38)  # the GTSRB classes of the made SuperTraffic-10


def table(file: Path, rows: list[tuple[str, tuple[int, int], int]]) -> None:
    """A table of GTSRB or BTS with a row (name, (width, height), class) per frame."""
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    lines += [f"{name};{w};{h};5;5;{w - 5};{h - 5};{number}" for name, (w, h), number in rows]
    file.write_text("\n".join(lines) + "\n")


def frames(folder: Path, number: int, tracks: int, sizes: list[tuple[int, int]], shade: int) -> None:
    """A class folder as GTSRB and BTS have them: `tracks` physical signs, each in frames of the given sizes."""
    named = [(f"{t:05d}_{f:05d}.ppm", size, number) for t in range(tracks) for f, size in enumerate(sizes)]
    for name, size, _ in named:
        picture(folder / f"{number:05d}" / name, shade, size)
    table(folder / f"{number:05d}" / f"GT-{number:05d}.csv", named)


def photos(root: Path, part: str, boxes: list[tuple[str, list[float], bool]]) -> None:
    """DFG's part: one photo of 200x100 pixels, grey level 40, with (code, COCO box, ignore) annotations."""
    picture(root / "JPEGImages" / f"{part}.png", 40, (200, 100))
    codes = sorted({code for code, _, _ in boxes})
    found = {
        "images": [{"id": 7, "file_name": f"{part}.png", "width": 200, "height": 100}],
        "categories": [{"id": number, "name": code, "supercategory": "sign"} for number, code in enumerate(codes)],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": codes.index(code), "bbox": box, "ignore": ignore}
            for number, (code, box, ignore) in enumerate(boxes)
        ],
    }
    file = root / "DFG-tsd-annot-json" / f"{part}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found))


@pytest.fixture
def make_supertraffic() -> Callable[..., None]:
    """make(root): the raw layouts of GTSRB, BTS and DFG, small.

    GTSRB: eleven classes of four tracks, three frames each of which the first is 31 pixels wide, shade 10 times the
    class's place; two test frames a class. The last class has one track less. BTS: yield (00019) and a sign of its
    own (00045). DFG: two yields, one ignored, and a sign of its own.
    """

    def make(root: Path) -> None:
        german, belgian = root / "gtsrb" / "GTSRB", root / "BelgiumTSC"
        rows = []
        for place, number in enumerate(GERMAN):
            sizes = [(31, 40), (32, 32), (50, 45)]
            frames(german / "Final_Training" / "Images", number, 3 if number == 38 else 4, sizes, 10 * place)
            for copy in range(2):
                name = f"{2 * place + copy:05d}.ppm"
                picture(german / "Final_Test" / "Images" / name, 10 * place, (40, 35))
                rows.append((name, (40, 35), number))
        table(root / "gtsrb" / "GT-final_test.csv", rows)
        for part in ("Training", "Testing"):
            frames(belgian / part, 19, 2, [(90, 80)], 200)
            frames(belgian / part, 45, 1, [(90, 80)], 220)
            boxes = [("II-1", [50.0, 20.0, 60.0, 50.0], False), ("II-1", [0.0, 0.0, 40.0, 40.0], True)]
            photos(
                root / "DFG", {"Training": "train", "Testing": "test"}[part], [*boxes, ("III-6", [5, 5, 9, 9], False)]
            )

    return make
