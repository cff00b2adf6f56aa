"""Many stages at once in one checkout: nothing is lost, nothing fails for a lock, nothing is made twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ..workflow.conftest import Project, empty
from .made_up import begin, finish, log_of, made_up, names, recorded, repro, until

__all__ = ["empty"]

pytestmark = pytest.mark.cluster

CLEAN = "Data and pipelines are up to date"
HELD = 'while not os.path.exists("go"): time.sleep(0.05)'


@pytest.mark.parametrize("hardlink", [False, True], ids=["flock", "hardlink"])
def test_sixty_four_stages_at_once(tmp_path: Path, hardlink: bool) -> None:
    project = made_up(tmp_path / "project", 64, hardlink=hardlink)
    finish([repro(project, f"work@{name}") for name in names(64)])
    assert sorted(call.split()[0] for call in project.calls()) == names(64)
    assert recorded(project) == {f"work@{name}" for name in names(64)}
    assert CLEAN in project.run("dvc", "status")
    assert not list((project.root / ".cache/workflow/leases").iterdir())


def test_whole_workflow_on_sixty_four_cores(empty: Project, tmp_path: Path) -> None:
    project = empty.copy(tmp_path / "repository")
    shown = project.run("snakemake", "--cores", "64")
    calls = project.calls()
    assert len(calls) == len(set(calls)) > 20
    assert "Error" not in shown
    assert CLEAN in project.run("dvc", "status")


def test_two_snakemakes_at_once(empty: Project, tmp_path: Path) -> None:
    """Neither has a lock on the folder (see profiles/default): one may be told to wait, no stage is made twice."""
    project = empty.copy(tmp_path / "repository")
    command = ("snakemake", "--cores", "2", "results/quick/robust-generative/table1.csv")
    both = [begin(project, *command) for _ in range(2)]
    said = [process.communicate(timeout=600)[0] for process in both]
    for process, words in zip(both, said, strict=True):
        assert process.returncode == 0 or "another DVC process works here" in words, words
    assert min(process.returncode for process in both) == 0
    calls = project.calls()
    assert len(calls) == len(set(calls)) > 3
    assert "Nothing to be done" in project.run(*command)


def test_one_stage_asked_for_by_many_is_made_once(tmp_path: Path) -> None:
    project = made_up(tmp_path / "project", 1)
    said = finish([repro(project, "work@s00") for _ in range(4)])
    assert project.calls() == ["s00 -"]
    assert sum("is being made by process" in words for words in said) == 3


def test_waits_for_a_plain_dvc_that_runs_the_stage(tmp_path: Path) -> None:
    project = made_up(tmp_path / "project", 1, meanwhile=HELD)
    plain = begin(project, "dvc", "repro", "work@s00")
    until((project.root / "calls.log").exists)
    ours = repro(project, "work@s00")
    until(lambda: "is busy" in log_of(project, "work@s00") if (project.root / "logs/work/s00.log").exists() else False)
    (project.root / "go").touch()
    finish([plain, ours])
    assert project.calls() == ["s00 -"]


def test_a_lock_that_names_a_process_id_given_to_another_since(tmp_path: Path) -> None:
    project = made_up(tmp_path / "project", 1)
    held = {str(project.root / "out/s00.txt"): {"pid": os.getpid(), "cmd": "/bin/dvc repro work@s00"}}
    (project.root / ".dvc/tmp").mkdir(exist_ok=True)
    (project.root / ".dvc/tmp/rwlock").write_text(json.dumps({"write": held}))
    finish([repro(project, "work@s00")])
    assert "is busy" in log_of(project, "work@s00")
    assert recorded(project) == {"work@s00"}


def test_a_result_that_dvc_cannot_record_is_recorded_and_not_made_again(tmp_path: Path) -> None:
    """Another machine's DVC takes the lock of a stage away whose process it cannot see; DVC then fails at its end."""
    project = made_up(tmp_path / "project", 1, meanwhile='pathlib.Path(".dvc/tmp/rwlock").write_text("{}")')
    said = finish([repro(project, "work@s00")])
    assert "its command ended well, but DVC did not record it" in said[0]
    assert project.calls() == ["s00 -"]
    assert CLEAN in project.run("dvc", "status")


def test_a_source_changed_meanwhile_is_not_recorded_with_the_old_result(tmp_path: Path) -> None:
    change = """
if not os.path.exists("src"):
    pathlib.Path(".dvc/tmp/rwlock").write_text("{}")
    time.sleep(0.1)
    os.mkdir("src")
    pathlib.Path("src/changed.py").touch()
    os.utime("work.py")
"""
    project = made_up(tmp_path / "project", 1, meanwhile=change)
    process = repro(project, "work@s00")
    said = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "work@s00 failed" in said
    assert not (project.root / "dvc.lock").exists()


def test_a_command_that_fails_is_not_tried_again(tmp_path: Path) -> None:
    project = made_up(tmp_path / "project", 1, meanwhile='sys.exit("no such digit")')
    process = repro(project, "work@s00")
    assert "no such digit" in process.communicate(timeout=120)[0]
    assert process.returncode == 255
    assert len(project.calls()) == 1


def test_a_hard_link_lock_left_by_a_killed_process_is_removed(tmp_path: Path) -> None:
    project = made_up(tmp_path / "project", 1, hardlink=True)
    folder = project.root / ".dvc/tmp"
    (folder / "claim.lock").write_text("claim.lock")
    os.link(folder / "claim.lock", folder / "lock")
    far = 365 * 86400
    os.utime(folder / "lock", (os.stat(folder / "lock").st_mtime + far,) * 2)  # noqa: PTH116
    command = (
        "import sys; sys.path.insert(0, 'workflow/scripts'); import repro, pathlib;"
        "repro.LOCKS = {pathlib.Path('.dvc/tmp/lock'): 1.0};"
        "sys.exit(repro.main(['work@s00', 'logs/work/s00.log']))"
    )
    said = finish([begin(project, sys.executable, "-c", command)])
    assert ".dvc/tmp/lock has been held" in said[0]
    assert recorded(project) == {"work@s00"}


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="a process name space needs root")
def test_dvc_status_on_another_machine_does_no_harm(tmp_path: Path) -> None:
    project = made_up(tmp_path / "project", 1, meanwhile=HELD)
    job = repro(project, "work@s00")
    until((project.root / "calls.log").exists)
    shown = project.run("unshare", "--pid", "--fork", "--mount-proc", "dvc", "status")
    assert "had been killed" in shown, "the case is there: DVC took the lock away"
    (project.root / "go").touch()
    finish([job])
    assert project.calls() == ["s00 -"]
    assert CLEAN in project.run("dvc", "status")


def test_the_plan_is_made_without_touching_the_locks_of_running_stages(tmp_path: Path) -> None:
    from robustgen.errors import UserError
    from robustgen.pipeline import ask_dvc

    project = made_up(tmp_path / "project", 2, meanwhile=HELD)
    job = repro(project, "work@s00")
    until((project.root / "calls.log").exists)
    before = (project.root / ".dvc/tmp/rwlock").read_text()
    with pytest.raises(UserError, match="another DVC process works here"):
        ask_dvc(project.root)
    assert ask_dvc(project.root, beside_others=True).stale() == ["work@s00", "work@s01"]
    assert (project.root / ".dvc/tmp/rwlock").read_text() == before != "{}"
    (project.root / "go").touch()
    finish([job])


@pytest.mark.parametrize("hardlink", [False, True], ids=["flock", "hardlink"])
def test_chains_that_share_stages(tmp_path: Path, hardlink: bool) -> None:
    """Several that run at once what `dvc repro` would: each stage is made once, whoever comes first."""
    project = made_up(tmp_path / "project", 2, hardlink=hardlink)
    definition = yaml.safe_load((project.root / "dvc.yaml").read_text())
    definition["stages"]["sum"] = {
        "foreach": {name: {} for name in "abc"},
        "do": {"cmd": "cat out/*.txt > ${key}.txt", "deps": ["out/s00.txt", "out/s01.txt"], "outs": ["${key}.txt"]},
    }
    (project.root / "dvc.yaml").write_text(yaml.safe_dump(definition))
    chain = [sys.executable, "workflow/scripts/chain.py"]
    finish([begin(project, *chain, f"sum@{name}") for name in "abc"])
    assert sorted(project.calls()) == ["s00 -", "s01 -"]
    assert recorded(project) == {"work@s00", "work@s01", "sum@a", "sum@b", "sum@c"}
    assert CLEAN in project.run("dvc", "status")
    assert subprocess.run([*chain, "sum@z"], cwd=project.root, env=project.env, check=False).returncode == 1


@pytest.mark.parametrize("hardlink", [False, True], ids=["flock", "hardlink"])
def test_plain_dvc_at_once(tmp_path: Path, hardlink: bool) -> None:
    """Several `dvc --wait-for-lock repro` get along on one machine as long as no two need the same stale stage: the
    second is told so and ends, with either kind of lock. That is what chain.py is for."""
    project = made_up(tmp_path / "project", 3, hardlink=hardlink, meanwhile=HELD)
    plain = ["dvc", "--wait-for-lock", "repro"]
    processes = [begin(project, *plain, f"work@{name}") for name in names(3)]
    until(lambda: (project.root / "calls.log").exists() and len(begun(project)) == 3)
    assert "is busy" in project.run(*plain, "work@s01", ok=False)
    (project.root / "go").touch()
    finish(processes)
    assert sorted(begun(project)) == names(3)
    assert recorded(project) == {f"work@{name}" for name in names(3)}
    assert CLEAN in project.run("dvc", "status")


def begun(project: Project) -> list[str]:
    """The stages whose commands have begun, in order."""
    return [line.split()[0] for line in (project.root / "calls.log").read_text().splitlines()]
