from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustgen.data import check_images, load_split
from robustgen.data.images import check_labels
from robustgen.errors import UserError
from robustgen.io import save_arrays


def contents(**changes: np.ndarray) -> dict[str, np.ndarray]:
    images = np.arange(6 * 12, dtype=np.uint8).reshape(6, 3, 2, 2)
    images[0, 0, 0, 0] = 255
    return {
        "test_images": images,
        "test_labels": np.arange(6) % 3,
        "test_indices": np.arange(6) * 10,
        "classes": np.array(["a", "b", "c"]),
    } | changes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


def test_a_split_comes_back_as_tensors(file: Path) -> None:
    save_arrays(file, contents())
    found = load_split(file, "test")
    assert found.images.dtype == torch.float32
    assert found.images.shape == (6, 3, 2, 2)
    assert (found.images[0, 0, 0, 0].item(), found.images[0, 0, 0, 1].item()) == (1.0, pytest.approx(1 / 255))
    assert (found.labels.dtype, found.indices.dtype) == (torch.int64, torch.int64)
    assert found.indices.tolist() == [0, 10, 20, 30, 40, 50]
    assert found.classes == ("a", "b", "c")
    assert (len(found), found.num_classes) == (6, 3)
    check_images(found.images, channels=3, size=2)


@pytest.mark.parametrize(("limit", "n"), [(1, 1), (4, 4), (100, 6)])
def test_limit_takes_the_first_images(file: Path, limit: int, n: int) -> None:
    save_arrays(file, contents())
    found = load_split(file, "test", limit)
    assert found.indices.tolist() == [0, 10, 20, 30, 40, 50][:n]
    assert len(found.images) == len(found.labels) == n


def test_wrong_requests(file: Path) -> None:
    save_arrays(file, contents())
    with pytest.raises(UserError, match="no split 'valid'; a data file has train, validation, test"):
        load_split(file, "valid")
    with pytest.raises(UserError, match="limit is 0"):
        load_split(file, "test", 0)
    with pytest.raises(UserError, match="holds no array train_images"):
        load_split(file, "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_images": np.zeros((6, 3, 2, 2), dtype=np.float32)}, "images must be uint8 .* not float32"),
        ({"test_images": np.zeros((6, 2, 2), dtype=np.uint8)}, r"not uint8 of shape \(6, 2, 2\)"),
        ({"test_images": np.zeros((0, 3, 2, 2), dtype=np.uint8)}, "there is no image"),
        ({"test_labels": np.arange(5)}, r"labels must be int64 of shape \(6,\), not int64 of shape \(5,\)"),
        ({"test_labels": np.zeros(6, dtype=np.uint8)}, "labels must be int64"),
        ({"test_indices": np.zeros(6, dtype=np.int32)}, "indices must be int64"),
        ({"test_labels": np.arange(6)}, "labels run from 0 to 5, but there are 3 classes"),
        ({"test_labels": np.arange(6) % 3 - 1}, "labels run from -1"),
        ({"classes": np.arange(3)}, "classes must be a list of names"),
    ],
)
def test_files_that_fetch_did_not_write(file: Path, changes: dict[str, np.ndarray], message: str) -> None:
    save_arrays(file, contents(**changes))
    with pytest.raises(UserError, match=f"split test: .*{message}.*robustgen fetch"):
        load_split(file, "test")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves a damaged zip file open
def test_missing_and_damaged_files(file: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        load_split(file, "test")
    save_arrays(file, contents())
    whole = file.read_bytes()
    for damaged in (whole[:-30], whole[:40] + bytes(20) + whole[60:], b"", b"\x80\x04K\x01."):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"data\.npz"):
            load_split(file, "test")


def test_pickled_names_are_not_opened(file: Path) -> None:
    np.savez(file, **contents(classes=np.array(["a", "b", {}], dtype=object)))
    with pytest.raises(UserError, match="pickle"):
        load_split(file, "test")


def test_images_within_tolerance_pass() -> None:
    check_images(torch.tensor([-1e-7, 0.0, 0.5, 1 + 5e-7]).reshape(1, 1, 2, 2))
    check_images(torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True), channels=3, size=(4, 5))


@pytest.mark.parametrize("value", [-1e-4, 1.001, 255.0, float("nan"), float("inf"), -float("inf")])
def test_values_outside_the_unit_interval(value: float) -> None:
    x = torch.full((2, 1, 4, 4), 0.5)
    x[1, 0, 2, 3] = value
    with pytest.raises(UserError, match=r"must lie in \[0, 1\]"):
        check_images(x)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 4, 4), "four dimensions"),
        ((0, 3, 4, 4), "no image"),
        ((2, 1, 4, 4), "1 channels where 3"),
        ((2, 3, 4, 5), "4x5"),
    ],
)
def test_wrong_shapes(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_images(torch.zeros(shape), channels=3, size=4)


def test_bytes_are_not_images() -> None:
    with pytest.raises(UserError, match="divide bytes by 255"):
        check_images(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


def test_labels_that_are_classes_pass() -> None:
    check_labels(torch.tensor([0, 2, 1]), 3, classes=3)
    check_labels(torch.tensor([0, 99], dtype=torch.uint8), 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), "a label is 3, but there are 3 classes; labels are 0 to 2"),
        (torch.tensor([0, -2]), "a label is -2"),
        (torch.tensor(0), r"not of shape \(\); give shape \(2,\)"),
        (torch.tensor([True, False]), r"not torch\.bool"),
        (torch.tensor([0j, 1]), r"not torch\.complex64"),
        (torch.tensor([1]), "2 images, but 1 label; give one for each"),
        (np.array([0, 1]), "not ndarray; convert with torch.as_tensor"),
    ],
)
def test_labels_that_are_no_classes(labels: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_labels(labels, 2, classes=3)


def test_arrays_are_not_images() -> None:
    with pytest.raises(UserError, match="images must be a torch tensor, not ndarray"):
        check_images(np.zeros((1, 1, 2, 2), dtype=np.float32))  # type: ignore[arg-type]
