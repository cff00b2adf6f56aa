"""A small copy of the repository whose `robustgen` command does nothing but write files, so that the real Snakefile,
dvc.yaml, Snakemake and DVC can be watched at work in seconds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAPERS = ("adp", "robust-generative")  # two are enough to see the report wait for
COPIED = ["Snakefile", "workflow", "profiles", "dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", ".dvc/config"]

# Writes every output of its stage. The content follows from the command line and from what the files it names hold,
# as that of a real stage does. An option `--fail` in the environment variable FAIL's stage makes it fail.
FAKE = """#!{python}
import hashlib, os, pathlib, re, sys, time
import yaml

command = " ".join(sys.argv[1:])
with open("calls.log", "a") as log:
    log.write(command + chr(10))
family, out = sys.argv[1], sys.argv[sys.argv.index("--out") + 1]
template = yaml.safe_load(open("dvc.yaml"))["stages"][family]["do"]
pattern = re.search(r"--out (\\\\S+)", template["cmd"])[1]
run = re.fullmatch(re.escape(pattern).replace(re.escape("${{key}}"), "(.+)"), out)[1]
if os.environ.get("FAIL") == family + "@" + run:
    sys.exit("the fake stage was told to fail")
state = hashlib.sha256(command.encode())
for word in sys.argv[2:]:
    path = pathlib.Path(word)
    for file in [path] if path.is_file() else sorted(path.rglob("*.npz")):
        state.update(file.read_bytes())
for section in ("outs", "metrics", "plots"):
    for entry in template.get(section, []):
        path = entry if isinstance(entry, str) else next(iter(entry))
        target = pathlib.Path(path.replace("${{key}}", run))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{{target}},{{state.hexdigest()}}" + chr(10))
"""


@dataclass(frozen=True, kw_only=True)
class Project:
    """A checkout to run commands in."""

    root: Path
    env: dict[str, str]

    def run(self, *command: str, ok: bool = True, **env: str) -> str:
        """Run a command; its stdout and stderr. Asserts that it succeeds, or with `ok=False` that it fails."""
        done = subprocess.run(command, check=False, cwd=self.root, env=self.env | env, capture_output=True, text=True)
        shown = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, shown
        return shown

    def planned_by_snakemake(self, *targets: str) -> set[str]:
        """The stages `snakemake -n` would run."""
        return set(re.findall(r"repro\.sh (\S+)", self.run("snakemake", "-n", "-p", *targets)))

    def planned_by_dvc(self) -> set[str]:
        """The stages `dvc repro --dry` would run, and those after them, as Snakemake names them too.

        --no-run-cache, because a dry run that looks for a stage in the run-cache fails where a dependency is missing.
        """
        shown = self.run("dvc", "repro", "--dry", "--force-downstream", "--no-run-cache")
        return set(re.findall(r"Running stage '([^']+)'", shown))

    def stale(self) -> set[str]:
        """The stages `dvc status` lists: changed themselves, or reading what is missing."""
        return set(json.loads(self.run("dvc", "status", "--json")))

    def calls(self) -> list[str]:
        """Command lines of `robustgen` since the last call of this, in order."""
        log = self.root / "calls.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def params(self) -> dict[str, Any]:
        return dict(yaml.safe_load((self.root / "params.yaml").read_text()))

    def write_params(self, params: dict[str, Any]) -> None:
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def copy(self, root: Path) -> Project:
        """The same checkout at another place, with the cache of this one."""
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root=root, env=self.env)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The repository's workflow with few stages, nothing made yet."""
    base = tmp_path_factory.mktemp("workflow")
    fake = base / "bin/robustgen"
    fake.parent.mkdir()
    fake.write_text(FAKE.format(python=sys.executable).replace("\\\\", "\\"))
    fake.chmod(0o755)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_", "SNAKEMAKE_"))}
    env["PATH"] = os.pathsep.join([str(fake.parent), str(Path(sys.executable).parent), env["PATH"]])
    env |= {"DVC_SITE_CACHE_DIR": str(base / "site"), "XDG_CACHE_HOME": str(base / "cache"), "SHELL": "/bin/bash"}
    env |= {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "NO_COLOR": "1", "COLUMNS": "400"}
    project = Project(root=base / "repository", env=env)
    for name in COPIED:
        target = project.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    definition = (project.root / "dvc.yaml").read_text()
    (project.root / "dvc.yaml").write_text(re.sub(r"(?ms)^vars:.*?(?=^\w)", "vars: []\n\n", definition))
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("dvc", "remote", "modify", "storage", "url", str(base / "storage"))
    prune(project)
    commit(project)
    return project


@pytest.fixture(scope="session")
def built(empty: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same with everything made by `snakemake --cores 4`, committed and pushed. Copy it before changing it."""
    project = empty.copy(tmp_path_factory.mktemp("built") / "repository")
    (project.root / "snakemake.log").write_text(project.run("snakemake", "--cores", "4"))
    commit(project)
    project.run("dvc", "push", "--quiet")
    return project


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of `built` to change."""
    copy = built.copy(tmp_path / "repository")
    copy.calls()
    yield copy
    shutil.rmtree(copy.root)


def commit(project: Project) -> None:
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=state")


def prune(project: Project) -> None:
    """Keep of params.yaml only what scale quick's report of PAPERS needs, two runs below each folder a stage depends
    on; make the sources that stages depend on as stubs."""
    from dvc.repo import Repo

    with Repo(str(project.root)) as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
        makers = {os.path.relpath(out.fs_path, project.root): stage for stage in stages.values() for out in stage.outs}
        kept, waiting = set(), [stages["report@quick"]]
        while waiting:
            stage = waiting.pop()
            kept.add(stage.name)
            for dep in (os.path.relpath(dep.fs_path, project.root) for dep in stage.deps):
                below = sorted(path for path in makers if path.startswith(f"{dep}/"))
                if dep.endswith("/manifests"):
                    below = [path for path in below if Path(path).stem in PAPERS]
                made = [dep] if dep in makers else below[:2]
                waiting += [makers[path] for path in made]
                if not made:
                    stub(project.root / dep)
    families = yaml.safe_load((project.root / "dvc.yaml").read_text())["stages"]
    params = project.params()
    for family, entry in families.items():
        section = params
        for key in entry["foreach"].strip("${}").split("."):
            section = section[key]
        for run in [run for run in section if f"{family}@{run}" not in kept]:
            del section[run]
    project.write_params(params)


def stub(path: Path) -> None:
    if not path.suffix:
        path /= "module.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# a source file\n")
