"""Snakemake, DVC and stages are killed, ended and interrupted at random moments; the next run makes up for it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustgen.pipeline import Pipeline, ask_dvc

from ..workflow.conftest import Project
from .harness import GRACE, PATIENCE, files, interrupt, marked, started, until

pytestmark = pytest.mark.faults

TRIALS = int(os.environ.get("FAULT_TRIALS", "6"))
VICTIMS = ("snakemake", "dvc", "stage")
KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LARGEST = 5  # stages in a trial: the target and all it rests on
STAGE_SECONDS = 2.5  # about what one of them takes, with what DVC adds; and Snakemake to start


@dataclass(frozen=True)
class Trial:
    """One interruption: of whom, how, of which stage and when; nine trials cover every victim and kind."""

    seed: int

    @property
    def victim(self) -> str:
        return VICTIMS[self.seed % 3]

    @property
    def kind(self) -> signal.Signals:
        return KINDS[(self.seed // 3 + self.seed) % 3]

    @property
    def lets_stages_finish(self) -> bool:
        """At SIGTERM Snakemake starts no more stages and waits for those that run."""
        return (self.victim, self.kind) == ("snakemake", signal.SIGTERM)

    def __str__(self) -> str:
        return f"{self.victim}-{self.kind.name}-{self.seed:03d}"


@dataclass(frozen=True)
class Undisturbed:
    """A copy in which nobody interrupts anything."""

    project: Project
    pipeline: Pipeline
    known: dict[str, tuple[dict[str, bytes], dict[str, Any]]] = field(default_factory=dict)

    def closure(self, name: str) -> list[str]:
        """A stage and all it rests on."""
        makers = {path: stage.name for stage in self.pipeline.stages.values() for path in stage.outputs}
        reached, waiting = [], [name]
        while waiting:
            reached.append(waiting.pop())
            waiting += {makers[path] for path in self.pipeline.stages[reached[-1]].inputs} - {*reached, *waiting}
        return sorted(reached)

    def targets(self) -> list[str]:
        """One stage of each family that rests on few others."""
        small = {s.family: s.name for s in self.pipeline.stages.values() if len(self.closure(s.name)) <= LARGEST}
        return sorted(small.values())

    def make(self, target: str) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The files of a stage and of all it rests on, and what the lock file says of them."""
        if target not in self.known:
            self.project.run("snakemake", "--cores", "2", self.pipeline.stages[target].outputs[0])
            stages, lock = self.closure(target), lock_of(self.project)
            paths = [path for name in stages for path in self.pipeline.stages[name].outputs]
            content = {path: (self.project.root / path).read_bytes() for path in paths}
            self.known[target] = content, {name: lock[name] for name in stages}
        return self.known[target]


@pytest.fixture(scope="module")
def undisturbed(slow: Project, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    project = slow.copy(tmp_path_factory.mktemp("undisturbed") / "repository")
    return Undisturbed(project, ask_dvc(project.root))


def lock_of(project: Project) -> dict[str, Any]:
    return dict(yaml.safe_load((project.root / "dvc.lock").read_text())["stages"])


def hidden(root: Path) -> list[str]:
    """Temporary files among the outputs."""
    return sorted(path for path in files(root) if Path(path).name.startswith("."))


@pytest.mark.parametrize("trial", map(Trial, range(TRIALS)), ids=str)
def test_next_run_makes_up_for_an_interruption(
    trial: Trial, slow: Project, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    target = random.Random(trial.seed).choice(undisturbed.targets())
    stages = undisturbed.closure(target)
    wanted, lock = undisturbed.make(target)
    command = command_for(trial, target, undisturbed.pipeline)
    copy = disturbed(trial, slow, tmp_path, command, len(stages))

    whole = {path: content for path, content in files(copy.root).items() if path not in hidden(copy.root)}
    assert whole.items() <= wanted.items(), "a file that is there is complete"
    begun = list((copy.root / ".cache/checkpoints").glob("[!.]*.json"))
    copy.run(*command)
    assert files(copy.root) == wanted
    assert (copy.root / "resumed.log").is_file() >= bool(begun), "what had a checkpoint went on from it"
    assert lock_of(copy) == lock
    assert "Data and pipelines are up to date" in copy.run("dvc", "status", *stages)


def command_for(trial: Trial, target: str, pipeline: Pipeline) -> list[str]:
    if trial.victim == "snakemake" or (trial.victim == "stage" and trial.seed % 2):
        return ["snakemake", "--cores", "2", pipeline.stages[target].outputs[0]]
    return ["dvc", "repro", target]


def disturbed(trial: Trial, slow: Project, place: Path, command: list[str], stages: int) -> Project:
    """A copy of `slow` in which `command` was interrupted at a random moment and has left no process behind."""
    chance = random.Random(trial.seed)
    begun, delay = chance.randint(0, stages), chance.uniform(0, STAGE_SECONDS)
    for attempt in range(6):  # where the run had ended by then, sooner
        project = slow.copy(place / f"attempt{attempt}")
        mark = f"{os.getpid()}-{trial.seed}-{attempt}"
        with started(project, command, mark) as process:
            until(partial(reached, process, project.root, begun - attempt), PATIENCE)
            ended = until(lambda process=process: process.poll() is not None, delay / 2**attempt)
            if ended or not strike(trial, process, mark, project.root, chance):
                continue
            process.wait(PATIENCE)
            assert until(lambda mark=mark: not marked(mark), GRACE), f"left behind: {marked(mark)}"
            if process.returncode or trial.lets_stages_finish:
                (project.root / "hold").unlink(missing_ok=True)
                return project
    raise AssertionError("the run always ended before it could be interrupted")


def reached(process: subprocess.Popen[bytes], root: Path, begun: int) -> bool:
    """Whether so many stages have begun, or the run has ended."""
    log = root / "started.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return len(lines) >= begun or process.poll() is not None


def strike(trial: Trial, process: subprocess.Popen[bytes], mark: str, root: Path, chance: random.Random) -> bool:
    """Send the signal, to a stage soon after it began where that is the victim; whether there was a victim."""
    if trial.victim != "stage":
        if not trial.lets_stages_finish:
            (root / "hold").touch()  # none ends now unless it is ended
        interrupt(process, trial.kind)
        return True

    def running() -> list[int]:
        return [each.pid for each in marked(mark) if each.runs("robustgen")]

    until(lambda: running() or process.poll() is not None, PATIENCE)
    until(lambda: not running(), chance.uniform(0, 1))
    for pid in running():
        os.kill(pid, trial.kind)
        return True
    return False
