"""A made-up DVC project of many short stages, to see how they get along with each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from ..workflow.conftest import ROOT, Project

# Writes its output after a while, and who made it to calls.log. What else it does stands in the file `meanwhile`.
WORK = """
import os, pathlib, sys, time
name = sys.argv[1]
with open("calls.log", "a") as log:
    log.write(name + " " + os.environ.get("CUDA_VISIBLE_DEVICES", "-") + chr(10))
exec(pathlib.Path("meanwhile").read_text())
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out", name + ".txt").write_text(name * 1000)
"""
# What a stage may do meanwhile: note when it began and ended, with its GPU.
USES = """
begun = time.time()
time.sleep(1)
with open("uses.log", "a") as log:
    log.write(" ".join([os.environ["CUDA_VISIBLE_DEVICES"], str(begun), str(time.time())]) + chr(10))
"""
DEFINITION = {
    "stages": {
        "work": {
            "foreach": "${work}",
            "do": {
                "cmd": "exec python3 -ES work.py ${key}",
                "deps": ["work.py", "meanwhile"],
                "outs": ["out/${key}.txt"],
            },
        }
    }
}


def made_up(root: Path, count: int, *, hardlink: bool = False, meanwhile: str = "time.sleep(0.5)") -> Project:
    """A project of `count` stages work@s00, work@s01, ..., none of which has run."""
    root.mkdir(parents=True)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_", "SNAKEMAKE_"))}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    env |= {"DVC_SITE_CACHE_DIR": str(root.parent / "site"), "SHELL": "/bin/bash", "NO_COLOR": "1"}
    project = Project(root=root, env=env)
    shutil.copytree(ROOT / "workflow/scripts", root / "workflow/scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "dvc.yaml").write_text(yaml.safe_dump(DEFINITION))
    (root / "params.yaml").write_text(yaml.safe_dump({"work": {name: {} for name in names(count)}}))
    (root / "work.py").write_text(WORK)
    (root / "meanwhile").write_text(meanwhile)
    project.run("dvc", "init", "--no-scm", "--quiet")
    for option in ("analytics false", "autostage false", f"hardlink_lock {str(hardlink).lower()}"):
        name, value = option.split()
        project.run("dvc", "config", f"core.{name}", value)
    return project


def add_snakefile(project: Project, gpus: int = 0) -> None:
    """One rule for all stages, with the workflow's profiles."""
    shutil.copytree(ROOT / "profiles", project.root / "profiles")
    common = (ROOT / "workflow/rules/common.smk").read_text()
    limit = common[common.index("sys.path.append") : common.index("def load_pipeline")].replace(OWN, "")
    runs = sorted(yaml.safe_load((project.root / "params.yaml").read_text())["work"])
    (project.root / "Snakefile").write_text(SNAKEFILE.format(limit=limit, runs=runs, gpus=gpus))


OWN = "own_programs_first()"
SNAKEFILE = """
import os, sys
from pathlib import Path
{limit}

rule all:
    input: [f"out/{{run}}.txt" for run in {runs}]

rule work:
    output: "out/{{run}}.txt"
    log: "logs/work/{{run}}.log"
    resources: gpu={gpus}, mem_mb=1000
    shell: "workflow/scripts/repro.sh work@{{wildcards.run}} {{log}} {{resources.gpu}}"

localrules: all
"""


def names(count: int) -> list[str]:
    return [f"s{number:02}" for number in range(count)]


def begin(project: Project, *command: str, **env: str) -> subprocess.Popen[str]:
    """Start a command in a project."""
    return subprocess.Popen(
        command, cwd=project.root, env=project.env | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def repro(project: Project, stage: str, gpus: int = 0, **env: str) -> subprocess.Popen[str]:
    """Start repro.sh for one stage, as the rules do."""
    log = f"logs/{stage.replace('@', '/')}.log"
    return begin(project, "workflow/scripts/repro.sh", stage, log, str(gpus), **env)


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What processes said, after their end, for which each has ten minutes. Asserts that none failed."""
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said


def recorded(project: Project) -> set[str]:
    """The stages in dvc.lock."""
    return set(yaml.safe_load((project.root / "dvc.lock").read_text())["stages"])


def log_of(project: Project, stage: str) -> str:
    return (project.root / f"logs/{stage.replace('@', '/')}.log").read_text()


def until(happened: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for something to happen; fails where it does not."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def uses(project: Project) -> list[tuple[str, float, float]]:
    lines = [line.split() for line in (project.root / "uses.log").read_text().splitlines()]
    return [(gpu, float(begun), float(ended)) for gpu, begun, ended in lines]


def most_at_once(spans: list[tuple[float, float]]) -> int:
    return max(sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans)
