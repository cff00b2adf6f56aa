"""A record of every stage that ran here: command, machine, seconds, memory. The report shows them."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from robustgen.errors import UserError
from robustgen.io import PathLike, save_json

FOLDER = Path(".cache/runs")


def record_path(out: PathLike) -> Path:
    """Where the record of the stage that writes `out` stands."""
    return FOLDER / f"{hashlib.sha1(os.fspath(out).encode(), usedforsecurity=False).hexdigest()}.json"


@contextmanager
def recorded(family: str, args: Sequence[str], out: PathLike) -> Iterator[None]:
    """Time what runs inside and write its record on success. A record that cannot be made loses nothing else."""
    started, wall, cpu = datetime.now(UTC), time.monotonic(), time.process_time()
    yield
    try:
        record = {
            "family": family,
            "out": os.fspath(out),
            "command": ["robustgen", family, *args],
            "shell": shlex.join(["robustgen", family, *args]),
            "started": started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.monotonic() - wall, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "machine": machine(),
            "versions": {"python": platform.python_version(), **versions("torch", "torchvision", "robustgen")},
        }
        save_json(record_path(out), record)
    except UserError as error:
        print(f"warning: {error}", file=sys.stderr)
    except Exception as error:  # the outputs are done: a GPU that no longer answers, say, must not fail the stage
        print(f"warning: no record of {os.fspath(out)}: {type(error).__name__}: {error}", file=sys.stderr)


def machine() -> dict[str, Any]:
    """Processor, cores, memory (GiB) and GPU of this machine."""
    torch = sys.modules.get("torch")  # only where the stage used it: importing it here would cost seconds
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": processor(), "cores": os.cpu_count(), "memory_gb": round(memory), "gpu": gpu}


def processor() -> str:
    """The processor's model name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions(*packages: str) -> dict[str, str | None]:
    """Installed versions; None for a package that is not there."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
