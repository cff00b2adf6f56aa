"""One GPU a job: on a machine that says it has several, each job sees one, and no two see the same."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ..workflow.conftest import ROOT
from .made_up import USES, add_snakefile, begin, finish, made_up, most_at_once, names, repro, until, uses

sys.path.append(str(ROOT / "workflow/scripts"))
from gpus import assigned, pool, visible

pytestmark = pytest.mark.cluster


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_jobs_share_out_the_gpus(tmp_path: Path) -> None:
    project = made_up(tmp_path / "project", 9, meanwhile=USES)
    env = {"CUDA_VISIBLE_DEVICES": "0,1,GPU-7f,3", "TMPDIR": str(tmp_path)}
    finish([repro(project, f"work@{name}", gpus=1, **env) for name in names(9)])
    found = uses(project)
    assert {gpu for gpu, _, _ in found} <= {"0", "1", "GPU-7f", "3"}
    assert len(found) == 9
    for gpu in {gpu for gpu, _, _ in found}:
        assert most_at_once([(begun, ended) for name, begun, ended in found if name == gpu]) == 1
    assert most_at_once([(begun, ended) for _, begun, ended in found]) > 1


def test_a_killed_job_gives_its_gpu_back(tmp_path: Path) -> None:
    project = made_up(tmp_path / "project", 2, meanwhile="time.sleep(0 if sys.argv[1] == 's01' else 600)")
    env = {"CUDA_VISIBLE_DEVICES": "5", "TMPDIR": str(tmp_path)}
    first = repro(project, "work@s00", gpus=1, **env)
    until((project.root / "calls.log").exists)
    second = repro(project, "work@s01", gpus=1, **env)
    first.kill()
    first.communicate()
    finish([second])
    assert project.calls() == ["s00 5", "s01 5"]


def test_jobs_without_gpu_and_machines_without_one(here: Path) -> None:
    with assigned(0, {"CUDA_VISIBLE_DEVICES": "0,1"}) as chosen:
        assert chosen == {}
    with assigned(1, {"CUDA_VISIBLE_DEVICES": ""}) as chosen:
        assert chosen == {}
    with assigned(2, {"CUDA_VISIBLE_DEVICES": "3"}) as chosen:
        assert chosen == {}


def test_waits_for_a_free_one(here: Path) -> None:
    waited: list[float] = []
    env = {"CUDA_VISIBLE_DEVICES": "0,1"}
    first, second = assigned(1, env), assigned(1, env)
    assert {first.__enter__()["CUDA_VISIBLE_DEVICES"], second.__enter__()["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}

    def wait(seconds: float) -> None:
        waited.append(seconds)
        second.__exit__(None, None, None)

    with assigned(1, env, wait) as chosen:
        assert chosen["CUDA_VISIBLE_DEVICES"] == "1"
    assert len(waited) == 1
    first.__exit__(None, None, None)
    with assigned(2, env) as chosen:
        assert chosen["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_jobs_of_slurm_have_pools_of_their_own(here: Path) -> None:
    """SLURM may call each job's only GPU number 0."""
    one, other = ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": number} for number in ("7", "8"))
    assert pool(one) != pool(other)
    with assigned(1, one) as first, assigned(1, other) as second:
        assert first["CUDA_VISIBLE_DEVICES"] == second["CUDA_VISIBLE_DEVICES"] == "0"


def test_without_the_variable_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: H (UUID: GPU-a)'\necho 'GPU 1: H (UUID: GPU-b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible({}) == ["0", "1"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert visible({}) == []


def test_snakemake_runs_as_many_gpu_jobs_as_there_are_gpus(tmp_path: Path) -> None:
    """`snakemake --cores 8` on four GPUs (see common.smk): four at a time without another word."""
    project = made_up(tmp_path / "project", 6, meanwhile=USES)
    env = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "TMPDIR": str(tmp_path)}
    add_snakefile(project, gpus=1)
    finish([begin(project, "snakemake", "--cores", "8", **env)])
    found = uses(project)
    assert len(found) == 6
    assert most_at_once([(begun, ended) for _, begun, ended in found]) <= 4
    for gpu in "0123":
        spans = [(begun, ended) for name, begun, ended in found if name == gpu]
        assert not spans or most_at_once(spans) == 1
