"""The pipeline as DVC resolves it: stage families, their runs, the files between them, and what is stale.

The Snakemake workflow is built from this. `ask_dvc` reads dvc.yaml, the params files and dvc.lock once, about a second;
the answer is plain data that is saved for the processes Snakemake starts for single jobs.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from robustgen.errors import UserError
from robustgen.io import atomic

if TYPE_CHECKING:
    from dvc.repo import Repo

CACHE = Path(".cache/workflow")  # outside git and DVC: what one run of Snakemake hands to its jobs
PLAN = CACHE / "plan.json"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of a stage family. Paths are relative to the repository, with forward slashes."""

    family: str  # "attack"
    run: str  # "quick/robust-generative/digits32/pgd"
    command: str  # the resolved command line
    inputs: tuple[str, ...]  # files made by other stages; sources and other dependencies are DVC's business
    outputs: tuple[str, ...]  # outs, metrics and plots
    stale: bool  # DVC would run it, or would once the stages before it have run

    @property
    def name(self) -> str:
        """DVC's name of the stage."""
        return f"{self.family}@{self.run}"

    @property
    def threads(self) -> int:
        """CPU threads its command asks for with `--threads N`; 1 where it says nothing."""
        return int(self.option("--threads") or 1)

    @property
    def gpus(self) -> int:
        """1 where its command says `--device cuda`, else 0."""
        return int((self.option("--device") or "").startswith("cuda"))

    def option(self, name: str) -> str | None:
        """Value of the last `name VALUE` or `name=VALUE` in the command, None where it is absent."""
        words = shlex.split(self.command)
        values = [words[i + 1] for i in range(len(words) - 1) if words[i] == name]
        values += [word.removeprefix(f"{name}=") for word in words if word.startswith(f"{name}=")]
        return values[-1] if values else None


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Every stage that is switched on, and the output patterns of the families."""

    patterns: dict[str, tuple[str, ...]]  # family -> output paths with `{run}` in place of the run id
    stages: dict[str, Stage]  # by name

    def runs(self, family: str) -> list[str]:
        """Run ids of a family, sorted; empty where none is switched on."""
        return sorted(stage.run for stage in self.stages.values() if stage.family == family)

    def stage(self, family: str, run: str) -> Stage:
        """One stage; UserError where there is no such family, and where the stage is not switched on."""
        name = f"{family}@{run}"
        if name in self.stages:
            return self.stages[name]
        runs = self.runs(family)
        if not runs and family not in self.patterns:
            raise UserError(f"no stage family {family!r}; known are {', '.join(sorted(self.patterns)) or 'none'}")
        way = way_on(run.partition("/")[0])
        raise UserError(
            f"no stage {name} is switched on; runs of {family}: {', '.join(runs) or 'none'}{way and f'; {way}'}"
        )

    def stale(self) -> list[str]:
        """Names of the stages that are stale or depend on a stale one, sorted."""
        return sorted(name for name, stage in self.stages.items() if stage.stale)

    def save(self, path: Path = PLAN) -> None:
        """Write the pipeline as JSON."""
        content = {"patterns": self.patterns, "stages": [asdict(stage) for stage in self.stages.values()]}
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1))

    @classmethod
    def load(cls, path: Path = PLAN) -> Pipeline:
        """Read what `save` wrote; UserError where it is not there."""
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(f"{path} is missing; start Snakemake in the repository's root, it writes it") from None
        stages = [Stage(**one | {key: tuple(one[key]) for key in ("inputs", "outputs")}) for one in content["stages"]]
        patterns = {family: tuple(outputs) for family, outputs in content["patterns"].items()}
        return cls(patterns=patterns, stages={stage.name: stage for stage in stages})


def ask_dvc(root: Path | str = ".", *, beside_others: bool = False) -> Pipeline:
    """The pipeline of the DVC repository at `root`, with DVC's judgement of what is stale.

    Raises UserError where dvc.yaml or a params file does not resolve, or another DVC process holds the locks; with
    `beside_others` a stage that is being run counts as stale instead.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(os.fspath(root)) as repo:
            return _resolve(repo, beside_others)
    except LockError as error:
        raise UserError(f"another DVC process works here ({_one_line(error)}); wait until it has ended") from error
    except DvcException as error:
        raise UserError(f"DVC cannot read the pipeline: {_one_line(error)}; {_way_out(error)}") from error


def _way_out(error: Exception) -> str:
    if "'dvc.lock'" not in str(error):
        return "see `dvc status`"
    return (
        "after a merge take either side, `git checkout --ours dvc.lock`, else the last commit's, "
        "`git checkout dvc.lock`; what had been computed comes back from the cache"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".;")


def _resolve(repo: Repo, beside_others: bool) -> Pipeline:
    found = {stage.name: stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml" and "@" in stage.name}
    outputs = {name: _paths(repo, stage.outs) for name, stage in found.items()}
    inputs = connect(outputs, {name: _paths(repo, stage.deps) for name, stage in found.items()})
    with repo.lock:  # `repo.status()` would read and resolve everything a second time
        if not beside_others:
            _check_nobody_writes(Path(repo.tmp_dir, "rwlock"))
        stale = downstream(outputs, inputs, [name for name, stage in found.items() if _changed(stage)])
    stages = {}
    for name, stage in found.items():
        family, run = name.rsplit("@", 1)
        stages[name] = Stage(
            family=family,
            run=run,
            command=str(stage.cmd),
            inputs=inputs[name],
            outputs=outputs[name],
            stale=name in stale,
        )
    return Pipeline(patterns=_patterns(Path(repo.root_dir, "dvc.yaml")), stages=stages)


def _changed(stage: Any) -> bool:
    """DVC's judgement of one stage, without DVC's path locks.

    Taking them rewrites a file twice a stage, and drops those of stages that run on another machine, because their
    process ids mean nothing here.
    """
    return bool(type(stage).status.__wrapped__(stage))


def _check_nobody_writes(locks: Path) -> None:
    """Raise DVC's LockError where a process of this machine is running a stage."""
    from dvc.lock import LockError

    try:
        held = json.loads(locks.read_text()).get("write", {})
    except (FileNotFoundError, json.JSONDecodeError):
        return
    for path, holder in held.items():
        if _runs(int(holder["pid"]), str(holder["cmd"])):
            raise LockError(f"'{path}' is being written by process {holder['pid']}: {holder['cmd']}")


def _runs(pid: int, command: str) -> bool:
    """Whether process `pid` is here and, where that can be seen, was started with the arguments of `command`."""
    from psutil import AccessDenied, NoSuchProcess, Process  # type: ignore[import-untyped]

    try:
        return command.partition(" ")[2] in " ".join(Process(pid).cmdline())
    except AccessDenied:
        return True
    except NoSuchProcess:
        return False


def use_hardlink_locks(wanted: bool, root: Path | str = ".") -> None:
    """Choose between DVC's two kinds of locks for this checkout; `.dvc/config.local` keeps it for every `dvc`.

    The two do not see each other, so this raises UserError where a DVC process of this machine is at work.
    """
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(os.fspath(root)) as repo:
            if bool(repo.config["core"].get("hardlink_lock", False)) == wanted:
                return
            with repo.lock:
                _check_nobody_writes(Path(repo.tmp_dir, "rwlock"))
                with repo.config.edit("local") as local:
                    local.setdefault("core", {})["hardlink_lock"] = wanted
            for name in ("lock", "rwlock.lock"):
                Path(repo.tmp_dir, name).unlink(missing_ok=True)
    except LockError as error:
        raise UserError(f"another DVC process works here ({_one_line(error)}); wait until it has ended") from error


def _paths(repo: Repo, entries: Iterable[Any]) -> tuple[str, ...]:
    """Repository-relative paths of DVC's outs or deps."""
    return tuple(Path(os.path.relpath(entry.fs_path, repo.root_dir)).as_posix() for entry in entries)


def _definition(file: Path) -> dict[str, Any]:
    import yaml

    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with file.open() as content:
        found: dict[str, Any] = yaml.load(content, fast)
    return found


def _patterns(definition: Path) -> dict[str, tuple[str, ...]]:
    families = _definition(definition).get("stages", {})
    return {family: output_patterns(family, entry["do"]) for family, entry in families.items() if "do" in entry}


def output_patterns(family: str, template: Mapping[str, Any]) -> tuple[str, ...]:
    """Outs, metrics and plots of a `foreach` template, with `${key}` replaced by `{run}`.

    Raises UserError where a path uses anything but `${key}`: Snakemake could not tell the run from the file name.
    """
    patterns = []
    for section in ("outs", "metrics", "plots"):
        for entry in template.get(section, []):
            path = entry if isinstance(entry, str) else next(iter(entry))
            pattern = path.replace("${key}", "{run}")
            if "$" in pattern or "{run}" not in pattern:
                raise UserError(f"dvc.yaml, stage {family}: output path {path!r} must use ${{key}} and nothing else")
            patterns.append(pattern)
    return tuple(patterns)


def connect(outputs: Mapping[str, Iterable[str]], deps: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """For each stage the outputs of other stages that its dependencies name.

    A dependency may be an output, a folder (all outputs below it), or a file inside an output that is a folder.
    """
    made = {path for paths in outputs.values() for path in paths}
    below: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(made):
        for parent in _parents(path):
            below[parent].append(path)

    def files(dep: str) -> list[str]:
        if dep in made:
            return [dep]
        return below.get(dep) or [parent for parent in _parents(dep) if parent in made]

    return {
        name: tuple(sorted({path for dep in paths for path in files(dep)} - set(outputs[name])))
        for name, paths in deps.items()
    }


def _parents(path: str) -> Iterator[str]:
    return (str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")


def downstream(
    outputs: Mapping[str, Iterable[str]], inputs: Mapping[str, Iterable[str]], names: Iterable[str]
) -> set[str]:
    """`names` and every stage that reads, directly or not, what one of them writes."""
    readers: defaultdict[str, set[str]] = defaultdict(set)
    for name, paths in inputs.items():
        for path in paths:
            readers[path].add(name)
    reached, waiting = set(), [name for name in names if name in outputs]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(reader for path in outputs[name] for reader in readers[path])
    return reached


def order(pipeline: Pipeline, targets: Iterable[str]) -> list[str]:
    """Names of the stale stages that `targets` (stage names) need, themselves included, each after those it reads."""
    makers = {path: stage for stage in pipeline.stages.values() for path in stage.outputs}
    done: dict[str, None] = {}

    def visit(stage: Stage) -> None:
        for path in stage.inputs:
            if makers[path].name not in done:
                visit(makers[path])
        done[stage.name] = None

    for target in targets:
        family, _, run = target.partition("@")
        visit(pipeline.stage(family, run))
    return [name for name in done if pipeline.stages[name].stale]


def marker(stage: Stage) -> Path:
    """The file that stands for DVC's "this stage is stale" among a Snakemake job's inputs."""
    return CACHE / "stale" / quote(stage.name, safe="@")


def write_markers(pipeline: Pipeline) -> None:
    """Renew the marker of every stale stage.

    The content is the time, because Snakemake compares small inputs by content and overlooks a mere touch. Markers of
    fresh stages stay: nothing refers to them, and a second Snakemake (a dry run) must not remove those of the first.
    """
    present(path for stage in pipeline.stages.values() for path in stage.outputs)
    now = str(time.time_ns())
    for name in pipeline.stale():
        path = marker(pipeline.stages[name])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(now)


def present(paths: Iterable[str]) -> None:
    """Date files from the future, by a clock that was ahead, to now.

    Snakemake would take them for newer than any marker, and what is made from them for older than its inputs.
    """
    now = time.time_ns()
    for path in paths:
        with suppress(OSError):
            if Path(path).stat().st_mtime_ns > now:
                os.utime(path, ns=(now, now))


def own_programs_first() -> None:
    """Put this interpreter's folder on PATH: `dvc` and `robustgen` are found also where the venv was not activated."""
    programs, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    if programs not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([programs, path])


def scales(root: Path | str = ".") -> dict[str, list[str]]:
    """The scales beside `quick` and the papers that have a params file for them: {"desktop": ["gat", ...], ...}."""
    known: dict[str, list[str]] = {}
    for path in sorted(Path(root, "params").glob("*/*.yaml")):
        known.setdefault(path.parent.name, []).append(path.stem)
    return known


def check_scale(scale: str, root: Path | str = ".") -> None:
    """Raise UserError for a scale that is neither `quick` nor a folder of params/."""
    known = ("quick", *scales(root))
    if scale not in known:
        raise UserError(f"unknown scale {scale!r}; known: {', '.join(known)}")


def switched_off(scale: str, root: Path | str = ".") -> list[str]:
    """The papers that have a params file for `scale` which the `vars` of dvc.yaml do not list."""
    definition = Path(root, "dvc.yaml")
    listed = _definition(definition).get("vars", []) if definition.is_file() else []
    return [slug for slug in scales(root).get(scale, []) if f"params/{scale}/{slug}.yaml" not in listed]


def way_on(scale: str, root: Path | str = ".") -> str:
    """How papers that are off at `scale` are switched on, as a part of a sentence; "" where none is off."""
    off = switched_off(scale, root)
    return f"`robustgen scale {scale} SLUG on` switches a paper on, SLUG being {', '.join(off)}" if off else ""
