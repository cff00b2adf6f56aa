from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from robustgen import io
from robustgen.errors import UserError

ARRAYS = {"a": np.arange(6).reshape(2, 3), "text": np.array("naïve")}


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_arrays_come_back_and_equal_arrays_make_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        io.save_arrays(tmp_path / "deep" / f"{name}.npz", ARRAYS)
    loaded = io.load_arrays(tmp_path / "deep/one.npz")
    assert loaded.keys() == ARRAYS.keys()
    assert str(loaded["text"]) == "naïve"
    np.testing.assert_array_equal(loaded["a"], ARRAYS["a"])
    assert (tmp_path / "deep/one.npz").read_bytes() == (tmp_path / "deep/two.npz").read_bytes()
    assert list(io.load_arrays(tmp_path / "deep/one.npz", "a")) == ["a"]


def test_missing_array_is_named(tmp_path: Path) -> None:
    io.save_arrays(tmp_path / "x.npz", ARRAYS)
    with pytest.raises(UserError, match=r"no array b; it holds a, text"):
        io.load_arrays(tmp_path / "x.npz", "a", "b")


def test_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    for load in (io.load_arrays, io.load_weights, io.load_json):
        with pytest.raises(UserError, match=r"not found.*snakemake"):
            load(tmp_path / "none")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty", "pickle", "npy"])
def test_damaged_npz_is_a_user_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.npz"
    io.save_arrays(path, {"a": np.random.default_rng(0).normal(size=1000)})
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    elif damage == "npy":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    else:
        path.write_bytes({"text": b"hello", "empty": b"", "pickle": pickle.dumps({"a": 1})}[damage])
    with pytest.raises(UserError, match="make it again"):
        io.load_arrays(path)


def test_arrays_without_elements_come_back(tmp_path: Path) -> None:
    empty = {"rows": np.zeros((0, 3, 1024, 1024)), "columns": np.zeros((5, 0)), "words": np.array([], str)}
    io.save_arrays(tmp_path / "x.npz", empty | {"word": np.array([""])})
    loaded = io.load_arrays(tmp_path / "x.npz")
    assert {name: loaded[name].shape for name in empty} == {name: array.shape for name, array in empty.items()}
    assert loaded["word"].tolist() == [""]


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    trap, arrays, weights = tmp_path / "executed", tmp_path / "x.npz", tmp_path / "x.safetensors"
    np.savez(arrays, a=np.array([Trap(trap)], dtype=object), allow_pickle=True)
    weights.write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(UserError, match="not a readable npz"):
        io.load_arrays(arrays)
    with pytest.raises(UserError, match="pickles never are"):
        io.load_weights(weights)
    assert not trap.exists()


def test_object_arrays_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        io.save_arrays(tmp_path / "x.npz", {"a": np.array([{}], dtype=object)})
    assert leftovers(tmp_path) == []


def test_failure_keeps_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    io.save_text(path, "old")

    def fail() -> None:
        with io.atomic(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == ["x.txt"]


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    for name in (".x.json.abc.part", ".y.json.abc.part", ".x.json.part.txt"):
        (tmp_path / name).write_text("half")
    io.save_json(tmp_path / "x.json", 1)
    assert leftovers(tmp_path) == [".x.json.part.txt", ".y.json.abc.part", "x.json"]


def test_another_writer_at_work_is_left_alone(tmp_path: Path) -> None:
    with io.atomic(tmp_path / "x.json") as slow:
        io.save_json(tmp_path / "x.json", 1)
        slow.write_text("2")
    assert io.load_json(tmp_path / "x.json") == 2
    assert leftovers(tmp_path) == ["x.json"]


def test_mode_of_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        io.save_text(tmp_path / "x.txt", "")
    finally:
        os.umask(before)
    assert (tmp_path / "x.txt").stat().st_mode & 0o777 == 0o640


def test_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*permissions and free space"):
        io.save_text(tmp_path / "file" / "x.txt", "")


def test_folder_without_permission_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(UserError, match=r"cannot write .*x\.txt: Permission denied; check the folder's permissions"):
        io.save_text(tmp_path / "x.txt", "")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_full_disk_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device; check"):
        io.save_weights(tmp_path / "x", {"w": torch.zeros(2)}, {})
    assert leftovers(tmp_path) == []


def test_weights_come_back_with_their_header(tmp_path: Path) -> None:
    weights = {"w": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(3)}
    io.save_weights(tmp_path / "x.safetensors", weights, {"b": [1], "a": "é"})
    loaded, header = io.load_weights(tmp_path / "x.safetensors")
    assert header == {"b": [1], "a": "é"}
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_truncated_weights_are_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    io.save_weights(path, {"w": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="not a readable safetensors"):
        io.load_weights(path)


def test_weights_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="no robustgen header"):
        io.load_weights(tmp_path / "x.safetensors")


def test_json_round_trip_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    io.save_json(path, {"b": 1, "a": [2.5]})
    assert path.read_text() == '{\n  "a": [\n    2.5\n  ],\n  "b": 1\n}\n'
    assert io.load_json(path) == {"a": [2.5], "b": 1}
    with pytest.raises(ValueError, match="JSON"):
        io.save_json(path, float("nan"))
    path.write_bytes(b"\xff{")
    with pytest.raises(UserError, match="not valid JSON"):
        io.load_json(path)


def test_csv_cells(tmp_path: Path) -> None:
    io.save_csv(tmp_path / "x.csv", ["a", "b"], [(1 / 3, None), (np.float32(0.1), 12345678), ("x,y", True)])
    assert (tmp_path / "x.csv").read_text() == 'a,b\n0.333333,\n0.1,12345678\n"x,y",True\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,b\n1,\n", (["a", "b"], [["1", ""]])),
        ('a\r\n"x\ny"\r\n', (["a"], [["x\ny"]])),
        ("", ([], [])),
    ],
)
def test_csv_comes_back(tmp_path: Path, text: str, found: tuple[list[str], list[list[str]]]) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode())
    assert io.load_csv(tmp_path / "x.csv") == found


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a,b\n1\n", "line 2 has 1 cells instead of 2"),
        (b'a\n"1\n', "unexpected end of data"),
        (b"\xff\n", "can't decode"),
    ],
)
def test_damaged_csv_is_a_user_error(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(UserError, match=rf"not a readable curve \(.*{words}.*make it again"):
        io.load_csv(tmp_path / "x.csv", "curve")


def test_hash_of_array_is_that_of_its_elements_in_c_order() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert io.sha256(array) == io.sha256(array.tobytes()) == io.sha256(np.asfortranarray(array))
