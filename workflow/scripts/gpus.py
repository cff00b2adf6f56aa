"""One GPU for each job on a machine with several: a small pool of lock files, one a GPU.

The kernel drops a lock with its process, so nothing is left behind by a crash. SLURM gives a job its GPUs itself; what
runs inside one job shares those.
"""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path


def visible(environment: Mapping[str, str]) -> list[str]:
    """Names of the GPUs jobs may use: those in CUDA_VISIBLE_DEVICES, else all that the driver lists."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def pool(environment: Mapping[str, str]) -> Path:
    """Folder of the lock files: of this machine, user and SLURM job (the same GPU has another number in each job)."""
    name = ["robustgen-gpus", str(os.getuid()), *filter(None, [environment.get("SLURM_JOB_ID")])]
    return Path(tempfile.gettempdir(), "-".join(name))


@contextmanager
def assigned(
    count: int, environment: Mapping[str, str], wait: Callable[[float], None] = time.sleep
) -> Iterator[dict[str, str]]:
    """Environment variables that give a job `count` GPUs of its own, waiting until they are free.

    Nothing is set where the job wants none, or where there are fewer than `count`: the stage then says what it misses.
    """
    names = visible(environment) if count else []
    if not count or len(names) < count:
        yield {}
        return
    with ExitStack() as held:
        while len(free := _take(names, count, pool(environment), held)) < count:
            held.close()
            wait(random.uniform(0.2, 0.6))
        yield {"CUDA_VISIBLE_DEVICES": ",".join(free), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _take(names: list[str], count: int, folder: Path, held: ExitStack) -> list[str]:
    """Lock up to `count` free GPUs; their names. `held` gives them back."""
    folder.mkdir(mode=0o700, exist_ok=True)
    taken: list[str] = []
    for name in names:
        file = held.enter_context((folder / name.replace("/", "-")).open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        taken.append(name)
        if len(taken) == count:
            break
    return taken
