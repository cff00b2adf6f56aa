"""The real Snakefile, rules, profile and dvc.yaml, with stages that only write files (see conftest.py)."""

from __future__ import annotations

import json
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Project

MODEL = "models/quick/digits32-natural.safetensors"


def stages(project: Project, family: str = "") -> set[str]:
    """Names of the project's stages, of one family or all."""
    listed = project.run("dvc", "stage", "list", "--names-only").split()
    return {name for name in listed if name.startswith(f"{family}@" if family else "")}


def test_every_family_has_a_rule_with_log_and_resources() -> None:
    families = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    rules = [path.read_text() for path in ROOT.glob("workflow/rules/*.smk") if path.name != "common.smk"]
    bodies = re.split(r"^rule ", "\n".join(rules), flags=re.MULTILINE)[1:]
    named = [re.search(r"repro\.sh ([\w-]+)@", body) for body in bodies]
    assert sorted(match[1] for match in named if match) == sorted(families)
    assert all(entry["do"]["cmd"].startswith("exec robustgen ") for entry in families.values())  # no shell stays
    for match, body in zip(named, bodies, strict=True):
        assert match
        assert f"logs/{match[1]}/{{run}}.log" in body
        assert all(word in body for word in ("gpu=", "mem_mb=", "runtime=", "threads:"))


def test_parallel_build_runs_each_stage_once(built: Project) -> None:
    calls = (built.root / "calls.log").read_text().splitlines()
    assert len(calls) == len(set(calls)) == len(stages(built))
    assert "Data and pipelines are up to date" in built.run("dvc", "status")
    assert "report: results/quick/report.html" in (built.root / "snakemake.log").read_text()
    assert list((built.root / "logs/attack").rglob("*.log"))


def nothing(project: Project) -> None: ...


def parameter(project: Project) -> None:
    params = project.params()
    run = next(iter(params["attack"].values()))
    run["attack"]["seed"] += 1
    project.write_params(params)


def source(project: Project) -> None:
    with (project.root / "src/robustgen/stages/detect.py").open("a") as file:
        file.write("# changed\n")


def output(project: Project) -> None:
    (project.root / MODEL).unlink()


@pytest.mark.parametrize("change", [nothing, parameter, source, output])
def test_snakemake_and_dvc_name_the_same_stages(project: Project, change: Callable[[Project], None]) -> None:
    change(project)
    planned = project.planned_by_snakemake()
    assert planned == project.planned_by_dvc()
    assert bool(planned) is (change is not nothing)
    if change is output:  # what reads the missing file is stale with it
        assert project.stale() > {"train-classifier@quick/digits32-natural"}
    if change is source:
        assert project.stale() == stages(project, "detect")


def test_fresh_clone_with_the_cache_pulled(built: Project, tmp_path: Path) -> None:
    clone = Project(root=tmp_path / "clone", env=built.env)
    built.run("git", "clone", "--quiet", str(built.root), str(clone.root))
    clone.run("dvc", "pull", "--quiet")
    assert clone.planned_by_snakemake() == clone.planned_by_dvc() == set()
    same_results_stop_the_run(clone)
    parameter(clone)
    planned = clone.planned_by_snakemake()
    assert planned == clone.planned_by_dvc()
    clone.calls()
    clone.run("snakemake")
    assert 0 < len(clone.calls()) <= len(planned)
    assert clone.planned_by_snakemake() == set()
    assert "Data and pipelines are up to date" in clone.run("dvc", "status")


def same_results_stop_the_run(clone: Project) -> None:
    """A source changed without effect: nothing after its stage runs. In a clone the small files kept in git are in no
    cache, so this needs that Snakemake leaves a job's outputs where they are."""
    with (clone.root / "src/robustgen/stages/fetch.py").open("a") as file:
        file.write("# changed\n")
    clone.calls()
    assert clone.planned_by_snakemake() == stages(clone)
    clone.run("snakemake", MODEL)
    assert {call.split()[0] for call in clone.calls()} == {"fetch"}
    assert clone.run("git", "status", "--porcelain", "results") == ""


def test_deleted_outputs_come_back_without_running_anything(project: Project) -> None:
    results = {path: path.read_bytes() for path in project.root.glob("results/**/*") if path.is_file()}
    for folder in ("data", "models", "results"):
        shutil.rmtree(project.root / folder)
    assert project.planned_by_snakemake() == project.planned_by_dvc() == stages(project)
    project.run("snakemake", "--cores", "4")
    assert project.calls() == []
    assert all(path.read_bytes() == content for path, content in results.items() if path.name != ".gitignore")
    assert "Data and pipelines are up to date" in project.run("dvc", "status")


def test_a_single_file_makes_only_what_it_needs(empty: Project) -> None:
    wanted = {"fetch@quick/digits32", "train-classifier@quick/digits32-natural"}
    assert empty.planned_by_snakemake(MODEL) == wanted


def test_failing_stage_shows_the_end_of_its_log(project: Project) -> None:
    parameter(project)
    failing = sorted(project.planned_by_snakemake() & stages(project, "attack"))[0]
    output = project.root / f"data/adversarial/{failing.partition('@')[2]}.npz"
    before = output.read_bytes()
    shown = project.run("snakemake", str(output.relative_to(project.root)), ok=False, FAIL=failing)
    assert "the fake stage was told to fail" in shown
    assert "its whole output is in logs/" in shown
    assert output.read_bytes() == before
    assert project.planned_by_snakemake() == project.planned_by_dvc()


def test_lock_errors_are_tried_again(tmp_path: Path) -> None:
    fake = tmp_path / "bin/dvc"
    fake.parent.mkdir()
    busy = "{ echo 'ERROR: Unable to acquire lock'; exit 255; }"
    fake.write_text(f"#!/bin/bash\necho $* >> calls\n[ $(wc -l < calls) -gt 1 ] || {busy}\n")
    fake.chmod(0o755)
    project = Project(root=tmp_path, env={"PATH": f"{fake.parent}:/usr/bin:/bin"})
    script = str(ROOT / "workflow/scripts/repro.sh")
    project.run(script, "attack@x", "x.log")
    assert (tmp_path / "calls").read_text().splitlines() == ["--wait-for-lock repro --single-item attack@x"] * 2


def test_unknown_file_and_scale_that_is_off(project: Project) -> None:
    shown = project.run("snakemake", "models/quick/nonsense.safetensors", ok=False)
    assert "models/quick/nonsense.safetensors" in shown
    assert "MissingRuleException" in shown
    params = project.root / "params/desktop/robust-generative.yaml"
    params.parent.mkdir(parents=True, exist_ok=True)
    params.write_text("{}\n")
    shown = project.run("snakemake", "desktop", ok=False)
    assert "`robustgen scale desktop SLUG on` switches a paper on, SLUG being robust-generative" in shown
    assert "no paper has a params file for scale paper" in project.run("snakemake", "paper", ok=False)


def test_scale_switched_on_and_off(project: Project) -> None:
    path = project.root / "params/desktop/robust-generative.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        (project.root / "params.yaml").read_text().replace("quick", "desktop").replace("desktop-", "quick-")
    )
    definition = (project.root / "dvc.yaml").read_bytes()
    switch = [sys.executable, "-m", "robustgen.cli", "scale", "desktop", "robust-generative"]
    project.run(*switch, "on")
    on = project.planned_by_snakemake("desktop")
    assert on == {name.replace("@quick", "@desktop") for name in stages(project) if "@quick" in name}
    assert project.planned_by_snakemake("quick") == set()
    project.run(*switch, "off")
    assert (project.root / "dvc.yaml").read_bytes() == definition


def test_report_holds_every_table_and_figure(project: Project) -> None:
    from robustgen.captions import shown
    from robustgen.pipeline import ask_dvc

    project.run("snakemake", "--report", "report.zip")
    with zipfile.ZipFile(project.root / "report.zip") as archive:
        text = "\n".join(archive.read(name).decode(errors="ignore") for name in archive.namelist())
    slugs = set()
    for patterns in ask_dvc(project.root).patterns.values():
        for pattern, result in shown(patterns).items():
            if not (project.root / pattern.format(run="quick")).is_file():
                continue  # a paper that the small copy goes without
            slugs.add(result.slug)
            item, title, _ = result.texts()
            assert Path(pattern).name in text
            assert item in text
            assert title in text or json.dumps(title)[1:-1] in text  # some of the texts stand in JSON
    assert len(slugs) == 2
    assert "report.html" in text


def test_lint_and_format(built: Project) -> None:
    assert "Congratulations, your workflow is in a good condition!" in built.run("snakemake", "--lint")
    built.run("snakefmt", "--check", str(ROOT / "Snakefile"), str(ROOT / "workflow"))
