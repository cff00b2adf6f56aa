from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustgen.data import readers, registry
from robustgen.errors import UserError
from robustgen.io import load_arrays
from robustgen.stages import fetch

Make = Callable[..., dict[str, np.ndarray]]


def test_digits_spread_over_the_bytes() -> None:
    source = readers.read_digits()
    part = source.parts["train"]
    assert isinstance(part.images, np.ndarray)
    assert part.images.shape == (1797, 1, 8, 8)
    assert part.images.dtype == np.uint8
    assert (part.images.min(), part.images.max(), len(np.unique(part.images))) == (0, 255, 17)
    assert set(part.labels.tolist()) == set(range(10))


def test_idx_files(tmp_path: Path, make_idx: Make) -> None:
    made = make_idx(tmp_path)
    source = readers.read("mnist", tmp_path, None, "here")
    for part in ("train", "test"):
        np.testing.assert_array_equal(source.parts[part].images, made[part][:, None])
        np.testing.assert_array_equal(source.parts[part].labels, np.arange(20) % 10)
    assert source.classes == tuple("0123456789")


@pytest.mark.parametrize("cut", [0, 3, 200])
def test_truncated_idx_files_are_one_line(tmp_path: Path, make_idx: Make, cut: int) -> None:
    make_idx(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UserError, match="here: the raw files of mnist cannot be read") as raised:
        readers.read("mnist", tmp_path, None, "here")
    assert "\n" not in str(raised.value)


def test_idx_labels_must_match_the_images(tmp_path: Path, make_idx: Make) -> None:
    make_idx(tmp_path)
    make_idx(tmp_path / "other", n=10)
    short = tmp_path / "other" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    short.replace(tmp_path / "MNIST" / "raw" / short.name)
    with pytest.raises(UserError, match="20 test images but 10 labels"):
        readers.read("mnist", tmp_path, None, "here")


def test_cifar100_pickles(tmp_path: Path, make_cifar100: Make) -> None:
    made = make_cifar100(tmp_path)
    source = readers.read("cifar100", tmp_path, None, "here")
    np.testing.assert_array_equal(source.parts["train"].images, made["train"])
    np.testing.assert_array_equal(source.parts["test"].labels, np.arange(200) % 100)
    assert source.classes[99] == "class 99"


def test_svhn_mat_files(tmp_path: Path, make_svhn: Make) -> None:
    made = make_svhn(tmp_path)
    source = readers.read("svhn", tmp_path, None, "here")
    np.testing.assert_array_equal(source.parts["test"].images, made["test"])
    np.testing.assert_array_equal(source.parts["train"].labels, (np.arange(40) % 10 + 1) % 10)  # ten is zero


def test_damaged_svhn_is_refused_by_its_checksum(tmp_path: Path, make_svhn: Make) -> None:
    make_svhn(tmp_path)
    (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB 5.0 MAT-file, or so it says")
    with pytest.raises(UserError, match=r"svhn cannot be read .Dataset not found or corrupted"):
        readers.read("svhn", tmp_path, None, "here")


def test_gtsrb_labels_come_from_folder_names_and_the_table(tmp_path: Path, make_gtsrb: Callable[..., None]) -> None:
    make_gtsrb(tmp_path)
    source = readers.read("gtsrb", tmp_path, 32, "here")
    assert sorted(set(source.parts["train"].labels.tolist())) == [3, 7]
    assert source.parts["test"].labels.tolist() == [3, 7] * 5
    assert source.classes[14] == "stop"


@pytest.mark.parametrize(("official", "tracks", "frames"), [(True, 24, 5), (False, 12, 10)])
def test_gtsrb_tracks(
    tmp_path: Path, make_gtsrb: Callable[..., None], official: bool, tracks: int, frames: int
) -> None:
    make_gtsrb(tmp_path, official=official)
    part = readers.read("gtsrb", tmp_path, 32, "here").parts["train"]
    assert part.groups is not None
    numbers, counts = np.unique(part.groups, return_counts=True)
    assert len(numbers) == tracks
    assert set(counts.tolist()) == {frames}
    for number in numbers:  # a track is a run of neighbours of one class
        rows = np.flatnonzero(part.groups == number)
        assert rows[-1] - rows[0] == frames - 1
        assert len(set(part.labels[rows].tolist())) == 1


def test_imagenette_labels_are_those_of_all_ten_classes(tmp_path: Path, make_imagenette: Callable[..., None]) -> None:
    make_imagenette(tmp_path)
    source = readers.read("imagenette", tmp_path, 32, "here")
    assert set(source.parts["train"].labels.tolist()) == {0, 9}
    assert (source.classes[0], source.classes[9]) == ("tench", "parachute")


def test_imagenette_with_a_strange_class(
    tmp_path: Path, make_imagenette: Callable[..., None], save_picture: Callable[..., None]
) -> None:
    make_imagenette(tmp_path)
    save_picture(tmp_path / "imagenette2-160" / "val" / "n99999999" / "1.JPEG", 1)
    with pytest.raises(UserError, match="not expected: n99999999"):
        readers.read("imagenette", tmp_path, 32, "here")


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (["."], {"train"}),
        (["train", "val"], {"train", "test"}),
        (["train", "test"], {"train", "test"}),
        (["train", "val", "test"], {"train", "validation", "test"}),
    ],
)
def test_folder_layouts(tmp_path: Path, save_picture: Callable[..., None], folders: list[str], parts: set[str]) -> None:
    root = tmp_path / "own"
    for folder in folders:
        for number in range(3):
            save_picture(root / folder / "cat" / f"{number}.png", 1)
            save_picture(root / folder / "dog" / f"{number}.png", 2)
    source = readers.read_folder(root)
    assert set(source.parts) == parts
    assert source.classes == ("cat", "dog")
    assert all(part.labels.tolist() == [0, 0, 0, 1, 1, 1] for part in source.parts.values())


def test_folder_of_three_parts_keeps_them_apart(tmp_path: Path, save_picture: Callable[..., None]) -> None:
    for folder in ("train", "val", "test"):
        for name in ("cat", "dog"):
            save_picture(tmp_path / folder / name / "1.png", 1)
    parts = readers.read_folder(tmp_path).parts
    for part, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert all(folder in Path(file).parts for file in parts[part].images)


def test_folder_errors(tmp_path: Path, save_picture: Callable[..., None]) -> None:
    with pytest.raises(UserError, match="no image folder"):
        readers.read_folder(tmp_path / "nowhere")
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="holds 0 class folder"):
        readers.read_folder(tmp_path)
    for name in ("cat", "dog"):
        save_picture(tmp_path / "train" / name / "1.png", 1)
        save_picture(tmp_path / "test" / name / "1.png", 1)
    save_picture(tmp_path / "test" / "horse" / "1.png", 1)
    with pytest.raises(UserError, match="not expected: horse"):
        readers.read_folder(tmp_path)
    (tmp_path / "train" / "horse").mkdir()
    with pytest.raises(UserError, match="every class folder needs images"):
        readers.read_folder(tmp_path)


def test_restricted_imagenet_takes_the_folders_of_its_ranges(
    tmp_path: Path, make_imagenet: Callable[..., None]
) -> None:
    make_imagenet(tmp_path)
    source = readers.read("restricted-imagenet", tmp_path, 32, "here")
    assert source.classes == ("dog", "cat", "frog", "turtle", "bird", "primate", "fish", "crab", "insect")
    for part, count in (("train", 3), ("test", 2)):
        found = source.parts[part]
        assert np.bincount(found.labels).tolist() == [2 * count] * 9
        for path, label in zip(found.images, found.labels, strict=True):
            assert Path(path).parent.name in registry.CLASSES_RESTRICTED_IMAGENET[source.classes[label]]


def test_restricted_imagenet_is_cropped_to_size(
    mirror: Path, tmp_path: Path, make_imagenet: Callable[..., None]
) -> None:
    make_imagenet(mirror)
    options = {"name": "restricted-imagenet", "out": tmp_path / "r.npz", "limit_train": 18, "validation": 0.5}
    fetch.run(fetch.Options(**options, size=8))  # type: ignore[arg-type]
    arrays = load_arrays(tmp_path / "r.npz")
    assert arrays["train_images"].shape == (18, 3, 8, 8)
    assert np.bincount(arrays["train_labels"]).tolist() == [2] * 9
    shades = arrays["test_images"][:, 0].mean((1, 2))
    np.testing.assert_allclose(shades, 20 * arrays["test_labels"], atol=4)  # JPEG
    with pytest.raises(UserError, match="restricted-imagenet differ in size; give --size"):
        fetch.run(fetch.Options(**options))  # type: ignore[arg-type]


def test_restricted_imagenet_without_one_of_its_classes(tmp_path: Path, make_imagenet: Callable[..., None]) -> None:
    make_imagenet(tmp_path)
    for first, last in (registry.CLASSES_RESTRICTED_IMAGENET[name] for name in ("cat", "crab")):
        for wnid in (first, last):
            shutil.rmtree(tmp_path / "imagenet" / "val" / wnid)
    with pytest.raises(UserError, match="val has no folder for cat, crab; unpack ImageNet"):
        readers.read("restricted-imagenet", tmp_path, 32, "here")


def test_restricted_imagenet_with_an_empty_folder(tmp_path: Path, make_imagenet: Callable[..., None]) -> None:
    make_imagenet(tmp_path)
    for file in (tmp_path / "imagenet" / "train" / "n02085620").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"n02085620.*every class folder needs images"):
        readers.read("restricted-imagenet", tmp_path, 32, "here")
