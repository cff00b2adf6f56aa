from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from robustgen import records
from robustgen.io import load_json


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_record_holds_what_the_report_shows() -> None:
    with records.recorded("fetch", ["--out", "a b.npz"], "a b.npz"):
        pass
    record = load_json(records.record_path("a b.npz"))
    assert record["family"] == "fetch"
    assert record["out"] == "a b.npz"
    assert record["command"] == ["robustgen", "fetch", "--out", "a b.npz"]
    assert record["shell"] == "robustgen fetch --out 'a b.npz'"
    assert datetime.fromisoformat(record["started"]).tzinfo is not None
    assert 0 <= record["wall_seconds"] < 60
    assert record["cpu_seconds"] >= 0
    assert record["peak_memory_mb"] > 10
    assert set(record["machine"]) == {"cpu", "cores", "memory_gb", "gpu"}
    assert record["versions"]["torch"]
    assert record["versions"]["robustgen"]


def test_failure_inside_leaves_no_record() -> None:
    with pytest.raises(RuntimeError), records.recorded("fetch", [], "x"):
        raise RuntimeError
    assert not records.record_path("x").exists()


def test_record_that_cannot_be_written_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".cache").write_text("in the way")
    with records.recorded("fetch", [], "x"):
        pass
    assert capsys.readouterr().err.startswith("warning: cannot write")


def test_record_that_cannot_be_made_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> str:
        raise RuntimeError("CUDA error: unspecified launch failure")

    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=fail)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with records.recorded("fetch", [], "x"):
        pass
    assert capsys.readouterr().err == "warning: no record of x: RuntimeError: CUDA error: unspecified launch failure\n"
    assert not records.record_path("x").exists()


def test_outputs_have_records_of_their_own() -> None:
    assert records.record_path("a") != records.record_path("b")
    assert records.record_path(Path("a")) == records.record_path("a")


def test_unknown_package_has_no_version() -> None:
    assert records.versions("no-such-package-here") == {"no-such-package-here": None}


def test_processor_where_the_system_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert records.processor()


def test_gpu_is_named_where_torch_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "Some GPU")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert records.machine()["gpu"] == "Some GPU"
    cuda.is_available = lambda: False
    assert records.machine()["gpu"] is None
