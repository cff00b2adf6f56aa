"""Who works on a stage: a file that its holder keeps fresh, valid between machines that share a folder.

DVC's own locks on paths know a holder by its process id alone, which says nothing on another machine. A lease needs
only that a file can be created exclusively; one that was not refreshed for LIFETIME is void, as after a crash.
"""

from __future__ import annotations

import os
import random
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LIFETIME = 120.0  # seconds; a holder refreshes every few seconds, and shared folders may show that half a minute late


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
    """When a process of this machine started, in the kernel's units; "" where /proc is missing; None if it is gone."""
    if not Path("/proc/self/stat").exists():
        return "" if _exists(pid) else None
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _exists(pid: int) -> bool:
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
        if holder.machine == self.me.machine:
            return started(holder.pid) != holder.started
        return self._age() > LIFETIME

    def _age(self) -> float:
        """Seconds since the last refresh by the clock of the folder's machine, which may differ from ours."""
        probe = self.path.with_name(f".{self.path.name}.{self.me.nonce}")
        probe.touch()
        try:
            return probe.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _remove(self, void: Holder | None) -> None:
        """Take a void lease away, and give it back where another had replaced it meanwhile."""
        if void is None and self._age() < 5:  # being written; a process that was killed there leaves it like this
            time.sleep(0.1)
            return
        aside = self.path.with_name(f".{self.path.name}.{self.me.nonce}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        if written(aside) != void:
            with suppress(FileExistsError):
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)
