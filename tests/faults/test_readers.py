"""Damaged and hostile files: each reader of our own formats returns or raises UserError, and does nothing else."""

from __future__ import annotations

import io as streams
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from robustgen import io, models
from robustgen.errors import UserError
from robustgen.evaluation import rows
from robustgen.papers.e_abs import loading as e_abs
from robustgen.papers.gat import loading as gat

from . import hostile
from .watched import nothing_done, peak_memory, status

CASES = int(os.environ.get("FUZZ_CASES", "400")) // 8  # of each of the eight readers below
MEMORY = 300 * 2**20  # bytes by which a whole run of cases may raise the peak
fuzzed = settings(
    max_examples=CASES, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

pytestmark = pytest.mark.faults


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "file"


def read(load: Callable[[Path], Any], path: Path, data: bytes) -> Any:
    """What `load` makes of a file of these bytes, None where it refuses; asserts what every reader has to keep to."""
    path.write_bytes(data)
    before, found, said = sorted(path.parent.iterdir()), None, ""
    with nothing_done():
        try:
            found = load(path)
        except UserError as error:
            said = str(error)
    assert len(said) < 2000
    assert said.isprintable(), "one line, without what would move a terminal's cursor"
    assert sorted(path.parent.iterdir()) == before
    return found


@pytest.fixture(autouse=True)
def memory() -> Any:
    before = peak_memory() if peak_memory() > status("VmRSS") else status("VmRSS")
    yield
    assert peak_memory() - before < MEMORY


def weights() -> bytes:
    return save({"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(1)}, {"robustgen": '{"architecture": "x"}'})


@fuzzed
@given(data=st.binary(max_size=400) | hostile.npz() | hostile.mutated(hostile.arrays()))
def test_arrays(place: Path, data: bytes) -> None:
    found = read(io.load_arrays, place, data)
    assert found is None or all(array.dtype != object for array in found.values())


@fuzzed
@given(data=st.binary(max_size=400) | hostile.safetensors() | hostile.mutated(weights()))
def test_weights(place: Path, data: bytes) -> None:
    found = read(io.load_weights, place, data)
    assert found is None or isinstance(found[1], dict)


@fuzzed
@given(data=st.binary(max_size=200) | hostile.JSON_TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_json(place: Path, data: bytes) -> None:
    read(io.load_json, place, data)


def curve(load: Callable[[Path, str], Any]) -> Callable[[Path], Any]:
    return lambda path: load(path.parent, path.stem)


TABLES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "any": (io.load_csv, ["a", "b"]),
    "rows": (rows.load_rows, [field.name for field in fields(rows.Row)]),
    "claims": (rows.load_claims, [field.name for field in fields(rows.Claim)]),
    "gat": (curve(gat.load_curve), list(gat.CURVE)),
    "e-abs": (curve(e_abs.load_curve), list(e_abs.CURVE)),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str, tmp_path: Path) -> None:
    load, columns = TABLES[name]

    @fuzzed
    @given(data=st.binary(max_size=200) | hostile.table(columns) | hostile.mutated(",".join(columns).encode()))
    def check(data: bytes) -> None:
        read(load, tmp_path / "curve.csv", data)

    check()


def refused(load: Callable[[Path], Any], path: Path, words: str) -> None:
    """Asserts that `load` refuses the file in these words, at next to no memory, and does nothing."""
    tracemalloc.start()
    with nothing_done(), pytest.raises(UserError, match=words):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


class Payload:
    """Unpickling it makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def member(path: Path, name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(name, data)


def npy(array: np.ndarray) -> bytes:
    file = streams.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_pickles_in_an_npz(place: Path) -> None:
    np.savez(place.with_suffix(".npz"), a=np.array([Payload()], dtype=object), allow_pickle=True)
    refused(io.load_arrays, place.with_suffix(".npz"), "pickles are never loaded")
    member(place, "a.npy", pickle.dumps(Payload()))
    refused(io.load_arrays, place, "pickles are never loaded")


def test_pickled_weights(place: Path) -> None:
    torch.save({"w": torch.zeros(2), "payload": Payload()}, place)
    refused(io.load_weights, place, "pickles never are")
    assert not Path("executed").exists()


def test_zip_bomb(place: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        file.write(npy(np.zeros(0, np.uint8)).replace(b"(0,), }" + b" " * 10, b"(1073741824,), } "))
        for _ in range(1024):
            file.write(bytes(2**20))
    assert place.stat().st_size < 2 * 2**20
    refused(io.load_arrays, place, "would unpack to 1073741952 bytes")


def test_bomb_of_overlapping_members(place: Path) -> None:
    """Many entries of the directory name the same compressed bytes."""
    member(place, "000.npy", npy(np.zeros(2**20, np.uint8)))
    data = place.read_bytes()
    start = data.index(b"PK\x01\x02")
    entry = data[start : data.index(b"PK\x05\x06")]
    directory = b"".join(entry.replace(b"000.npy", f"{i:03d}.npy".encode()) for i in range(200))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 200, 200, len(directory), start, 0)
    place.write_bytes(data[:start] + directory + end)
    refused(io.load_arrays, place, "would unpack to 2097")


def test_array_larger_than_its_member(place: Path) -> None:
    member(place, "a.npy", npy(np.zeros(7, np.uint8)).replace(b"(7,), }" + b" " * 12, b"(7000000000000,), }"))
    refused(io.load_arrays, place, "declares an array of 7000000000128")


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("<U0", (10**17,)),
        ("|S0", (10**17,)),
        ("<U0", (3,)),
        ("<U0", (0, 10**17)),
        ("<f4", (10**17, 0)),
        ("<f4", (0, 2**20, 2**20)),
    ],
)
def test_long_arrays_that_take_no_bytes(place: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """Whoever loops over one would never come back."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    member(place, "a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
    refused(io.load_arrays, place, "of shape .* that takes no bytes")


@pytest.mark.parametrize("name", ["/tmp/x.npy", "../x.npy", "a/../../x.npy", "..\\x.npy", "x\n.npy", "x"])
def test_names_that_lead_out(place: Path, name: str) -> None:
    member(place, name, npy(np.zeros(3)))
    refused(io.load_arrays, place, "is not the name of one array")


def test_two_members_of_one_name(place: Path) -> None:
    member(place, "a.npy", npy(np.zeros(3)))
    with pytest.warns(UserWarning, match="Duplicate"):
        member(place, "a.npy", npy(np.ones(3)))
    refused(io.load_arrays, place, "is not the name of one array")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(place: Path, method: int) -> None:
    member(place, "a.npy", npy(np.zeros(3)), method)
    refused(io.load_arrays, place, "another method than deflate")


@pytest.mark.parametrize("length", [2**24 + 1, 2**40, 2**63, 2**64 - 1])
def test_oversized_safetensors_header(place: Path, length: int) -> None:
    with place.open("wb") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(2**25)
    refused(io.load_weights, place, f"a header of {length} bytes")


def test_deep_json(place: Path) -> None:
    place.write_text("[" * 10**6)
    refused(io.load_json, place, "nested too deeply")
    text = json.dumps({"__metadata__": {"robustgen": "[" * 10**6}})
    place.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    refused(io.load_weights, place, "nested too deeply")


@pytest.mark.parametrize("load", [io.load_json, io.load_csv])
def test_large_text(place: Path, load: Callable[[Path], Any]) -> None:
    with place.open("wb") as file:
        file.truncate(2**34)  # takes no room on the disk
    refused(load, place, "more than the 16777216 that are read")


def test_network_larger_than_its_file(place: Path) -> None:
    config = {"size": 8, "channels": 1, "classes": 3, "widths": [2, 2], "hidden": 2**24}
    save_file(
        {"w": torch.zeros(1)}, place, {"robustgen": json.dumps({"architecture": "madry_cnn", "parameters": config})}
    )
    before = peak_memory()
    refused(models.load, place, "file: the weights do not fit .*it (asks for more than|names a number above) 8008")
    assert peak_memory() - before < 64 * 2**20


def test_sound_files_are_read(place: Path) -> None:
    """The reading half of every case above is not vacuous."""
    found = read(io.load_arrays, place, hostile.arrays())
    assert found["a"].shape == (3, 4)
    assert read(io.load_weights, place, weights())[0]["w"].shape == (2, 3)
    assert read(io.load_csv, place, b"a,b\n1,2\n") == (["a", "b"], [["1", "2"]])


def test_watching_sees(tmp_path: Path) -> None:
    def unpickle() -> None:
        with nothing_done():
            pickle.loads(pickle.dumps(Payload))

    def write() -> None:
        with nothing_done():
            (tmp_path / "x").write_text("")

    for act in (unpickle, write):
        with pytest.raises(AssertionError):
            act()
