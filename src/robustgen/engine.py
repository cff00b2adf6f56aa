"""DVC as the workflow starts it: `python -m robustgen.engine ARGUMENTS` is `dvc ARGUMENTS`, made to bear interruptions.

It ends with the process that started it. It replaces dvc.lock and the list of path locks as a whole: DVC writes them in
place, which takes seconds where dvc.lock is large, and a kill or a full disk would then leave a part of them. And it
looks into objects of the cache before it takes them out: DVC trusts those that are write-protected.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import StringIO
from pathlib import Path
from typing import IO, Any

from robustgen.io import atomic
from robustgen.lifeline import end_with, leave_tidily
from robustgen.lockfile import modify_lock

Modify = Callable[..., AbstractContextManager[Any]]
Edit = Callable[[str, Any, bool], AbstractContextManager[Any]]


def main() -> int:
    """Run DVC with the arguments of this process; its exit status."""
    leave_tidily()
    end_with(os.getppid())
    sys.argv[0] = "robustgen.engine"  # DVC writes it into its locks; so `ps` shows the same words
    from dvc import cli, dvcfile, rwlock
    from dvc_data.hashfile.db.local import LocalHashFileDB

    dvcfile.modify_yaml = modify_whole(dvcfile.modify_yaml)
    rwlock._edit_rwlock = edit_whole(rwlock._edit_rwlock)
    LocalHashFileDB.check = check_content  # type: ignore[method-assign]
    status: int = cli.main()
    return status


def modify_whole(modify: Modify) -> Modify:
    """DVC's `modify_yaml`, at work on a copy that takes the file's place once it is complete."""

    @contextmanager
    def modify_copy(path: str, fs: Any = None) -> Iterator[Any]:
        with atomic(path) as copy:
            if Path(path).exists():
                copy.write_bytes(Path(path).read_bytes())
            change = modify_lock if Path(path).name == "dvc.lock" else modify
            with change(os.fspath(copy)) as data:
                yield data

    return modify_copy


def edit_whole(edit: Edit) -> Edit:
    """DVC's `_edit_rwlock`, at work on the list of path locks through WholeFiles."""

    def edit_through(folder: str, fs: Any, hardlink: bool) -> AbstractContextManager[Any]:
        return edit(folder, WholeFiles(fs), hardlink)

    return edit_through


class WholeFiles:
    """A file system of JSON files that are replaced as a whole, and in which one that was cut short is missing."""

    def __init__(self, fs: Any) -> None:
        self.join = fs.join

    @contextmanager
    def open(self, path: str, mode: str = "r", encoding: str = "utf-8") -> Iterator[IO[str]]:
        if mode == "w":
            with atomic(path) as copy, copy.open("w", encoding=encoding) as file:
                yield file
            return
        text = Path(path).read_text(encoding)
        try:
            json.loads(text)
        except ValueError:
            raise FileNotFoundError(path) from None
        yield StringIO(text)


def check_content(self: Any, oid: str, check_hash: bool = True, _info: Any = None) -> Any:
    """DVC's `check` of a cache object, by its content: not by its mode, nor by what is remembered of it.

    An object that is not what its name says is removed and counts as missing.
    """
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.state import StateNoop

    remembered, self.state = self.state, StateNoop()
    try:
        return HashFileDB.check(self, oid, check_hash, _info)
    finally:
        self.state = remembered


if __name__ == "__main__":
    sys.exit(main())
