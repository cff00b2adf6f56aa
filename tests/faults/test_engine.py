"""dvc.lock survives whoever writes it; a stage does not survive the DVC that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ..workflow.conftest import Project
from .harness import GRACE, PATIENCE, marked, started, until
from .test_storage import MAKE, STAGES, UP_TO_DATE, lock, made, project

__all__ = ["made", "project"]

pytestmark = pytest.mark.faults

TARGET = "train-classifier@quick/digits32-natural"
# DVC, killed when half of a lock file is written.
KILLED = """
import os, signal
from dvc.utils.serialize import _common

def dump(path, data, dumper, fs=None, **kwargs):
    with open(path, "w") as file:
        dumper(data, file)
        file.truncate(file.tell() // 2)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

_common._dump_data = dump
"""
BY = {"engine": "from robustgen.engine import main; main()", "dvc": "from dvc.cli import main; main()"}


def killed_while_recording(project: Project, by: str) -> None:
    words = [sys.executable, "-c", KILLED + BY[by], "repro", "--force", "--single-item", TARGET]
    done = subprocess.run(words, check=False, cwd=project.root, env=project.env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_while_recording(project: Project, made: Project) -> None:
    killed_while_recording(project, "engine")
    assert lock(project) == lock(made)
    project.run(*MAKE)
    assert UP_TO_DATE in project.run("dvc", "status", *STAGES)


def test_way_out_of_a_lock_file_cut_short(project: Project, made: Project) -> None:
    """Plain DVC writes in place; git has the last whole one, and the cache what was computed since."""
    killed_while_recording(project, "dvc")
    assert len((project.root / "dvc.lock").read_bytes()) < len((made.root / "dvc.lock").read_bytes())
    said = project.run(*MAKE, ok=False)
    assert "git checkout dvc.lock" in said
    project.run("git", "checkout", "dvc.lock")
    project.run(*MAKE)
    assert lock(project) == lock(made)


@pytest.mark.parametrize("by", ["plain", "engine"])
def test_stage_ends_with_the_dvc_that_started_it(project: Project, by: str) -> None:
    program = ["dvc"] if by == "plain" else [sys.executable, "-m", "robustgen.engine"]
    mark = f"engine-{os.getpid()}-{by}"
    (project.root / "hold").touch()  # the stage never ends by itself

    def stages() -> list[int]:
        return [process.pid for process in marked(mark) if process.runs("robustgen")]

    with started(project, [*program, "repro", "--force", "--single-item", TARGET], mark) as process:
        assert until(stages, PATIENCE)
        process.kill()
        process.wait()
        assert until(lambda: not marked(mark), GRACE), "the stage runs on"


def test_engine_ends_with_what_started_it(project: Project) -> None:
    mark = f"engine-{os.getpid()}"
    (project.root / "hold").touch()
    script = f"{sys.executable} -m robustgen.engine repro --force --single-item {TARGET}; true"
    with started(project, ["bash", "-c", script], mark) as process:
        assert until(lambda: any(each.runs("robustgen") for each in marked(mark)), PATIENCE)
        process.kill()
        process.wait()
        assert until(lambda: not marked(mark), GRACE), f"left behind: {marked(mark)}"


def test_engine_is_dvc(project: Project) -> None:
    assert UP_TO_DATE in project.run(sys.executable, "-m", "robustgen.engine", "status", *STAGES)
    project.run(sys.executable, "-m", "robustgen.engine", "nonsense", ok=False)
