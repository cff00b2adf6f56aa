"""A process that does not outlive the one it works for, however that one ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

POLL = 0.5  # seconds; a kill -9 cannot be caught, so its victim's children have to look


def end_with_dvc() -> None:
    """Let SIGTERM end this process, a stage's command, once the DVC that started it is gone.

    DVC is the parent: the shell between them has become this process (commands in dvc.yaml begin with `exec`). It may
    be gone already: then whoever took this process over stands in its place, in another process group.
    """
    dvc = os.getppid()
    try:
        gone = dvc == 0 or os.getpgid(dvc) != os.getpgrp()
    except ProcessLookupError:
        gone = True
    if gone:
        os.kill(os.getpid(), signal.SIGTERM)
    end_with(dvc)


def end_with(pid: int) -> None:
    """Let SIGTERM end this process once the process `pid` is gone; looked at in a thread of its own."""
    threading.Thread(target=_watch, args=(pid,), daemon=True, name="lifeline").start()


def _watch(pid: int) -> None:
    while _lives(pid):
        time.sleep(POLL)
    os.kill(os.getpid(), signal.SIGTERM)


def _lives(pid: int) -> bool:
    """Whether `pid` is a process that still runs; one whose parent has yet to fetch its status does not."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - pathlib is not imported here
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:  # another user's process, or a system without /proc
        return True


def leave_tidily() -> None:
    """Let SIGTERM unwind like Ctrl-C does, so that temporary files are removed; exit status 143, as without this."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one is not put off
    sys.exit(128 + number)
