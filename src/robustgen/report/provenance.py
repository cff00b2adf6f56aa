"""What was run: the commands dvc.lock has recorded, joined with the run records the command line leaves behind."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from robustgen.errors import UserError
from robustgen.io import PathLike, save_csv
from robustgen.progress import log

RESTORED = "restored from cache"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run of a stage on this machine; times in seconds, memory in MB."""

    out: str
    command: tuple[str, ...]
    started: str  # ISO time
    wall: float
    cpu: float
    memory: float
    machine: str
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage as dvc.lock has it, with the record of its run where it ran here."""

    name: str  # "attack@quick/robust-generative/digits32/pgd"
    command: str
    outs: tuple[str, ...]
    deps: tuple[str, ...] = field(repr=False)
    record: Record | None

    @property
    def out(self) -> str:
        return option(shlex.split(self.command), "--out") or (self.outs[0] if self.outs else "")


def option(arguments: Sequence[str], name: str) -> str:
    """The value after option `name` in a command's arguments, "" where it is not there."""
    return dict(pairwise(arguments)).get(name, "")


def load_stages(lock: PathLike, runs: PathLike) -> list[Stage]:
    """The stages of a dvc.lock joined with the records in folder `runs`; none where there is no dvc.lock.

    A record counts only where its arguments are those of dvc.lock: otherwise the stage was restored since.
    """
    source = Path(lock)
    if not source.is_file():
        return []
    records = load_records(runs)
    try:
        stages = yaml.load(source.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
        return [_stage(name, entry, records) for name, entry in stages.items()]
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{source} is not a readable dvc.lock ({reason}); `git checkout {source}` restores it"
        ) from error


def _stage(name: str, entry: dict[str, Any], records: dict[str, Record]) -> Stage:
    command = entry["cmd"] if isinstance(entry["cmd"], str) else "\n".join(entry["cmd"])
    command = command.removeprefix("exec ")
    outs, deps = (tuple(item["path"] for item in entry.get(kind, ())) for kind in ("outs", "deps"))
    stage = Stage(name=name, command=command, outs=outs, deps=deps, record=None)
    record = records.get(stage.out)
    if record is None or record.command[1:] != tuple(shlex.split(command))[1:]:
        return stage
    return Stage(name=name, command=command, outs=outs, deps=deps, record=record)


def load_records(folder: PathLike) -> dict[str, Record]:
    """The run records in `folder`, by the path of what they made; an unreadable one is logged and left out."""
    records = {}
    for path in sorted(Path(folder).glob("*.json")):
        try:
            record = _record(json.loads(path.read_text()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log(f"run record {path} is not readable ({error!r}) and is left out")
        else:
            records[record.out] = record
    return records


def _record(entry: dict[str, Any]) -> Record:
    machine = entry["machine"]
    # a stage that never loaded torch does not know of a GPU, so that none is named says nothing
    parts = [machine["cpu"], f"{machine['cores']} cores", f"{machine['memory_gb']:.0f} GB", machine["gpu"]]
    return Record(
        out=entry["out"],
        command=tuple(entry["command"]),
        started=entry["started"],
        wall=float(entry["wall_seconds"]),
        cpu=float(entry["cpu_seconds"]),
        memory=float(entry["peak_memory_mb"]),
        machine=", ".join(part for part in parts if part),
        versions=tuple(sorted((name, version) for name, version in entry["versions"].items() if version)),
    )


def producer(stages: Iterable[Stage], path: str) -> Stage | None:
    """The stage that has `path` among its outputs, None where none is recorded."""
    return next((stage for stage in stages if path in stage.outs), None)


def upstream(stages: Sequence[Stage], targets: Iterable[Stage]) -> list[Stage]:
    """`targets` and every stage they rest on, in an order in which they can be run."""
    makers: dict[str, list[Stage]] = {}
    for stage in stages:
        for out in stage.outs:
            for place in (out, *_parents(out)):  # a dependency may be the folder of several outputs
                makers.setdefault(place, []).append(stage)
    ordered: dict[str, Stage] = {}
    open_ = [(target, False) for target in reversed(list(targets))]
    entered: set[str] = set()
    while open_:
        stage, done = open_.pop()
        if done:
            ordered[stage.name] = stage
        elif stage.name not in entered:
            entered.add(stage.name)
            open_.append((stage, True))
            needed = [
                maker for dep in stage.deps for place in (dep, *_parents(dep)) for maker in _exact(makers, place, dep)
            ]
            open_.extend((maker, False) for maker in reversed(needed))
    return list(ordered.values())


def _exact(makers: dict[str, list[Stage]], place: str, dep: str) -> list[Stage]:
    """Makers of `place`: anything at or below the dependency itself, only whole outputs above it."""
    return [maker for maker in makers.get(place, []) if place == dep or place in maker.outs]


def _parents(path: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def save_runs(path: PathLike, stages: Iterable[Stage]) -> None:
    """Write one line per stage: what was run, where, and what it cost (seconds, MB)."""
    header = ["stage", "state", "started", "wall_seconds", "cpu_seconds", "peak_memory_mb", "machine", "command"]
    rows = []
    for stage in stages:
        record = stage.record
        run = [record.started, record.wall, record.cpu, record.memory, record.machine] if record else [None] * 5
        rows.append([stage.name, "run" if record else RESTORED, *run, stage.command])
    save_csv(path, header, rows)
