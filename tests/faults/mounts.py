"""Small and read-only file systems for a test, taken away again after it. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def usable() -> bool:
    """Whether this process may mount."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    trial = "mount -t tmpfs tmpfs /mnt"
    return subprocess.run(["unshare", "--mount", "sh", "-c", trial], check=False, capture_output=True).returncode == 0


needs_mount = pytest.mark.skipif(not usable(), reason="needs root and the right to mount")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """An empty file system of `size` (as tmpfs takes it: "16m") at `folder`."""
    folder.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={size},nr_inodes=20k", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """`folder` cannot be written, not even by root."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("--bind", folder, folder)
    mount("-o", "remount,bind,ro", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill the file system of `folder` up to `leave` bytes; the file that does it."""
    ballast = folder / "ballast"
    left = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, left.f_bavail * left.f_bsize - leave))
    return ballast
