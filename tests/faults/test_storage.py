"""Full disks, read-only folders, a damaged cache, a lock file with conflicts, clocks that are wrong."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from robustgen import io
from robustgen.errors import UserError

from ..workflow.conftest import Project, commit
from .harness import files
from .mounts import fill, needs_mount, read_only, small_disk

pytestmark = pytest.mark.faults

DATA = "data/images/quick/digits32.npz"
MODEL = "models/quick/digits32-natural.safetensors"
STAGES = {"fetch@quick/digits32": DATA, "train-classifier@quick/digits32-natural": MODEL}
MAKE = ("snakemake", "--cores", "1", MODEL)
UP_TO_DATE = "Data and pipelines are up to date"

WRITERS: dict[str, Callable[[Path], None]] = {
    "arrays": lambda path: io.save_arrays(path, {"a": np.random.default_rng(0).random(200_000)}),
    "weights": lambda path: io.save_weights(path, {"w": torch.rand(200_000)}, {}),
    "json": lambda path: io.save_json(path, list(range(200_000))),
    "csv": lambda path: io.save_csv(path, ["n"], ([n] for n in range(300_000))),
}


@pytest.fixture(scope="module")
def made(slow: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """`slow` with MODEL and what it rests on made and committed. Copy it before changing it."""
    project = slow.copy(tmp_path_factory.mktemp("made") / "repository")
    project.run(*MAKE)
    commit(project)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    copy = made.copy(tmp_path / "repository")
    (copy.root / "started.log").unlink()
    return copy


def started(project: Project) -> list[str]:
    """The families of the stages that ran since `project` was copied."""
    log = project.root / "started.log"
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def healthy(project: Project, made: Project) -> None:
    """Asserts that everything is there, as it was, and recorded."""
    assert files(project.root) == files(made.root)
    assert UP_TO_DATE in project.run("dvc", "status", *STAGES)
    assert project.run("git", "status", "--porcelain", "dvc.lock", "results") == ""


@needs_mount
@pytest.mark.parametrize("kind", WRITERS)
def test_full_disk_keeps_the_old_file(tmp_path: Path, kind: str) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        (disk / "file").write_text("old")
        fill(disk, leave=64 * 1024)
        with pytest.raises(UserError, match=r"cannot write .*No space left on device.*check .* free space"):
            WRITERS[kind](disk / "file")
        assert (disk / "file").read_text() == "old"
        assert sorted(path.name for path in disk.iterdir()) == ["ballast", "file"]


@needs_mount
@pytest.mark.parametrize("leave", [0, 40_000, 200_000, 400_000])
def test_full_disk_under_the_project(slow: Project, made: Project, tmp_path: Path, leave: int) -> None:
    with small_disk(tmp_path / "disk", "32m") as disk:
        project = slow.copy(disk / "repository")
        ballast = fill(disk, leave)
        assert "No space left on device" in project.run(*MAKE, ok=False)
        whole = files(made.root)
        for path, content in files(project.root).items():
            assert whole[path] == content, "a file that is there is complete"
        ballast.unlink()
        project.run(*MAKE)
        assert files(project.root) == whole
        assert lock(project) == lock(made)
        assert UP_TO_DATE in project.run("dvc", "status", *STAGES)


def lock(project: Project) -> object:
    return yaml.safe_load((project.root / "dvc.lock").read_text())


@needs_mount
@pytest.mark.parametrize("folder", ["models/quick", ".dvc/cache", "logs", ".cache"])
def test_read_only_folder(slow: Project, made: Project, tmp_path: Path, folder: str) -> None:
    project = slow.copy(tmp_path / "repository")
    with read_only(project.root / folder):
        said = project.run(*MAKE, ok=False)
        assert "Read-only file system" in said
        assert folder in said
    project.run(*MAKE)
    assert files(project.root) == files(made.root)
    assert lock(project) == lock(made)


def cached(project: Project, path: str) -> Path:
    """The object in the cache that holds an output."""
    entries = [out for stage in dict(lock(project))["stages"].values() for out in stage["outs"]]  # type: ignore[call-overload]
    digest = next(entry["md5"] for entry in entries if entry["path"] == path)
    return project.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def flip(path: Path) -> None:
    """Change one byte and nothing else that is seen from outside: as a failing disk does."""
    before = path.stat()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    path.chmod(stat.S_IMODE(before.st_mode))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("output", STAGES.values(), ids=["data", "model"])
def test_changed_cache_object_is_not_used(project: Project, made: Project, output: str) -> None:
    (project.root / output).unlink()
    project.run(*MAKE)
    assert started(project) == [], "DVC has seen the object now, and remembers its checksum"
    flip(cached(project, output))
    (project.root / output).unlink()
    project.run(*MAKE)
    healthy(project, made)
    assert len(started(project)) == 1, "the stage whose output was lost, and no other"


def test_deleted_cache_object(project: Project, made: Project) -> None:
    """Put back from the file itself by `dvc commit`, computed again by a run; the model it went into stays."""
    cached(project, DATA).unlink()
    project.run("dvc", "commit", "--force", "fetch@quick/digits32")
    healthy(project, made)
    assert cached(project, DATA).read_bytes() == (made.root / DATA).read_bytes()
    cached(project, DATA).unlink()
    (project.root / DATA).unlink()
    project.run(*MAKE)
    healthy(project, made)
    assert started(project) == ["fetch"]


def test_path_locks_cut_short(project: Project, made: Project) -> None:
    """DVC writes them in place, so a full disk or a kill may leave an empty file, which plain DVC does not pass."""
    (project.root / ".dvc/tmp/rwlock").write_text("")
    assert "Unable to read RWLock-file" in project.run("dvc", "repro", *STAGES, ok=False)
    (project.root / MODEL).unlink()
    project.run(*MAKE)
    healthy(project, made)


def reseed(project: Project, seed: int) -> None:
    params = project.params()
    params["train-classifier"]["quick/digits32-natural"]["recipe"]["seed"] = seed
    project.write_params(params)


def test_merge_conflict_in_the_lock_file(project: Project) -> None:
    """Two branches trained the same classifier with different seeds."""
    wanted = {}
    for branch, seed in (("theirs", 11), ("ours", 12)):
        project.run("git", "checkout", "--quiet", "-b", branch, "main")
        reseed(project, seed)
        project.run(*MAKE)
        wanted[branch] = files(project.root)
        commit(project)
    project.run("git", "merge", "theirs", ok=False)
    assert "<<<<<<<" in (project.root / "dvc.lock").read_text()
    project.run("git", "checkout", "--ours", "params.yaml")
    said = project.run(*MAKE, ok=False)
    assert "git checkout --ours dvc.lock" in said
    (project.root / "started.log").unlink()
    for branch in ("ours", "theirs"):
        project.run("git", "checkout", f"--{branch}", "params.yaml", "dvc.lock")
        project.run(*MAKE)
        assert files(project.root) == wanted[branch]
    project.run("git", "checkout", "--ours", "params.yaml")  # parameters of one side, lock file of the other
    project.run(*MAKE)
    assert files(project.root) == wanted["ours"]
    assert started(project) == [], "what either side had computed is in the cache"


@pytest.mark.parametrize(("which", "years"), [("everything", -30), ("everything", 10), ("outputs", 10), ("sources", 1)])
def test_clock_skew(project: Project, made: Project, years: int, which: str) -> None:
    shift(project, which, years)
    assert project.planned_by_snakemake(MODEL) == set()
    source = project.root / "src/robustgen/stages/train_classifier.py"
    source.write_text(source.read_text() + "# changed\n")
    shift(project, which, years)
    assert project.planned_by_snakemake(MODEL) == {"train-classifier@quick/digits32-natural"}
    project.run(*MAKE)
    assert started(project) == ["train-classifier"]
    assert files(project.root) == files(made.root)
    assert project.planned_by_snakemake(MODEL) == set()
    assert UP_TO_DATE in project.run("dvc", "status", *STAGES)


def shift(project: Project, which: str, years: int) -> None:
    """Set the time stamps of files as a wrong clock would have."""
    then = time.time() + years * 365 * 86400
    folders = {"everything": ["."], "outputs": ["data", "models", "results"], "sources": ["src", "params.yaml"]}[which]
    for folder in (project.root / name for name in folders):
        for path in [folder, *folder.rglob("*")]:
            if ".git" not in path.parts:
                os.utime(path, (then, then), follow_symlinks=False)
