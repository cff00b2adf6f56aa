"""A SLURM of two nodes (see slurm.sh), and a real part of `quick` that takes seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..workflow.conftest import ROOT, Project, commit, empty

__all__ = ["empty"]

SCRIPT = Path(__file__).with_name("slurm.sh")
TARGET = "data/detection/quick/robust-generative/digits8.npz"
TINY = {
    "fetch": ("quick/digits8",),
    "train-classifier": ("quick/digits8-natural",),
    "attack": ("quick/robust-generative/digits8/pgd", "quick/robust-generative/digits8/pgd-strong"),
    "detect": ("quick/robust-generative/digits8",),
}


@dataclass(frozen=True)
class Cluster:
    """A running SLURM."""

    env: dict[str, str]

    def run(self, *command: str) -> str:
        done = subprocess.run(command, env=os.environ | self.env, check=True, capture_output=True, text=True)
        return done.stdout

    def jobs(self, field: str) -> dict[str, str]:
        """A field of every job, by job id; see FORMAT in squeue's manual."""
        lines = self.run("squeue", "--states=all", "--noheader", f"--format=%i|{field}").splitlines()
        return {job: value for job, _, value in (line.partition("|") for line in lines)}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.getuid() != 0:
        pytest.skip("a SLURM of one's own needs root")
    if subprocess.run(["unshare", "--mount", "--uts", "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("its nodes need name spaces of their own, which this container does not allow")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPT, "install"], check=True)
    subprocess.run([SCRIPT, "start", folder], check=True)
    yield Cluster(env={"SLURM_CONF": str(folder / "slurm.conf")})
    subprocess.run([SCRIPT, "stop", folder], check=True)
    assert not daemons(folder), "everything that was started has ended"


def daemons(folder: Path) -> list[str]:
    """Command lines of the processes that name the folder or use its configuration."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and process.name != str(os.getpid()):
            found.append((process / "comm").read_text().strip())
    return [name for name in found if name.startswith(("slurm", "munge"))]


@pytest.fixture
def tiny(empty: Project, tmp_path: Path) -> Project:
    """The real stages of TINY, two epochs and short attacks, nothing made yet."""
    root = tmp_path / "tiny"
    empty.copy(root)
    shutil.rmtree(root / "src")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (root / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    programs = os.pathsep.join(empty.env["PATH"].split(os.pathsep)[1:])  # without the stand-in for `robustgen`
    env = empty.env | {"PATH": programs, "PYTHONPATH": str(root / "src"), "SHELL": "/bin/bash"}
    project = Project(root=root, env=env)
    shutil.copy(ROOT / "params.yaml", root)
    params = project.params()
    for family, runs in params.items():
        if isinstance(runs, dict):
            params[family] = {run: item for run, item in runs.items() if run in TINY.get(family, ())}
    for item in params["train-classifier"].values():
        item["recipe"] |= {"epochs": 2, "milestones": []}
    for item in params["attack"].values():
        item["attack"]["steps"] = 3
    project.write_params(params)
    commit(project)
    return project
