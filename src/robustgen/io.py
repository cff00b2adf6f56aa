"""Reading and writing the project's files: atomic, verified, and never unpickled.

Arrays travel as compressed npz, weights as safetensors with a JSON header, numbers as JSON or CSV.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustgen.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

PathLike = str | os.PathLike[str]


@contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it there on success, remove it on failure.

    A reader therefore sees the old file or the whole new one, never a part. Parent folders are made.
    Raises UserError where the folder cannot be written or the disk is full.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror}; check the folder's permissions and free space"
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror or error}; check the folder's permissions and free space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256(data: bytes | np.ndarray) -> str:
    """Hexadecimal SHA-256 of bytes, or of an array's elements in C order."""
    return hashlib.sha256(np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data).hexdigest()


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

    Raises UserError for a missing file, one that is no npz, a corrupted one, a pickled array or a missing name.
    """
    source = existing(path, "array file")
    try:
        # numpy leaves a damaged file open unless it is given one
        with source.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single npy array, not an npz archive")
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise UserError(f"{source} holds no array {', '.join(missing)}; it holds {', '.join(archive.files)}")
            return {name: archive[name] for name in names or archive.files}
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise UserError(
            f"{source} is not a readable npz array file ({error}); delete it and make it again with "
            f"`snakemake --cores 2 {source}`"
        ) from error
    except Exception as error:  # zlib.error and friends: any decoder failure means a damaged file
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source} is corrupted ({error}); delete it and make it again") from error


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
    and one without our header.
    """
    from safetensors import SafetensorError, safe_open

    source = existing(path, "model")
    try:
        with safe_open(source, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
        header = json.loads(metadata["robustgen"])
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{source} is not a readable safetensors file ({error}); only safetensors are loaded, pickles never are"
        ) from error
    except KeyError as error:
        raise UserError(
            f"{source} has no robustgen header, so its architecture is unknown; train or convert it again"
        ) from error
    return tensors, header


def save_text(path: PathLike, text: str) -> None:
    """Write text as UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_json(path: PathLike, value: Any) -> None:
    """Write JSON with sorted keys, two spaces, a final newline; NaN is refused."""
    save_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def load_json(path: PathLike) -> Any:
    """Read JSON; UserError where the file is missing or damaged."""
    source = existing(path, "file")
    try:
        return json.loads(source.read_text())
    except ValueError as error:
        raise UserError(f"{source} is not valid JSON ({error}); delete it and make it again") from error


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
