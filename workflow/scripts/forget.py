"""forget.py PID COMMAND: take a process that is gone out of DVC's list of path locks (.dvc/tmp/rwlock)."""

from __future__ import annotations

import sys

from dvc.repo import Repo
from dvc.rwlock import _edit_rwlock


def forget(pid: int, command: str) -> None:
    gone = {"pid": pid, "cmd": command}
    with Repo() as repo:
        hardlink = repo.config["core"].get("hardlink_lock", False)
        with _edit_rwlock(repo.tmp_dir, repo.fs, hardlink) as lock:
            for path in [path for path, holder in lock["write"].items() if holder == gone]:
                del lock["write"][path]
            for path, readers in list(lock["read"].items()):
                lock["read"][path] = [reader for reader in readers if reader != gone]
                if not lock["read"][path]:
                    del lock["read"][path]


if __name__ == "__main__":
    forget(int(sys.argv[1]), sys.argv[2])
