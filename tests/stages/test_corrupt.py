from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tyro

from robustgen import io
from robustgen.data import load_split
from robustgen.data.corruptions import CORRUPTIONS, corrupt, official
from robustgen.errors import UserError
from robustgen.stages import corrupt as stage

BASE = "--data data.npz --images 5 --seed 3"
COUNT = 12


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_data: Callable[..., Path]) -> Callable[[str], None]:
    """run(options): the stage in a folder that holds a data file, without a mirror."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROBUSTGEN_MIRROR", raising=False)
    write_data(Path("data.npz"))
    return lambda options: stage.run(tyro.cli(stage.Options, args=shlex.split(options)))


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """cifar.npz, a data file shaped as CIFAR-10 is, and a mirror with its corruptions; returns an npy file's array."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, COUNT)
    arrays: dict[str, np.ndarray] = {"classes": np.array(official.CLASSES)}
    for split in ("train", "validation", "test"):
        places = random.permutation(COUNT)[:8]
        arrays[f"{split}_images"] = random.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
        arrays[f"{split}_labels"], arrays[f"{split}_indices"] = labels[places], places
    io.save_arrays(tmp_path / "cifar.npz", arrays)
    root = tmp_path / "mirror" / official.FOLDER
    root.mkdir(parents=True)
    array = random.integers(0, 256, (5 * COUNT, 32, 32, 3), dtype=np.uint8)
    for row, name in enumerate(CORRUPTIONS):
        np.save(root / f"{name}.npy", array ^ row)
    np.save(root / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    monkeypatch.setattr(official, "COUNT", COUNT)
    return array


def test_file_is_what_it_says(run: Callable[[str], None]) -> None:
    run(f"{BASE} --out out.npz")
    found, test = io.load_arrays("out.npz"), load_split("data.npz", "test")
    assert found["images"].shape == (15, 5, 5, 1, 8, 8)
    assert found["images"].dtype == found["natural"].dtype == np.uint8
    np.testing.assert_array_equal(found["natural"], np.rint(255 * test.images[:5].numpy()))
    assert found["corruptions"].tolist() == list(CORRUPTIONS)
    assert found["groups"].tolist() == [group for group, _ in CORRUPTIONS.values()]
    assert found["severities"].tolist() == [1, 2, 3, 4, 5]
    assert found["labels"].tolist() == test.labels[:5].tolist()
    assert found["indices"].tolist() == [0, 1, 2, 3, 4]
    assert str(found["source"]) == "generated"
    assert json.loads(str(found["config"]))["seed"] == 3
    places = test.indices[:5].numpy()
    np.testing.assert_array_equal(found["images"][7, 3], corrupt(found["natural"], "snow", 4, 3, places))


def test_fewer_images_and_chunks_change_nothing(run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    run(f"{BASE} --out a.npz")
    monkeypatch.setattr(stage, "CHUNK", 2)
    run(f"{BASE} --out b.npz")
    run(f"{BASE} --images 2 --out c.npz")
    a, b, c = (io.load_arrays(f"{name}.npz")["images"] for name in "abc")
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a[:, :, :2], c)
    before = Path("a.npz").read_bytes()
    run(f"{BASE} --out a.npz")
    assert Path("a.npz").read_bytes() == before


@pytest.mark.parametrize("source", ["auto", "official"])
def test_official_files_are_used_where_present(
    source: str, run: Callable[[str], None], published: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTGEN_MIRROR", "mirror")
    run(f"--data cifar.npz --images 6 --source {source} --out out.npz")
    found, test = io.load_arrays("out.npz"), load_split("cifar.npz", "test")
    assert str(found["source"]) == "official"
    assert found["images"].shape == (15, 5, 6, 3, 32, 32)
    for row in (0, 9):
        for severity in range(5):
            rows = severity * COUNT + test.indices[:6].numpy()
            np.testing.assert_array_equal(found["images"][row, severity], (published[rows] ^ row).transpose(0, 3, 1, 2))


def test_corruptions_are_made_where_official_files_do_not_serve(
    run: Callable[[str], None], published: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(options: str) -> str:
        run(f"--images 2 --out out.npz {options}")
        return str(io.load_arrays("out.npz")["source"])

    assert source("--data cifar.npz") == "generated"  # no mirror
    monkeypatch.setenv("ROBUSTGEN_MIRROR", "mirror")
    assert source("--data cifar.npz --source generated") == "generated"
    assert source("--data data.npz") == "generated"  # not CIFAR-10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--images 0", "images is 0; give at least 1"),
        ("--images 33", "data.npz holds 32 test images, not 33; lower images"),
        ("--data none.npz", "none.npz"),
        ("--source official", "data.npz holds images of 1x8x8 with 4 classes, but CIFAR-10-C is made from CIFAR-10"),
        ("--data cifar.npz --source official", "CIFAR-10-C is not at hand; set ROBUSTGEN_MIRROR to a folder"),
        ("--data small.npz", "of 8 pixels a side"),
    ],
)
def test_what_the_user_can_mend(
    options: str, message: str, run: Callable[[str], None], published: np.ndarray, write_data: Callable[..., Path]
) -> None:
    write_data(Path("small.npz"), size=4)
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {options} --out out.npz")
    assert message in str(caught.value)
    assert not Path("out.npz").exists()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("relabel", "labels.npy differs from the data file for "),
        ("remove", "fog.npy is missing; copy all files of CIFAR-10-C"),
        ("truncate", "fog.npy is not a readable npy file"),
        ("reshape", "fog.npy holds uint8 of shape (60, 32, 32), not uint8 of shape (60, 32, 32, 3)"),
    ],
)
def test_official_files_that_do_not_fit(
    harm: str, message: str, run: Callable[[str], None], published: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTGEN_MIRROR", "mirror")
    root = Path("mirror") / official.FOLDER
    fog, labels = root / "fog.npy", root / "labels.npy"
    if harm == "relabel":
        np.save(labels, np.load(labels) ^ 1)
    elif harm == "remove":
        fog.unlink()
    elif harm == "truncate":
        fog.write_bytes(fog.read_bytes()[:5000])
    else:
        np.save(fog, published[..., 0])
    with pytest.raises(UserError) as caught:
        run("--data cifar.npz --images 6 --out out.npz")
    assert message in str(caught.value)
    assert not Path("out.npz").exists()
