"""Reading and writing the project's files: atomic, verified, and never unpickled.

Arrays travel as compressed npz, weights as safetensors with a JSON header, numbers as JSON or CSV. A file may come from
a stranger: what it declares is checked before memory is given to it, and whatever is wrong with it is a UserError.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustgen.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

PathLike = str | os.PathLike[str]

PART = ".part"  # how the name of a file ends that is still being written; it begins with a dot
UNPACKED = 64 * 2**20  # bytes any npz may unpack to; ours are seldom larger
RATIO = 100  # and how many times its own size a larger one may; what the pipeline writes stays below 20
EMPTY = 2**22  # the product of the other lengths of an array without elements; whoever reads it may loop over them
WEIGHTS_HEADER = 16 * 2**20  # bytes of a safetensors header; ours hold a few hundred names and a training curve
TEXT = 16 * 2**20  # bytes of a JSON or CSV file, each of which may cost some thirty bytes of memory
# As numpy writes it for arrays of numbers or words; it evaluates the header as Python, so nothing else gets there.
NPY_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|][biufcSU]\d{1,9})', 'fortran_order': (?:True|False), "
    rb"'shape': \((?P<shape>|\d{1,18},|\d{1,18}(?:, \d{1,18}){1,63})\), \} *\n"
)


@contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it there on success, remove it on failure.

    A reader therefore sees the old file or the whole new one, never a part. Parent folders are made, and what killed
    writers of `path` left is removed. Raises UserError where the folder cannot be written or the disk is full.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(target)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=PART, dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    temporary = Path(name)
    try:
        with suppress(OSError):  # not every network file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _remove_left(target: Path) -> None:
    """Remove temporary files of `target` that nobody holds the lock of: their writers were killed."""
    for path in target.parent.glob(f".{escape(target.name)}.*{PART}"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _unwritable(target: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {target}: {error.strerror or error}; check the folder's permissions and free space")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256(data: bytes | np.ndarray) -> str:
    """Hexadecimal SHA-256 of bytes, or of an array's elements in C order."""
    return hashlib.sha256(np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data).hexdigest()


def _words(error: Exception) -> str:
    """What an error says, on one line and no longer than one wants to read: a damaged file may speak through it."""
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "?" for c in text[:300])


def existing(path: PathLike, what: str) -> Path:
    """`path` if it is a file; otherwise a UserError saying what is missing and how to make it."""
    found = Path(path)
    if not found.is_file():
        raise UserError(
            f"{what} not found: {found}; make it with `snakemake --cores 2 {found}` or get it with `dvc pull`"
        )
    return found


def save_arrays(path: PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as a compressed npz. The same arrays give the same bytes."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_arrays(path: PathLike, *names: str) -> dict[str, np.ndarray]:
    """Read the arrays `names` (all of them if none is given) of an npz, without unpickling anything.

    Raises UserError for a missing file, one that is no npz, a corrupted one, a pickled array, a missing name, and one
    that would unpack to more than UNPACKED and RATIO allow.
    """
    source = existing(path, "array file")
    try:
        # numpy leaves a damaged file open unless it is given one
        with source.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, source.stat().st_size)
            missing = [name for name in names if name not in members]
            if missing:
                raise UserError(f"{source} holds no array {', '.join(missing)}; it holds {', '.join(members)}")
            return {name: _array(archive, members[name]) for name in names or members}
    except UserError:
        raise
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise unreadable(source, "npz array file", error) from error
    except Exception as error:  # zlib.error and friends: any decoder failure means a damaged file
        raise UserError(f"{source} is corrupted ({_words(error)}); delete it and make it again") from error


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an npz of `size` bytes by name; ValueError where a member is none or there is more than allowed."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.orig_filename.removesuffix(".npy")
        if name == info.orig_filename or name in members or not _plain(name):
            raise ValueError(f"member {info.orig_filename[:80]!r} is not the name of one array")
        members[name] = info
    unpacked = sum(info.file_size for info in members.values())
    if unpacked > max(UNPACKED, RATIO * size):
        raise ValueError(f"it would unpack to {unpacked} bytes, {unpacked // max(size, 1)} times its size")
    return members


def _plain(name: str) -> bool:
    """Whether a member's name can be shown and, as a path, would stay in its folder."""
    return name.isprintable() and "\\" not in name and not name.startswith("/") and ".." not in name.split("/")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array of an npz, once its header is found to be one that numpy writes and to fit the member's length."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"member {info.filename} is compressed by another method than deflate")
    with archive.open(info) as file:
        start = file.read(10)  # magic string, version, length of the header
        header = NPY_HEADER.fullmatch(file.read(int.from_bytes(start[8:], "little")))
        if start[:8] != b"\x93NUMPY\x01\x00" or header is None:
            raise ValueError(f"member {info.filename} is not an array of numbers or words; pickles are never loaded")
        shape = [int(n) for n in header["shape"].split(b",") if n.strip()]
        dtype = np.dtype(header["dtype"].decode())
        length = len(start) + len(header[0]) + math.prod(shape) * dtype.itemsize
        if length != info.file_size:
            raise ValueError(f"member {info.filename} of {info.file_size} bytes declares an array of {length}")
        if not _sensible(shape, dtype.itemsize):
            raise ValueError(f"member {info.filename} declares an array of shape {tuple(shape)} that takes no bytes")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _sensible(shape: Sequence[int], itemsize: int) -> bool:
    """Whether the length of its data, if that is 0, bounds an array: not words without letters, nor a long empty side.

    numpy itself gives empty words one letter.
    """
    if math.prod(shape):
        return itemsize > 0
    return math.prod(n for n in shape if n) <= EMPTY


def save_weights(path: PathLike, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors as safetensors; `header` travels as JSON in the file's metadata."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        try:
            save_file(ready, temporary, metadata={"robustgen": json.dumps(header, sort_keys=True)})
        except SafetensorError as error:  # it wraps what the system says, a full disk for one
            raise OSError(str(error)) from error


def load_weights(path: PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and header of a file written by `save_weights`.

    Raises UserError for a missing file, a corrupted one, one that is no safetensors file (a pickle, say),
    one whose header is larger than WEIGHTS_HEADER, and one without our header.
    """
    from safetensors import safe_open

    source = existing(path, "model")
    try:
        _check_length(source)
        with safe_open(source, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
        header = parse_json(metadata.get("robustgen", "null"))
    except Exception as error:  # SafetensorError, and what torch says of a shape or dtype it cannot make
        raise UserError(
            f"{source} is not a readable safetensors file ({_words(error)}); "
            "only safetensors are loaded, pickles never are"
        ) from error
    if not isinstance(header, dict):
        raise UserError(f"{source} has no robustgen header, so its architecture is unknown; train or convert it again")
    return tensors, header


def _check_length(source: Path) -> None:
    """ValueError where the length that a safetensors file gives its header is beyond the file or WEIGHTS_HEADER."""
    with source.open("rb") as file:
        start = file.read(8)
    length, size = int.from_bytes(start, "little"), source.stat().st_size
    if len(start) < 8 or length > min(size - 8, WEIGHTS_HEADER):
        raise ValueError(f"a header of {length} bytes in a file of {size}")


def save_text(path: PathLike, text: str) -> None:
    """Write text as UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_json(path: PathLike, value: Any) -> None:
    """Write JSON with sorted keys, two spaces, a final newline; NaN is refused."""
    save_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def load_json(path: PathLike) -> Any:
    """Read JSON; UserError where the file is missing, damaged, too deep or larger than TEXT."""
    source = existing(path, "file")
    try:
        return parse_json(_text(source))
    except ValueError as error:
        raise UserError(f"{source} is not valid JSON ({_words(error)}); delete it and make it again") from error


def parse_json(text: str) -> Any:
    """JSON as Python values; ValueError where it is not valid or deeper than Python can follow."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _text(source: Path) -> str:
    """The file as UTF-8; ValueError where it is none or larger than TEXT."""
    size = source.stat().st_size
    if size > TEXT:
        raise ValueError(f"{size} bytes, more than the {TEXT} that are read")
    return source.read_text(encoding="utf-8")


def load_csv(path: PathLike, what: str = "table") -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file, every row as long as the header.

    Raises UserError where the file is missing, damaged, larger than TEXT, or not `what` it should be.
    """
    source = existing(path, what)
    try:
        lines = list(csv.reader(StringIO(_text(source), newline=""), strict=True)) or [[]]
        header, rows = lines[0], lines[1:]
        wrong = [f"line {i} has {len(row)}" for i, row in enumerate(rows, 2) if len(row) != len(header)]
        if wrong:
            raise ValueError(f"{wrong[0]} cells instead of {len(header)}")
    except (ValueError, csv.Error) as error:
        raise unreadable(source, what, error) from error
    return header, rows


def unreadable(path: PathLike, what: str, error: Exception) -> UserError:
    """That a file is not `what` it should be, why, and how to make it again."""
    how = f"delete it and make it again: `snakemake --cores 2 {path}`"
    return UserError(f"{path} is not a readable {what} ({_words(error)}); {how}")


def save_csv(path: PathLike, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write rows as CSV; floats keep six significant digits, None is an empty cell."""
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return f"{float(value):.6g}"
    return value
