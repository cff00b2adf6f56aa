"""Run a command in a process group of its own, and leave no process of it behind.

`dvc` starts a stage's command as its child. A signal to dvc alone would leave that child running, and dvc killed in
the middle would leave its locks; so a signal to this process goes to the whole group, the gentle one first.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from lease import machine, started

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STARTER = "ROBUSTGEN_STARTED_BY"  # environment variable: machine, id and start of the process that jobs work for
GRACE = 8.0  # seconds for dvc and a training to end by themselves; SLURM kills after 30
TICK = 2.0  # seconds between looks at the world


class StopError(Exception):
    """This process was told to end by a signal, or what it worked for is gone."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class Supervisor:
    """Runs commands and waits, raising StopError after a signal. One for a process: see `supervisor`."""

    def __init__(self, wakeup: int, orphaned: Callable[[], bool]) -> None:
        self._wakeup = wakeup
        self._orphaned = orphaned

    def wait(self, seconds: float) -> None:
        """Sleep; StopError where a signal says so, sooner back where a child has ended."""
        ready, _, _ = select.select([self._wakeup], [], [], seconds)
        for number in os.read(self._wakeup, 64) if ready else b"":
            if number in ENDING:
                raise StopError(number)
        if self._orphaned():
            raise StopError(signal.SIGTERM)

    def run(
        self, command: Sequence[str], output: IO[bytes], environment: Mapping[str, str], tick: Callable[[], None]
    ) -> int:
        """Run a command to its end, `tick` every two seconds; its exit status, negative where a signal ended it."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        guard = _guard(process.pid)
        try:
            last = time.monotonic()
            while (status := process.poll()) is None:
                self.wait(TICK)
                if time.monotonic() - last >= TICK:
                    last = time.monotonic()
                    tick()
            return status
        finally:
            _end(process)
            os.write(guard, b".")
            os.close(guard)


@contextmanager
def supervisor() -> Iterator[Supervisor]:
    """The supervisor of this process: takes over the handling of signals."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    for number in (*ENDING, signal.SIGCHLD):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # `nohup` is meant
            signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    yield Supervisor(read, _gone(os.environ.get(STARTER, "")))


def lead() -> None:
    """Let the jobs that this process starts end with it, even one that it started right before its end."""
    os.environ[STARTER] = "\t".join([machine(), str(os.getpid()), started(os.getpid()) or ""])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process group: by Ctrl-C, at which dvc gives back its locks; later by force."""
    if process.poll() is None:
        for number in (signal.SIGINT, signal.SIGTERM):
            _signal(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
                break
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _guard(group: int) -> int:
    """Fork a process that kills the group once this one is gone, in whatever way; a byte to the result ends it."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        for number in (*ENDING, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
        os.close(write)
        if not os.read(read, 1):
            _signal(group, signal.SIGKILL)
        os._exit(0)
    os.close(read)
    return write


def _gone(starter: str) -> Callable[[], bool]:
    """Whether the process of a STARTER has ended; never where there is none, or one of another machine."""
    where, _, process = starter.partition("\t")
    pid, _, begun = process.partition("\t")
    if where != machine() or not pid.isdecimal():
        return lambda: False
    return lambda: started(int(pid)) not in (begun, "")


def say(message: str) -> None:
    """A line for who started the job."""
    print(message, file=sys.stderr, flush=True)
