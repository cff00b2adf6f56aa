"""Bringing published raw files here: from a mirror folder or URL, or by torchvision's own download.

Whatever arrives is checked against torchvision's MD5 sums before it is unpacked, and lands in a temporary folder
that is renamed into the download cache when it is complete: an interrupted download leaves nothing behind.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from robustgen.data import registry
from robustgen.errors import UserError
from robustgen.progress import INTERVAL, log

MIRROR = "ROBUSTGEN_MIRROR"
CACHE = Path(".cache/downloads")  # below the working folder, which git and DVC ignore
TIMEOUT = 30.0  # seconds without an answer after which a server counts as unreachable
PACKED = (".gz", ".tgz", ".zip")

# torchvision keeps these sums inside functions or private names, so they are repeated here
_MD5 = {
    "GTSRB-Training_fixed.zip": "513f3c79a4c5141765e10e952eaa2478",
    "GTSRB_Final_Test_Images.zip": "c7e4e6327067d32654124b0fe9e82185",
    "GTSRB_Final_Test_GT.zip": "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
    "imagenette2.tgz": "fe2fc210e6bb7c5664d602c3cd71e612",
    "imagenette2-320.tgz": "3df6f0d01a2c9592104656642f5e78a3",
    "imagenette2-160.tgz": "e793b78cc4c9e9a4ccc0c1155377a412",
}


class UnavailableError(Exception):
    """A place does not hold the set, or cannot be reached; the message says which, in a few words."""


def mirror() -> Path | str | None:
    """Where `ROBUSTGEN_MIRROR` points: a folder (a path or file: URL), an http(s) URL, or None if it is not set.

    Raises UserError for a folder that does not exist and for other kinds of URL.
    """
    value = os.environ.get(MIRROR, "").strip()
    if not value:
        return None
    parts = urlsplit(value)
    if parts.scheme in ("http", "https"):
        return value.rstrip("/")
    if "://" in value and parts.scheme != "file":
        raise UserError(f"{MIRROR}={value} is not usable; give a folder, or a URL that begins with http, https or file")
    folder = Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(value).expanduser()
    if not folder.is_dir():
        raise UserError(f"{MIRROR}={value} is not a folder here; correct the variable or unset it")
    return folder


def cache_folder(name: str, size: int | None = None) -> Path:
    """Where the raw files of set `name` are kept once brought here (one folder for each Imagenette variant)."""
    return CACHE / (registry.imagenette_variant(size) if name == "imagenette" else name)


def copy_from(place: Path | str, name: str, size: int | None = None) -> Path:
    """Bring the raw files of set `name` from a mirror into the cache and unpack them; returns their root.

    Published archives are preferred, single unpacked files are the second choice (image folders cannot be listed
    by URL). Raises UnavailableError where the mirror has neither, UserError where a file is not the published one.
    """
    archives, loose = registry.archive_paths(name, size), registry.dataset(name).layout

    def fill(folder: Path) -> None:
        try:
            _bring(place, archives, folder, _checksums(name))
        except UnavailableError:
            if name in ("gtsrb", "imagenette"):
                raise
            _bring(place, loose, folder, _checksums(name))

    return _filled(name, size, fill)


def download(name: str, size: int | None = None) -> Path:
    """Let torchvision download, verify and unpack set `name` into the cache; returns its root."""
    return _filled(name, size, lambda folder: _official(name, folder, size))


def _filled(name: str, size: int | None, fill: Callable[[Path], None]) -> Path:
    """Run `fill` on a new folder and give that folder the name it has in the cache, all or nothing."""
    target = cache_folder(name, size)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UserError(f"cannot write {target.parent}: {error.strerror}; check the folder's permissions") from error
    try:
        with _quiet_network():
            fill(temporary)
        if registry.raw_paths(name, temporary, size) is None:
            raise UnavailableError("its files are not complete")
        if registry.raw_paths(name, target, size) is None:  # else another process was faster
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _bring(place: Path | str, paths: tuple[str, ...], folder: Path, sums: dict[str, str]) -> None:
    """Copy or download each of `paths` to the same place below `folder`, verify it, then unpack it."""
    from torchvision.datasets.utils import check_integrity, download_url, extract_archive

    for path in paths:
        target, md5 = folder / path, sums.get(Path(path).name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(place, Path):
            if not (place / path).is_file():
                raise UnavailableError(f"no {path}")
            shutil.copyfile(place / path, target)
        else:
            try:
                download_url(f"{place}/{quote(path)}", str(target.parent), target.name)
            except urllib.error.HTTPError as error:
                raise UnavailableError(f"no {path} (HTTP {error.code})") from error
        if not check_integrity(str(target), md5):
            raise UserError(f"{place}/{path} is not the published file (MD5 sum differs); copy it to the mirror again")
        if path.endswith(PACKED):
            extract_archive(str(target), str(target.parent))
            target.unlink()


def _checksums(name: str) -> dict[str, str]:
    """MD5 sums of published files by their name. Unpacked IDX files have none: the pinned SHA-256 sums serve there."""
    from torchvision import datasets

    if name in ("mnist", "fashion-mnist"):
        return dict((datasets.MNIST if name == "mnist" else datasets.FashionMNIST).resources)
    if name in ("cifar10", "cifar100"):
        kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
        return {
            kind.filename: kind.tgz_md5,
            kind.meta["filename"]: kind.meta["md5"],
            **{file: md5 for file, md5 in kind.train_list + kind.test_list},  # noqa: C416  (they are lists of two)
        }
    if name == "svhn":
        return {file: md5 for _, file, md5 in datasets.SVHN.split_list.values()}
    return _MD5


def _official(name: str, root: Path, size: int | None) -> None:
    """torchvision's own download of set `name` into `root`, both parts."""
    from torchvision import datasets

    simple = {
        "mnist": datasets.MNIST,
        "fashion-mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
    }
    if name in simple:
        simple[name](str(root), download=True)
    elif name == "imagenette":
        variant = registry.imagenette_variant(size).removeprefix("imagenette2").lstrip("-")
        datasets.Imagenette(str(root), size=f"{variant}px" if variant else "full", download=True)
    else:
        for split in ("train", "test"):
            (datasets.SVHN if name == "svhn" else datasets.GTSRB)(str(root), split=split, download=True)


@contextmanager
def _quiet_network() -> Iterator[None]:
    """Bound the wait for a server, keep progress bars out of logs, and turn network failures into UnavailableError."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with redirect_stderr(sys.stderr if sys.stderr.isatty() else _SparseLog()):
            yield
    except urllib.error.HTTPError as error:
        raise UnavailableError(f"the server answers {error.code}") from error
    except urllib.error.URLError as error:
        raise UnavailableError(f"no connection: {_line(error.reason)}") from error
    except (RuntimeError, OSError, HTTPException) as error:
        raise UnavailableError(f"the download failed: {_line(error)}") from error
    finally:
        socket.setdefaulttimeout(before)


def _line(error: object) -> str:
    """The last of an error's lines, bare and shortened: torchvision lists every server it tried."""
    lines = [
        line.strip().removeprefix("<urlopen error ").rstrip(">") for line in str(error).splitlines() if line.strip()
    ]
    return (lines[-1] if lines else type(error).__name__)[:120]


class _SparseLog(io.TextIOBase):
    """A stand-in for standard error which passes on one line of a progress bar every ten seconds."""

    def __init__(self) -> None:
        self.stderr, self.last = sys.stderr, time.monotonic()

    def write(self, text: str) -> int:
        now = time.monotonic()
        if text.strip() and now - self.last >= INTERVAL:
            self.last = now
            with redirect_stderr(self.stderr):
                log(f"download: {text.strip()}")
        return len(text)
