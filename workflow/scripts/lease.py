"""Who works on a stage: a file that its holder keeps fresh, valid between machines that share a folder.

DVC's own locks on paths know a holder by its process id alone, which says nothing on another machine. A lease needs
only that a file can be created exclusively; one that was not refreshed for LIFETIME is void, as after a crash.
"""

from __future__ import annotations

import os
import random
import socket
import time
from pathlib import Path
from typing import NamedTuple

LIFETIME = 120.0  # seconds; a holder refreshes every few seconds, and shared folders may show that half a minute late
WRITING = 5.0  # seconds in which whoever made a lease writes his name into it
REMOVAL = 30.0  # seconds that the removal of a void lease, a matter of milliseconds, takes at most


class Holder(NamedTuple):
    """A process, told apart from every other one on any machine."""

    machine: str  # host, boot and process name space: where a process id means something
    pid: int
    started: str  # of two processes with the same id, which
    nonce: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.machine.partition('/')[0]}"


def myself() -> Holder:
    return Holder(machine(), os.getpid(), started(os.getpid()) or "", f"{random.getrandbits(64):x}")


def machine() -> str:
    """Host name, boot and process name space (two containers may share a name but not their processes)."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = [boot.read_text().strip()] if boot.exists() else []
    known += [str(space.readlink())] if space.exists() else []
    return "/".join([socket.gethostname(), *known])


def started(pid: int) -> str | None:
    """When a process of this machine started, in the kernel's units; None if it is gone; "" if it runs, but /proc does
    not show it: there is none, or it hides other users' processes.

    One that has ended, but whose parent has yet to fetch its status, is gone: in a container that may stay so.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except (FileNotFoundError, ProcessLookupError):
        return "" if exists(pid) else None


def exists(pid: int) -> bool:
    """Whether this machine has such a process, be it another user's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def written(path: Path) -> Holder | None:
    """Who has the lease at `path`; None where there is no file, or one that its writer has not filled."""
    try:
        words = path.read_text().split("\t")
        return Holder(words[0], int(words[1]), words[2], words[3])
    except (FileNotFoundError, IndexError, ValueError):
        return None


class Lease:
    """At most one holder at a time: `take` it, `refresh` it every few seconds, `release` it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.me = myself()

    def take(self) -> Holder | None:
        """Try once. None when it is ours now, else who has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(10):
            try:
                file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                holder = written(self.path)
                if holder and not self._void(holder):
                    return holder
                self._remove(holder)
                continue
            os.fchmod(file, 0o644)  # others must be able to read it, whatever the umask
            with os.fdopen(file, "w") as out:
                out.write("\t".join(map(str, self.me)))
            return None
        return Holder("", 0, "", "")

    def refresh(self) -> bool:
        """Keep it; False where it is lost (this process had been stopped for longer than LIFETIME)."""
        if written(self.path) != self.me:
            return False
        os.utime(self.path)
        return True

    def release(self) -> None:
        if written(self.path) == self.me:
            self.path.unlink(missing_ok=True)

    def _void(self, holder: Holder) -> bool:
        if holder.machine == self.me.machine and (now := started(holder.pid)) != "":
            return now != holder.started
        return self._age(self.path) > LIFETIME

    def _age(self, path: Path) -> float:
        """Seconds since a file was written or refreshed by the clock of the folder, which may differ from ours."""
        probe = self.path.with_name(f".{self.path.name}.{self.me.nonce}")
        probe.touch()
        try:
            return probe.stat().st_mtime - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _remove(self, void: Holder | None) -> None:
        """Take a void lease away, unless another process does so: it may have been replaced by then."""
        removal = self.path.with_name(f".{self.path.name}.removal")
        try:
            os.close(os.open(removal, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            if self._age(removal) > REMOVAL:  # whoever made it was killed
                removal.unlink(missing_ok=True)
            time.sleep(0.1)
            return
        try:
            # no holder: being written; a process that was killed there leaves it like this
            if written(self.path) == void and (void or self._age(self.path) > WRITING):
                self.path.unlink(missing_ok=True)
        finally:
            removal.unlink(missing_ok=True)
        if void is None:
            time.sleep(0.1)
