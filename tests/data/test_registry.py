from __future__ import annotations

import re
from pathlib import Path

import pytest

from robustgen.data import registry
from robustgen.errors import UserError


def test_every_pin_is_a_sha256_of_a_part() -> None:
    for known in registry.DATASETS.values():
        for part, sums in known.pins.items():
            assert part in ("train", "test")
            assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in sums)


def test_class_names_agree_with_class_counts() -> None:
    assert len(registry.CLASSES_GTSRB) == registry.dataset("gtsrb").num_classes
    assert len(registry.CLASSES_FASHION) == registry.dataset("fashion-mnist").num_classes
    assert len(registry.CLASSES_IMAGENETTE) == registry.dataset("imagenette").num_classes


def test_class_names_agree_with_torchvision() -> None:
    from torchvision.datasets import FashionMNIST, Imagenette

    assert list(registry.CLASSES_FASHION) == FashionMNIST.classes
    assert {k: v[0] for k, v in Imagenette._WNID_TO_CLASS.items()} == registry.CLASSES_IMAGENETTE


def test_restricted_imagenet_has_disjoint_ranges_in_the_published_order() -> None:
    ranges = registry.CLASSES_RESTRICTED_IMAGENET
    assert len(ranges) == registry.dataset("restricted-imagenet").num_classes
    assert list(ranges)[:3] == ["dog", "cat", "frog"]
    bounds = [each for pair in sorted(ranges.values()) for each in pair]
    assert bounds == sorted(set(bounds))
    assert all(re.fullmatch(r"n\d{8}", each) for each in bounds)


def test_restricted_imagenet_comes_from_its_own_folder_first(tmp_path: Path) -> None:
    for name in ("imagenet", "restricted-imagenet"):
        for part in ("train", "val"):
            (tmp_path / name / part).mkdir(parents=True)
        found = registry.raw_paths("restricted-imagenet", tmp_path, 224)
        assert found == (tmp_path / name / "train", tmp_path / name / "val")


def test_unknown_name_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"'mnits'; did you mean mnist\? known: digits, mnist"):
        registry.dataset("mnits")


@pytest.mark.parametrize(
    ("size", "variant"),
    [
        (64, "imagenette2-160"),
        (160, "imagenette2-160"),
        (224, "imagenette2-320"),
        (500, "imagenette2"),
        (None, "imagenette2"),
    ],
)
def test_imagenette_variant_is_the_smallest_that_suffices(size: int | None, variant: str) -> None:
    assert registry.imagenette_variant(size) == variant
    assert registry.archive_paths("imagenette", size) == (f"{variant}.tgz",)


@pytest.mark.parametrize(
    ("size", "variant"),
    [(32, "imagenette2-64"), (64, "imagenette2-64"), (65, "imagenette2-320"), (400, "imagenette2-320")],
)
def test_raw_paths_choose_among_the_variants_present(tmp_path: Path, size: int, variant: str) -> None:
    for each in ("imagenette2-64", "imagenette2-320"):
        for part in ("train", "val"):
            (tmp_path / each / part).mkdir(parents=True)
    paths = registry.raw_paths("imagenette", tmp_path, size)
    assert paths == (tmp_path / variant / "train", tmp_path / variant / "val")


def test_raw_paths_want_a_complete_copy(tmp_path: Path) -> None:
    (tmp_path / "train_32x32.mat").touch()
    assert registry.raw_paths("svhn", tmp_path) is None
    (tmp_path / "test_32x32.mat").touch()
    assert registry.raw_paths("svhn", tmp_path) == (tmp_path / "train_32x32.mat", tmp_path / "test_32x32.mat")
    assert registry.raw_paths("digits", tmp_path) is None
