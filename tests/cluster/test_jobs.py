"""One job of the workflow: it ends with what it works for, and keeps its lease while it waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ..workflow.conftest import ROOT, Project
from .made_up import begin, finish, log_of, made_up, recorded, repro, until

sys.path.append(str(ROOT / "workflow/scripts"))
import repro as module
from lease import LIFETIME, machine, started
from supervise import STARTER, StopError

pytestmark = pytest.mark.cluster

HELD = 'while not os.path.exists("go"): time.sleep(0.05)'
LEASE = ".cache/workflow/leases/work@s00"


def processes(project: Project) -> list[str]:
    """Command lines of the processes that work in the project's folder."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and (folder / "cwd").readlink() == project.root:
                found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
    return found


def begun(project: Project) -> bool:
    return (project.root / "calls.log").exists()


def starter(process: subprocess.Popen[Any]) -> dict[str, str]:
    return {STARTER: "\t".join([machine(), str(process.pid), started(process.pid) or ""])}


def status(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """One stage, which works until there is a file `go`."""
    return made_up(tmp_path / "project", 1, meanwhile=HELD)


def test_a_job_that_waits_leaves_the_log_to_the_one_that_works(project: Project) -> None:
    first = repro(project, "work@s00")
    until(lambda: begun(project))
    second = repro(project, "work@s00")
    assert second.stdout is not None
    assert "is being made by process" in second.stdout.readline()
    assert "Running stage 'work@s00'" in log_of(project, "work@s00")
    (project.root / "go").touch()
    finish([first, second])
    assert project.calls() == ["s00 -"]


def test_a_job_ends_with_its_starter(project: Project) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        job = repro(project, "work@s00", **starter(other))
        until(lambda: begun(project))
        other.kill()
        other.wait()
        assert status(job) == 128 + signal.SIGTERM
    until(lambda: not processes(project), 60)
    assert not (project.root / LEASE).exists()


def test_a_job_whose_starter_has_ended_before_does_nothing(project: Project) -> None:
    with subprocess.Popen(["true"]) as other:
        words = starter(other)
    job = repro(project, "work@s00", **words)
    assert status(job) == 128 + signal.SIGTERM
    assert not begun(project)


def test_a_starter_of_another_machine_is_none_of_ours(project: Project) -> None:
    (project.root / "go").touch()
    finish([repro(project, "work@s00", **{STARTER: f"node7/boot\t{2**22 + 1}\t345"})])
    assert recorded(project) == {"work@s00"}


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_chain_takes_its_stage_with_it(project: Project, kind: signal.Signals) -> None:
    chain = begin(project, sys.executable, "workflow/scripts/chain.py", "work@s00")
    until(lambda: begun(project))
    chain.send_signal(kind)
    assert status(chain) == -kind
    until(lambda: not processes(project), 60)
    assert not (project.root / "dvc.lock").exists()


@pytest.mark.parametrize(("words", "status"), [([], 2), (["--help"], 0)])
def test_chain_says_what_it_is_for(words: list[str], status: int) -> None:
    script = ROOT / "workflow/scripts/chain.py"
    done = subprocess.run([sys.executable, script, *words], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == status
    assert "chain.py STAGE...: bring DVC stages" in done.stdout + done.stderr


def test_a_job_that_loses_its_lease_stops_and_starts_again(project: Project) -> None:
    job = repro(project, "work@s00")
    until(lambda: begun(project))
    (project.root / LEASE).write_text("node7/boot/space\t12\t345\tab")  # it had been stopped for longer than LIFETIME
    assert job.stdout is not None
    assert job.stdout.readline() == "the lease on work@s00 was lost; once more\n"
    assert "is being made by process 12 on node7" in job.stdout.readline()
    assert not any("work.py" in words for words in processes(project))
    (project.root / "go").touch()
    (project.root / LEASE).unlink()  # the other is done
    finish([job])
    assert project.calls() == ["s00 -", "s00 -"]
    assert recorded(project) == {"work@s00"}


class Host:
    """A supervisor that waits for nothing, and ends the job after some waits."""

    def __init__(self, waits: int) -> None:
        self.waits = waits

    def wait(self, seconds: float) -> None:
        self.waits -= 1
        if not self.waits:
            raise StopError(signal.SIGTERM)


def test_a_job_keeps_its_lease_while_it_waits_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    job = module.Job("work@s00", tmp_path / "log", Host(waits=4))  # type: ignore[arg-type]
    kept = []
    monkeypatch.setattr(job.lease, "refresh", lambda: kept.append(1) or True)
    with module.assigned(1, os.environ), pytest.raises(StopError):
        job.run(gpus=1)
    assert len(kept) == 3


def test_a_folder_that_fails_now_and_then_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = module.Job("work@s00", tmp_path / "log", Host(waits=0))  # type: ignore[arg-type]
    assert job.lease.take() is None

    def stale(*arguments: object) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", stale)
        job.tick()
        job.refreshed -= LIFETIME + 1
        with pytest.raises(module.LostError, match=r"could not be refreshed: .*Stale file handle"):
            job.tick()
    job.tick()
    job.tick()


def test_a_lock_that_is_another_by_now_is_given_back(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("claim")
    found = lock.stat()
    module.remove(lock, (found.st_ino, found.st_mtime_ns - 1))
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    module.remove(lock, (found.st_ino, found.st_mtime_ns))
    module.remove(lock, (found.st_ino, found.st_mtime_ns))  # gone already
    assert not list(tmp_path.iterdir())


def test_another_users_process_runs_where_it_cannot_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not module.running(2**22 + 1, "dvc repro")
    monkeypatch.setattr(module, "exists", lambda pid: True)
    assert module.running(2**22 + 1, "dvc repro")
