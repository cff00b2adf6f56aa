"""benchmarks/overhead.py: what it takes for the stages' own time, and what for the workflow's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from robustgen.pipeline import Pipeline, Stage

from .test_benchmarks import load


@pytest.fixture(scope="module")
def overhead() -> Iterator[ModuleType]:
    yield from load("overhead")


def pipeline(*, threads: int = 1) -> Pipeline:
    """Two attacks on a model, and a table of both by way of a stage that does not run."""

    def stage(name: str, *inputs: str) -> Stage:
        command = f"exec robustgen {name} --out {name}.npz --threads {threads}"
        outputs, files = (f"{name}.npz",), tuple(f"{path}.npz" for path in inputs)
        return Stage(family=name, run="x", command=command, inputs=files, outputs=outputs, stale=True)

    stages = [stage("model"), stage("a", "model"), stage("b", "model"), stage("same", "a", "b"), stage("table", "same")]
    return Pipeline(patterns={}, stages={stage.name: stage for stage in stages})


# With pauses between, while the scheduler did something else.
TIMES = {"model.npz": (10.0, 12.0), "a.npz": (13.0, 16.0), "b.npz": (14.0, 19.0), "table.npz": (25.0, 26.0)}


@pytest.fixture
def spans(overhead: ModuleType) -> dict[str, Any]:
    return {out: overhead.Span(begun, ended, 1.0) for out, (begun, ended) in TIMES.items()}


@pytest.mark.parametrize(("cores", "seconds"), [(1, 2 + 3 + 5 + 1), (2, 2 + 5 + 1), (8, 2 + 5 + 1)])
def test_ideal_time_keeps_order_and_cores(
    overhead: ModuleType, spans: dict[str, Any], cores: int, seconds: float
) -> None:
    assert overhead.ideal(pipeline(), spans, cores) == seconds


def test_stages_of_several_threads_take_several_cores(overhead: ModuleType, spans: dict[str, Any]) -> None:
    assert overhead.ideal(pipeline(threads=2), spans, 2) == overhead.ideal(pipeline(threads=9), spans, 2) == 11
    assert overhead.ideal(pipeline(threads=2), spans, 4) == 8


def test_every_command_is_noted_with_its_time(
    overhead: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "bin/robustgen"
    real.parent.mkdir()
    real.write_text('#!/bin/sh\n[ "$1" = attack ] && sleep 0.3\ntouch "$3"\n')
    real.chmod(0o755)
    monkeypatch.setenv("PATH", f"{real.parent}:{os.environ['PATH']}")
    folder = tmp_path / "stand-in"
    folder.mkdir()
    work = "robustgen attack --out 'a b' & robustgen fetch --out c; wait"
    spans = overhead.watched(folder, ["sh", "-c", f"cd {tmp_path}; {work}"])
    assert set(spans) == {"a b", "c"}
    assert (tmp_path / "a b").exists()
    assert spans["a b"].seconds >= 0.3
    assert 0 < spans["a b"].processor < spans["a b"].seconds
    real.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(subprocess.CalledProcessError) as error:
        overhead.watched(folder, ["sh", "-c", "robustgen attack --out a"])
    assert error.value.returncode == 3


def test_nothing_to_measure_is_an_error(
    overhead: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snakemake = tmp_path / "snakemake"
    snakemake.write_text("#!/bin/sh\n")
    snakemake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert overhead.main([]) == 1
    assert "nothing was stale" in capsys.readouterr().out
