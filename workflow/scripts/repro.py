"""Bring one DVC stage up to date, among many that do the same at once, here and on other machines.

    repro.py STAGE LOG [GPUS]

What `dvc repro --single-item` leaves open where jobs are many: its locks on paths do not wait, tell processes apart by
an id that another machine gives to others too, and with `core.hardlink_lock` outlive a process that was killed. So:
one process a stage (a lease), a lock error is tried again, a stage whose command ended well but which DVC could not
record is recorded, what a dead process left is cleared, and no process stays behind.
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from gpus import assigned
from lease import LIFETIME, Lease, exists
from supervise import StopError, Supervisor, say, supervisor

LEASES = Path(".cache/workflow/leases")
# How long a live process may hold one, seconds: `dvc pull` and `dvc push` hold the first from beginning to end
LOCKS = {Path(".dvc/tmp/lock"): 4 * 3600.0, Path(".dvc/tmp/rwlock.lock"): 60.0}
PATIENCE = 24 * 3600.0  # seconds a job tries again while others hold DVC's locks
PAUSE = 10.0  # seconds between two tries at most
ENDED = (130, 143)  # exit status of a DVC that a signal ended
FULL = 2**20  # bytes left on a disk that is as good as full
SOURCES = ("src", "dvc.yaml", "params.yaml", "params")
LOCKED = re.compile(r"Unable to acquire lock|is busy, it is being blocked by|Unable to read RWLock-file")
HELD_BY = re.compile(r"^\s*\(PID (\d+)\): (.+)$", re.MULTILINE)


class LostError(Exception):
    """The lease on the stage could not be kept: another process may make it now."""


class LockWatch:
    """Removes a hard-link lock of DVC's whose holder was killed: such a file stays until someone does."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def look(self) -> None:
        for path, limit in LOCKS.items():
            try:
                found = path.stat()
            except FileNotFoundError:
                self._seen.pop(path, None)
                continue
            if found.st_nlink != 2:  # the other kind, which the kernel drops
                continue
            lock = (found.st_ino, found.st_mtime_ns)  # an inode is given to the next lock
            known, since = self._seen.get(path, (None, 0.0))
            if known != lock:
                self._seen[path] = (lock, time.monotonic())
            elif time.monotonic() - since > limit:
                say(f"{path} has been held for {limit:.0f} s; its process must be gone: removing it")
                remove(path, lock)


def remove(path: Path, lock: tuple[int, int]) -> None:
    """Take a lock file away, if it still is the one with this inode and time; another one is given back."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        found = aside.stat()
        if (found.st_ino, found.st_mtime_ns) != lock:
            with suppress(OSError):
                os.link(aside, path)
        aside.unlink()


class Job:
    """One stage, its log and the lease on it."""

    def __init__(self, stage: str, log: Path, host: Supervisor) -> None:
        self.stage, self.log, self.host = stage, log, host
        self.lease = Lease(LEASES / quote(stage, safe="@"))
        self.watch = LockWatch()
        self.refreshed = time.monotonic()
        self.said = ""  # what is in the log

    def tick(self) -> None:
        """Keep the lease; LostError where another process has it, or may have. A folder may fail now and then."""
        try:
            if not self.lease.refresh():
                raise LostError(f"the lease on {self.stage} was lost")
            self.refreshed = time.monotonic()
            self.watch.look()
        except OSError as error:
            if time.monotonic() - self.refreshed > LIFETIME:
                raise LostError(f"the lease on {self.stage} could not be refreshed: {error}") from error

    def pause(self, seconds: float) -> None:
        """Wait with the lease."""
        self.tick()
        self.host.wait(seconds)

    def wait_for_lease(self) -> None:
        """Wait until no other process works on the stage."""
        told = False
        for pause in pauses():
            holder = self.lease.take()
            if holder in (None, self.lease.me):
                self.refreshed = time.monotonic()
                return
            if not told:
                say(f"{self.stage} is being made by {holder}: waiting")
                told = True
            self.host.wait(pause)

    def run(self, gpus: int) -> int:
        """Bring the stage up to date, once no other process works on it; DVC's exit status."""
        self.host.wait(0)  # what started it may have ended since
        while True:
            self.wait_for_lease()
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_bytes(b"")  # not before: it may be in use
            self.said = ""
            try:
                with assigned(gpus, os.environ, self.pause) as devices:
                    return self.bring_up_to_date({**os.environ, **devices})
            except LostError as lost:
                say(f"{lost}; once more")

    def bring_up_to_date(self, environment: dict[str, str]) -> int:
        """Run DVC until it is not a lock that hinders it; its exit status."""
        end = time.monotonic() + PATIENCE
        for pause in pauses():
            begun = time.time()
            status, said = self._dvc("repro", "--single-item", self.stage, environment=environment)
            if status > 0 and status not in ENDED and self._only_unrecorded(said, begun):
                say(f"{self.stage}: its command ended well, but DVC did not record it: doing so")
                status, said = self._dvc("commit", "--force", self.stage, environment=environment)
            if status == 0 or not LOCKED.search(said) or time.monotonic() > end:
                return status
            self._clear(said)
            self.pause(pause)
        raise AssertionError

    def _dvc(self, *arguments: str, environment: dict[str, str]) -> tuple[int, str]:
        """Exit status and output of a DVC command; the output goes to the end of the log."""
        with self.log.open("a+b") as output:  # once: a Snakemake that waits for the stage deletes it
            start = output.seek(0, os.SEEK_END)
            status = self.host.run([*dvc(), "--wait-for-lock", *arguments], output, environment, self.tick)
            output.seek(start)
            said = output.read().decode(errors="replace")
        self.said += said
        return status, said

    def _only_unrecorded(self, said: str, begun: float) -> bool:
        """Whether the command ran and ended well, what follows failed, and no source was changed meanwhile."""
        ran = f"Running stage '{self.stage}'" in said and "failed to run: " not in said
        return ran and not any(file.stat().st_mtime > begun for file in sources())

    def _clear(self, said: str) -> None:
        """Have DVC forget path locks of processes that are not what they were: an id given to another since."""
        gone = [(pid, command) for pid, command in HELD_BY.findall(said) if not running(int(pid), command)]
        if gone:
            forget = Path(__file__).with_name("forget.py")
            for pid, command in gone:
                subprocess.run([python(), forget, pid, command], check=False)

    def show_failure(self, status: int) -> None:
        say(f"{self.stage} failed with status {status}; the end of {self.log}:")
        say("\n".join(self.said.splitlines()[-30:]))
        left = shutil.disk_usage(self.log.parent).free
        if left < FULL:  # then the log may lack the reason
            say(f"{os.strerror(errno.ENOSPC)}: {left} bytes are left for {self.log.parent}; make room")


def python() -> Path:
    """The interpreter of the `dvc` on PATH, which has its packages; this process may have another."""
    return Path(shutil.which("dvc") or "dvc").with_name("python")


def dvc() -> list[str]:
    """DVC made to bear interruptions (see robustgen.engine); as it is, where it stands without this package."""
    return [str(python()), "-m", "robustgen.engine"] if python().exists() else ["dvc"]


def pauses() -> Iterator[float]:
    """Seconds to wait before each next try: longer and longer, never in step with others."""
    pause = 0.5
    while True:
        yield random.uniform(0.5, 1) * pause
        pause = min(1.5 * pause, PAUSE)


def running(pid: int, command: str) -> bool:
    """Whether process `pid` of this machine was started with the arguments of `command`; True where unknown."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return exists(pid)
    return command.partition(" ")[2] in " ".join(words)


def sources() -> Iterator[Path]:
    for name in SOURCES:
        path = Path(name)
        yield from [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())


def main(arguments: Sequence[str]) -> int:
    stage, log, gpus = arguments[0], Path(arguments[1]), int(arguments[2]) if arguments[2:] else 0
    with supervisor() as host:
        job = Job(stage, log, host)
        try:
            status = job.run(gpus)
        except StopError as stop:
            return stop.status
        finally:
            job.lease.release()
        if status:
            job.show_failure(status)
        return min(abs(status), 255)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
