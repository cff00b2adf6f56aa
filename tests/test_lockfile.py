"""dvc.lock as robustgen.lockfile changes it is the same as when DVC does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, modify_yaml

from robustgen.lockfile import modify_lock, split

from .workflow.conftest import ROOT

LOCK = ROOT / "dvc.lock"
Data = dict[str, Any]


def entry(number: int, words: int = 60) -> Data:
    outs = [{"path": f"data/{number}: x.npz", "hash": "md5", "md5": f"{number:032d}", "size": number}]
    return {"cmd": "exec robustgen attack " + "--option 'a b' " * words, "outs": outs}


def change(data: Data) -> None:
    for number, name in enumerate(list(data["stages"])[1:20:6]):
        data["stages"][name] = entry(number)


def add(data: Data) -> None:
    data["stages"] |= {"attack@quick/new": entry(3), "train@1e5": entry(1, 0), "0123": entry(2)}


def remove(data: Data) -> None:
    for name in [*data["stages"]][::3]:
        del data["stages"][name]


def same(data: Data) -> None:
    data["stages"] |= copy.deepcopy(dict(data["stages"]))


def other(data: Data) -> None:
    data["datasets"] = {"digits": {"url": "x"}}
    change(data)


def both(tmp_path: Path, text: str | None, edits: list[Callable[[Data], None]]) -> str:
    """The file after the edits, by us; asserts that DVC makes the same of it."""
    paths = {modify: tmp_path / modify.__name__ for modify in (modify_lock, modify_yaml)}
    for modify, path in paths.items():
        if text is not None:
            path.write_text(text)
        for edit in edits:
            with modify(str(path)) as data:
                edit(data)
    ours, theirs = (path.read_text() for path in paths.values())
    assert ours == theirs
    return ours


@pytest.fixture(scope="module")
def text() -> str:
    """Some entries of the repository's own file, as it lies there."""
    head, entries = split(LOCK.read_text())
    assert len(entries) > 20
    return head + "".join(list(entries.values())[:24])


@pytest.mark.parametrize("edit", [change, add, remove, same, other])
def test_the_same_bytes_as_by_dvc(tmp_path: Path, text: str, edit: Callable[[Data], None]) -> None:
    assert (both(tmp_path, text, [edit]) == text) is (edit is same)


def test_one_change_after_another(tmp_path: Path, text: str) -> None:
    both(tmp_path, text, [add, change, same, remove, add])


def test_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    def begin(data: Data) -> None:
        data.update({"schema": "2.0"})
        data["stages"] = {"attack@a": entry(1)}

    assert "attack@quick/new:" in both(tmp_path, None, [begin, add, change])


def test_a_damaged_file_is_dvcs_error_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "dvc.lock"
    path.write_text(text + "<<<<<<< ours\n")
    with pytest.raises(YAMLFileCorruptedError), modify_lock(str(path)):
        pytest.fail("it was read")
    assert path.read_text() == text + "<<<<<<< ours\n"
