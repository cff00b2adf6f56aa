"""Starting commands that will be interrupted, interrupting them, and looking for what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..workflow.conftest import Project

MARK = "FAULT_TRIAL"  # environment variable that every process of a trial inherits
PATIENCE = 600  # seconds for a busy machine to start something, or to end it: SIGTERM lets running stages finish
AGAIN = 20  # seconds until Ctrl-C is pressed once more
GRACE = 60.0  # seconds within which a process must notice that the one it worked for is gone


@dataclass(frozen=True)
class Process:
    """A process of a trial, as /proc shows it."""

    pid: int
    words: tuple[str, ...]

    def runs(self, program: str) -> bool:
        return any(Path(word).name == program for word in self.words[:2])


def marked(mark: str) -> list[Process]:
    """The living processes that were started, directly or not, with this mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found.append(Process(int(folder.name), tuple(words)))
    return [process for process in found if process.words != ("",)]


@contextmanager
def started(project: Project, command: Sequence[str], mark: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, its output in interrupted.log; nothing of it outlives the block."""
    with (project.root / "interrupted.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=project.root, env=project.env | {MARK: mark}, stdout=log, stderr=log, process_group=0
        )
        try:
            yield process
        finally:
            for left in marked(mark):
                with suppress(ProcessLookupError):
                    os.kill(left.pid, signal.SIGKILL)
            process.wait()


def until(condition: Callable[[], object], seconds: float, step: float = 0.02) -> bool:
    """Whether `condition` came true within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True


def interrupt(process: subprocess.Popen[bytes], kind: signal.Signals) -> None:
    """Send a signal and wait for the end of the process; asserts that it comes.

    Ctrl-C reaches every process of the terminal's foreground group, and is pressed again after a while as people do:
    Snakemake may lose one while it is starting. The other signals reach the process alone.
    """
    if kind is not signal.SIGINT:
        process.send_signal(kind)
    for _ in range(PATIENCE // AGAIN):
        if kind is signal.SIGINT:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, kind)
        if until(lambda: process.poll() is not None, AGAIN):
            return
    raise AssertionError(f"{process.args!r} did not end within {PATIENCE} s after {kind.name}")


def files(root: Path) -> dict[str, bytes]:
    """Every file below the folders that stages write into, by its path below `root`."""
    folders = [root / name for name in ("data", "models", "results")]
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.name != ".gitignore"}
