from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustgen.data import planar
from robustgen.io import load_arrays
from robustgen.training.checkpoint import FOLDER

SMALL = (
    "density --hidden 8 --layers 2 --updates 5 --warmup 1 --batch 20 --lr 0.01 --eps 0.5 --steps 2 --alpha 0.05 "
    "--check-every 2"
)
PLANE = f"{SMALL} --problems ring checkerboard --seeds 4 1 7 --grid 30"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_arrays(succeed: Callable[[str], None]) -> None:
    succeed(f"{PLANE} --out plane.npz")
    found = load_arrays("plane.npz")
    assert found["problems"].tolist() == ["ring", "checkerboard"]
    assert found["seeds"].tolist() == [4, 1, 7]
    assert found["kinds"].tolist() == ["gat", "natural"]
    assert found["logits"].shape == found["estimate"].shape == (2, 3, 2, 30, 30)
    assert found["target"].shape == (2, 30, 30)
    assert found["distance"].shape == (2, 3, 2)
    assert found["uniform_distance"].shape == (2,)
    assert found["positives"].shape == found["negatives"].shape == (2, 1000, 2)
    assert found["curve_updates"].tolist() == [2, 4, 5]
    assert found["curve_loss"].shape == found["curve_distance"].shape == (2, 3, 3, 2)
    assert json.loads(str(found["config"]))["steps"] == 2
    np.testing.assert_array_equal(found["distance"], found["curve_distance"][:, -1])
    np.testing.assert_array_equal(found["positives"][1], planar.sample("checkerboard", 4)[0])
    for name in ("estimate", "target"):
        np.testing.assert_allclose(found[name].sum((-2, -1)), 1, rtol=1e-5)
    apart = np.abs(found["estimate"].astype(float) - found["target"][:, None, None]).sum((-2, -1)) / 2
    np.testing.assert_allclose(found["distance"], apart, atol=1e-5)
    np.testing.assert_allclose(
        found["uniform_distance"], np.abs(found["target"].astype(float) - 1 / 900).sum((1, 2)) / 2, atol=1e-5
    )
    assert not list(FOLDER.iterdir())


def test_first_coordinate_comes_first(succeed: Callable[[str], None]) -> None:
    succeed(f"{SMALL} --problems spirals --grid 40 --out spirals.npz")
    found = load_arrays("spirals.npz")
    axis = found["axis"][0]
    point = np.array([[axis[20], axis[13]]])
    value = planar.density("spirals", point)[0]
    assert value > 1
    assert found["target"][0, 20, 13] == pytest.approx(value * (axis[1] - axis[0]) ** 2, rel=0.02)


def test_line_is_the_same_again(succeed: Callable[[str], None]) -> None:
    command = f"{SMALL} --problems mixture --grid 300 --out line.npz"
    succeed(command)
    before = Path("line.npz").read_bytes()
    succeed(command)
    assert Path("line.npz").read_bytes() == before
    found = load_arrays("line.npz")
    assert found["logits"].shape == (1, 1, 2, 300)
    assert found["positives"].shape == (1, 500, 1)
    assert found["axis"].shape == (1, 300)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--problems mixture ring", "problems must be of one dimension, not mixture, ring"),
        ("--problems moons", "unknown problem 'moons'; known are mixture, ring"),
        ("--problems ring ring", "problems must be different ones"),
        ("--seeds 1 1", "seeds must be different ones"),
        ("--seeds", "seeds must be different ones"),
        ("--grid 1", "grid is 1; give at least 2 points"),
        ("--updates 0", "densities need hidden, layers, updates"),
        ("--lr 1e30", "the loss is no longer finite; lower --lr"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, fail: Callable[[str], str]) -> None:
    assert message in fail(f"{PLANE} --out x.npz {options}")
    assert not Path("x.npz").exists()
