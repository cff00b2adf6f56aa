"""What the workflow's DVC does otherwise than plain DVC; tests/faults/test_engine.py has it at work."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dvc.fs import localfs
from dvc.rwlock import _edit_rwlock
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_objects.errors import ObjectFormatError
from dvc_objects.fs.local import LocalFileSystem

from robustgen.engine import check_content, edit_whole, modify_whole


@contextmanager
def modify(path: str, fs: Any = None) -> Iterator[list[str]]:
    """Writes in place, half of it before all of it, as DVC's `modify_yaml` may."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    yield lines
    Path(path).write_text(f"{lines[0]}\n")
    if "fail" in lines:
        raise RuntimeError
    Path(path).write_text("\n".join(lines))


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "list"
    with modify_whole(modify)(str(file)) as lines:
        lines.extend(["a", "b"])
    with modify_whole(modify)(str(file)) as lines:
        assert lines == ["a", "b"]
        lines.append("c")
        assert file.read_text() == "a\nb"
    assert file.read_text() == "a\nb\nc"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("a\nb")
    with pytest.raises(RuntimeError), modify_whole(modify)(str(file)) as lines:
        lines.append("fail")
    assert file.read_text() == "a\nb"
    assert list(tmp_path.iterdir()) == [file]


edit = edit_whole(_edit_rwlock)


@pytest.mark.parametrize("content", ["", '{"write": {"models/a', "{}"])
def test_path_locks_that_were_cut_short_count_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "rwlock").write_text(content)
    with edit(str(tmp_path), localfs, False) as locks:
        assert not locks["write"]
        locks["write"]["models/b"] = {"pid": 1, "cmd": "dvc repro"}
    with edit(str(tmp_path), localfs, False) as locks:
        assert list(locks["write"]) == ["models/b"]


def test_a_failure_leaves_the_path_locks(tmp_path: Path) -> None:
    with edit(str(tmp_path), localfs, False) as locks:
        locks["write"]["models/a"] = {"pid": 1, "cmd": "dvc repro"}
    with pytest.raises(TypeError), edit(str(tmp_path), localfs, False) as locks:
        locks["write"]["models/b"] = object()  # JSON cannot hold it
    assert list(json.loads((tmp_path / "rwlock").read_text())["write"]) == ["models/a"]
    assert not list(tmp_path.glob("*.part"))


HELLO = "5d41402abc4b2a76b9719d911017c592"  # md5 of "hello"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHashFileDB:
    """A cache with one object in it, write-protected as DVC leaves them."""
    monkeypatch.setattr(LocalHashFileDB, "check", check_content)
    cache = LocalHashFileDB(LocalFileSystem(), str(tmp_path), hash_name="md5")
    path = Path(cache.oid_to_path(HELLO))
    path.parent.mkdir()
    path.write_text("hello")
    path.chmod(0o444)
    return cache


def test_a_sound_object_passes(cache: LocalHashFileDB) -> None:
    cache.check(HELLO)
    assert Path(cache.oid_to_path(HELLO)).read_text() == "hello"


def test_a_damaged_object_is_removed(cache: LocalHashFileDB) -> None:
    path = Path(cache.oid_to_path(HELLO))
    path.chmod(0o644)
    path.write_text("hallo")
    path.chmod(0o444)
    assert stat.S_IMODE(path.stat().st_mode) == LocalHashFileDB.CACHE_MODE, "which plain DVC trusts"
    with pytest.raises(ObjectFormatError):
        cache.check(HELLO)
    assert not path.exists()
