"""`dvc push`, `dvc pull` and the run-cache over SSH and S3: what one checkout made, another has without computing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from ..workflow.conftest import ROOT, Project
from .conftest import Shared

pytestmark = pytest.mark.remote

MODEL = "models/quick/digits32-natural.safetensors"
TABLE = "results/quick/robust-generative/table1.csv"
MADE = ("data", "models", "results")


def contents(project: Project) -> dict[str, bytes]:
    """Every file that stages made, by path."""
    paths = (path for folder in MADE for path in (project.root / folder).rglob("*"))
    return {str(path.relative_to(project.root)): path.read_bytes() for path in paths if path.is_file()}


def cached(project: Project) -> set[str]:
    """Keys of the objects in the project's cache."""
    folder = project.root / ".dvc/cache"
    return {str(path.relative_to(folder)) for path in folder.glob("files/md5/*/*")}


def make(project: Project) -> str:
    """`make` in a checkout whose .venv is ready; what its last line says is not this test's business."""
    programs = project.root / ".venv/bin"
    if not programs.exists():
        programs.mkdir(parents=True)
        (project.root / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
        pretended = next(Path(folder) / "robustgen" for folder in project.env["PATH"].split(":"))
        (programs / "robustgen").write_text(f'#!/bin/sh\n[ "$1" = summary ] || exec {pretended} "$@"\n')
        (programs / "robustgen").chmod(0o755)
    return project.run("make", "--assume-old=.venv/.ready")


def objects(project: Project) -> dict[str, str]:
    """The keys of the outputs' objects, in the cache and in remotes, of those outputs that git does not hold."""
    stages = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"].values()
    sums = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
    tracked = set(project.run("git", "ls-files").splitlines())
    return {path: f"files/md5/{md5[:2]}/{md5[2:]}" for path, md5 in sums.items() if path not in tracked}


def test_push_leaves_every_object_and_the_run_cache(shared: Shared) -> None:
    keys, wanted = shared.storage.keys(), objects(shared.project)
    assert set(wanted.values()) <= set(keys)
    assert len(wanted) > 20
    assert any(key.startswith("runs/") for key in keys)
    for path, key in wanted.items():
        assert shared.storage.read(key) == (shared.project.root / path).read_bytes()
    assert "Everything is up to date" in shared.project.run("dvc", "push")


def test_a_fresh_clone_pulls_and_has_nothing_left_to_do(shared: Shared, tmp_path: Path) -> None:
    clone = shared.clone(tmp_path / "clone")
    assert not (clone.root / MODEL).exists()
    assert not cached(clone)
    begun = time.monotonic()
    clone.run("dvc", "pull")
    assert clone.planned_by_snakemake() == clone.planned_by_dvc() == set()
    make(clone)
    print(f"{shared.storage.kind}: {time.monotonic() - begun:.0f} s from clone to finished make")
    assert clone.calls() == []
    wanted = contents(shared.project)
    assert len(wanted) > len(cached(clone)) > 20
    assert contents(clone) == wanted
    assert "Data and pipelines are up to date" in clone.run("dvc", "status")
    one_table_is_rebuilt_alone(clone, wanted)


def one_table_is_rebuilt_alone(clone: Project, wanted: dict[str, bytes]) -> None:
    (clone.root / TABLE).unlink()
    assert "robust-generative@quick" in clone.planned_by_snakemake() == clone.planned_by_dvc()
    make(clone)
    assert [call.split()[0] for call in clone.calls()] == ["robust-generative"]
    assert contents(clone) == wanted
    assert clone.run("git", "status", "--porcelain", "--", *MADE, "dvc.lock") == ""


def test_one_target_is_pulled_alone(shared: Shared, tmp_path: Path) -> None:
    clone = shared.clone(tmp_path / "clone")
    before = set(contents(clone))
    clone.run("dvc", "pull", MODEL)
    assert set(contents(clone)) - before == {MODEL}
    assert (clone.root / MODEL).read_bytes() == (shared.project.root / MODEL).read_bytes()
    assert cached(clone) == {objects(clone)[MODEL]}


def changed(project: Project) -> tuple[str, str]:
    """Change a parameter of an attack; its stage and its output."""
    params = project.params()
    run, options = next(iter(params["attack"].items()))
    options["attack"]["seed"] = 77
    project.write_params(params)
    return f"attack@{run}", f"data/adversarial/{run}.npz"


def test_the_run_cache_spares_what_another_checkout_computed(shared: Shared, tmp_path: Path) -> None:
    """The result of a parameter that no commit holds."""
    other = shared.clone(tmp_path / "other")
    stage, path = changed(other)
    other.run("dvc", "pull", "--allow-missing")
    other.run("snakemake", path)
    assert len(other.calls()) == 1
    other.run("dvc", "push", "--run-cache", stage)
    alone, clone = shared.clone(tmp_path / "alone"), shared.clone(tmp_path / "clone")
    for each in (alone, clone):
        assert changed(each) == (stage, path)
        each.run("dvc", "pull", "--allow-missing")
        each.run("dvc", "repro", "--single-item", *(["--pull"] if each is clone else []), stage)
        assert (each.root / path).read_bytes() == (other.root / path).read_bytes()
    assert len(alone.calls()) == 1
    assert clone.calls() == []
    assert clone.planned_by_snakemake(path) == set()
