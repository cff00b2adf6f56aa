"""Files a stranger may hand over, as Hypothesis strategies: npz, safetensors, JSON and CSV files gone wrong."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from hypothesis import strategies as st

DTYPES = [
    "<f4",
    "|u1",
    "<i8",
    "<U3",
    "|b1",
    "|O",
    "<M8[s]",
    "|V4",
    "<f7",
    "<U999999999",
    "<U0",
    "|S0",
    ">c16",
    "[('a', '<f4')]",
]
SIZES = st.sampled_from([0, 1, 2, 7, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]) | st.integers(0, 300)
NAMES = st.sampled_from(["a.npy", "b.npy", "/tmp/a.npy", "../a.npy", "a", "a/../../b.npy", "C:\\a.npy", "\x1b[2J.npy"])


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with a few bytes changed, removed, doubled or put in."""
    content = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        how = draw(st.sampled_from(["set", "cut", "double", "insert", "end"]))
        if how == "set":
            content[start : start + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == "cut":
            del content[start:end]
        elif how == "double":
            content[start:start] = content[start:end]
        elif how == "insert":
            content[start:start] = draw(st.binary(max_size=20))
        else:
            del content[start:]
    return bytes(content)


@st.composite
def npy(draw: st.DrawFn) -> bytes:
    """An npy file whose header and content need not fit."""
    shape = tuple(draw(st.lists(SIZES, max_size=4)))
    dtype = draw(st.sampled_from(DTYPES))
    fields = {"descr": dtype, "fortran_order": draw(st.booleans()), "shape": shape}
    text = draw(
        st.sampled_from(["", "x", "(" * 3000, "-" * 9000 + "1", "[" * 90 + "]" * 90, "__import__('os').getcwd()"])
        | st.just(f"{fields!r:<60}")
        | st.just(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}")
    )
    version = draw(st.sampled_from([b"\x01\x00"] * 4 + [b"\x02\x00", b"\x03\x00", b"\xff\xff"]))
    header = text.encode() + b"\n"
    length = draw(st.just(len(header)) | st.integers(0, 65535))
    return b"\x93NUMPY" + version + struct.pack("<H", length) + header + draw(st.binary(max_size=64))


@st.composite
def npz(draw: st.DrawFn) -> bytes:
    """A zip file of such arrays, in which declared sizes may have been forged."""
    file = BytesIO()
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(file, "w") as archive:
        for name in draw(st.lists(NAMES, max_size=4, unique=True)):
            archive.writestr(name, draw(npy() | st.binary(max_size=50)), draw(st.sampled_from(methods)))
    data = bytearray(file.getvalue())
    entry = data.find(b"PK\x01\x02")
    if entry >= 0 and draw(st.booleans()):  # the first entry of the directory: flags, method, sizes, offset
        place, width = draw(st.sampled_from([(8, 2), (10, 2), (20, 4), (24, 4), (42, 4)]))
        value = draw(SIZES) % 2 ** (8 * width)
        data[entry + place : entry + place + width] = value.to_bytes(width, "little")
    return bytes(data)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
BOMBS = ["[" * 100_000, '{"a":' * 50_000, "9" * 20_000, '"' + "\\u0000" * 9000, "1e" + "9" * 400, "\ufeff{}", "NaN"]
JSON_TEXTS = st.sampled_from(BOMBS) | JSON_VALUES.map(json.dumps) | st.text(max_size=60)


@st.composite
def tensor_entries(draw: st.DrawFn) -> dict[str, object]:
    """The JSON of a safetensors header: each tensor's type, shape and place, fitting or not."""
    header: dict[str, object] = {}
    for name in draw(st.lists(st.sampled_from(["w", "b", "", "\x00", "__metadata__", "a" * 999]), max_size=3)):
        header[name] = draw(
            st.fixed_dictionaries(
                {
                    "dtype": st.sampled_from(["F32", "F64", "I64", "BOOL", "F8_E4M3", "U64", "O", "C64"]),
                    "shape": st.lists(SIZES, max_size=3),
                    "data_offsets": st.tuples(SIZES, SIZES).map(list),
                }
            )
            | JSON_VALUES
        )
    if draw(st.booleans()):
        header["__metadata__"] = {"robustgen": draw(JSON_TEXTS)}
    return header


@st.composite
def safetensors(draw: st.DrawFn) -> bytes:
    """A safetensors file whose header need not fit its content."""
    text = draw(tensor_entries().map(json.dumps) | JSON_TEXTS).encode()
    length = draw(st.just(len(text)) | SIZES) % 2**64
    return struct.pack("<Q", length) + text + draw(st.binary(max_size=64))


def table(header: Sequence[str]) -> st.SearchStrategy[bytes]:
    """A CSV file with these columns, or nearly."""
    cells = st.sampled_from(["", "1", "-0.5", "nan", "1e999", "9" * 5000, '"', "a\x00b", "holds", "quick", "é"])
    rows = st.lists(st.lists(cells | st.text(max_size=6), max_size=len(header) + 1), max_size=4)
    whole = rows.map(lambda rows: "\n".join([",".join(header), *(",".join(row) for row in rows)]))
    return whole.map(lambda text: text.encode("utf-8", "surrogatepass"))


def arrays() -> bytes:
    """A sound npz file."""
    file = BytesIO()
    np.savez_compressed(file, a=np.arange(12.0).reshape(3, 4), words=np.array(["one", "two"]), empty=np.zeros((0, 3)))
    return file.getvalue()
