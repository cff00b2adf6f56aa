"""The workflow on a real SLURM whose two nodes cannot see each other's processes."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest
import yaml

from ..workflow.conftest import Project
from .conftest import TARGET, TINY, Cluster
from .made_up import USES, add_snakefile, begin, finish, made_up, most_at_once, names, recorded, uses

pytestmark = pytest.mark.cluster

PROFILE = ("--profile", "profiles/slurm")
HUNGRY = """
import os, sys, time
eaten = bytearray(500_000_000)
time.sleep(4)
os.execv("{stage}", ["robustgen", *sys.argv[1:]])
"""
STAGES = {f"{family}@{run}" for family, runs in TINY.items() for run in runs}
RULES = {"fetch": (4000, 60), "train_classifier": (8000, 1440), "attack": (8000, 480), "detect": (16000, 240)}


def outputs(project: Project) -> dict[str, bytes]:
    """Everything stages made."""
    files = [path for folder in ("data", "models", "results") for path in (project.root / folder).rglob("*")]
    return {str(path.relative_to(project.root)): path.read_bytes() for path in files if path.is_file()}


def lock_of(project: Project) -> dict[str, object]:
    return dict(yaml.safe_load((project.root / "dvc.lock").read_text()))


def new_jobs(cluster: Cluster, before: dict[str, str], field: str) -> list[str]:
    return sorted(value for job, value in cluster.jobs(field).items() if job not in before)


def test_results_are_those_of_a_local_run(tiny: Project, cluster: Cluster, tmp_path: Path) -> None:
    local, remote = tiny.copy(tmp_path / "local"), tiny.copy(tmp_path / "remote")
    local.run("snakemake", "--cores", "2", TARGET, PYTHONPATH=str(local.root / "src"))
    before = cluster.jobs("%i")
    remote.run("snakemake", *PROFILE, TARGET, PYTHONPATH=str(remote.root / "src"), **cluster.env)

    made = outputs(local)
    assert TARGET in made
    assert outputs(remote) == made
    assert recorded(remote) == recorded(local) == STAGES
    assert lock_of(remote) == lock_of(local), "but for the order, which is that of the jobs' ends"
    assert new_jobs(cluster, before, "%T") == ["COMPLETED"] * len(STAGES)
    asked = {tuple(row.split("|")) for row in new_jobs(cluster, before, "%C|%m|%l|%k")}
    assert {(cpus, memory, limit, note.split("_wildcards")[0]) for cpus, memory, limit, note in asked} == {
        ("1", f"{memory}M", duration(minutes), f"rule_{rule}") for rule, (memory, minutes) in RULES.items()
    }
    for rule in RULES:
        assert list((remote.root / f"logs/slurm/rule_{rule}").rglob("*.log"))
    assert "hardlink_lock = true" in (remote.root / ".dvc/config.local").read_text()
    assert not list((remote.root / ".dvc/tmp").glob("*lock.lock"))
    assert remote.planned_by_snakemake(TARGET) == set()


def duration(minutes: int) -> str:
    """As squeue writes it."""
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    return f"{days}-{hours:02}:{rest:02}:00" if days else f"{hours}:{rest:02}:00"


def test_many_short_stages(cluster: Cluster, tmp_path: Path, record_property: pytest.FixtureRequest) -> None:
    """No stage is lost or made twice; says how many SLURM gets through in a minute."""
    project = made_up(tmp_path / "project", 32, hardlink=True, meanwhile="pass")
    add_snakefile(project)
    begun = time.monotonic()
    project.run("snakemake", *PROFILE, **cluster.env)
    per_minute = 32 * 60 / (time.monotonic() - begun)
    print(f"{per_minute:.0f} stages a minute through SLURM")
    record_property("stages a minute", per_minute)  # type: ignore[operator]
    assert sorted(call.split()[0] for call in project.calls()) == names(32)
    assert recorded(project) == {f"work@{name}" for name in names(32)}
    assert "Data and pipelines are up to date" in project.run("dvc", "status")


def test_each_job_has_a_gpu_of_its_own(cluster: Cluster, tmp_path: Path) -> None:
    """On two nodes of two each: six jobs, of which some have to wait."""
    gpu = 'os.environ["SLURMD_NODENAME"] + "/" + os.environ["CUDA_VISIBLE_DEVICES"]'
    meanwhile = USES.replace('os.environ["CUDA_VISIBLE_DEVICES"]', gpu).replace("sleep(1)", "sleep(3)")
    project = made_up(tmp_path / "project", 6, hardlink=True, meanwhile=meanwhile)
    add_snakefile(project, gpus=1)
    before = cluster.jobs("%i")
    project.run("snakemake", *PROFILE, **cluster.env)
    found = uses(project)
    assert len(found) == 6
    assert {name.partition("/")[2] for name, _, _ in found} <= {"0", "1"}
    for name in {name for name, _, _ in found}:
        assert most_at_once([(begun, ended) for each, begun, ended in found if each == name]) == 1
    assert new_jobs(cluster, before, "%b") in (["gres:gpu:1"] * 6, ["N/A"] * 6)


def test_a_job_killed_for_memory_gets_more(empty: Project, cluster: Cluster, tmp_path: Path) -> None:
    project = empty.copy(tmp_path / "repository")
    rules = project.root / "workflow/rules/fetch.smk"
    rules.write_text(rules.read_text().replace("memory(4000)", "memory(600)"))
    stage = shutil.which("robustgen", path=project.env["PATH"])
    hungry = tmp_path / "bin/robustgen"
    hungry.parent.mkdir()
    hungry.write_text(f"#!{sys.executable}\n{HUNGRY.format(stage=stage)}")
    hungry.chmod(0o755)
    before = cluster.jobs("%i")
    env = cluster.env | {"PATH": f"{hungry.parent}:{project.env['PATH']}"}
    shown = project.run("snakemake", *PROFILE, "data/images/quick/digits32.npz", **env)
    assert "Trying to restart job" in shown
    assert new_jobs(cluster, before, "%m") == ["1200M", "600M"]
    assert recorded(project) == {"fetch@quick/digits32"}


def test_several_chains_through_sbatch(cluster: Cluster, tmp_path: Path) -> None:
    """What `dvc repro` does, by several jobs on both nodes at once that need the same stages."""
    project = made_up(tmp_path / "project", 3, hardlink=True)
    definition = yaml.safe_load((project.root / "dvc.yaml").read_text())
    definition["stages"]["sum"] = {
        "foreach": {name: {} for name in "abcd"},
        "do": {"cmd": "cat out/*.txt > ${key}.txt", "deps": [f"out/{n}.txt" for n in names(3)], "outs": ["${key}.txt"]},
    }
    (project.root / "dvc.yaml").write_text(yaml.safe_dump(definition))
    submit = ["sbatch", "--wait", "--mem=1000", "--output=sbatch-%j.log"]
    chain = f"{sys.executable} workflow/scripts/chain.py"
    finish(
        [
            begin(project, *submit, f"--nodelist=node{1 + number % 2}", f"--wrap={chain} sum@{name}", **cluster.env)
            for number, name in enumerate("abcd")
        ]
    )
    assert sorted(call.split()[0] for call in project.calls()) == names(3)
    assert recorded(project) == {f"work@{name}" for name in names(3)} | {f"sum@{name}" for name in "abcd"}
    assert "Data and pipelines are up to date" in project.run("dvc", "status")
