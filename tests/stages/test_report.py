from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from robustgen.errors import UserError
from robustgen.evaluation.rows import (
    Claim,
    Coverage,
    Row,
    claims_markdown,
    markdown,
    save_claims,
    save_coverage,
    save_rows,
)
from robustgen.io import save_json
from robustgen.papers import base
from robustgen.papers.base import Artifact, Paper
from robustgen.papers.manifest import save_manifest
from robustgen.report import page, provenance
from robustgen.report.provenance import Stage, upstream
from robustgen.stages import report

PAPER = Paper(
    slug="gat",
    title="Generative <adversarial> training",
    authors="A & B",
    year=2020,
    venue="V",
    artifacts=(
        Artifact(name="table1", item="Table 1", kind="table", title="Rates", caption="Rates of <detection>."),
        Artifact(name="figure1", item="Figure 1", kind="figure", title="Curve", caption="ROC & more."),
    ),
)
ROW = Row(
    paper="gat",
    item="Table 1",
    row="PGD <40>",
    column="DR",
    scale="quick",
    dataset="digits32",
    n=397,
    value=97.5,
    low=95.25,
    high=98.75,
    unit="%",
    reference=98.38,
    method="PGD & more",
)
CLAIM = Claim(
    id="one",
    statement="It <works>.",
    source="Sec. 1",
    quantity="rate",
    condition="> 99",
    value=97.5,
    low=95.25,
    high=98.75,
    n=397,
    verdict="fails",
    note="",
)
STAGES: dict[str, dict[str, Any]] = {
    "gat@quick": {
        "cmd": "exec robustgen gat --out results/quick/gat --name 'a b'",
        "deps": [{"path": "data/detection/quick/gat"}, {"path": "src/robustgen/papers/gat"}],
        "outs": [{"path": "results/quick/gat/table1.csv"}, {"path": "results/quick/gat/figure1.png"}],
    },
    "detect@quick/gat/digits32": {
        "cmd": "exec robustgen detect --out data/detection/quick/gat/digits32.npz",
        "deps": [{"path": "models/quick/digits32.safetensors"}],
        "outs": [{"path": "data/detection/quick/gat/digits32.npz"}],
    },
    "train@quick/digits32": {
        "cmd": "exec robustgen train --out models/quick/digits32.safetensors --lr 0.1",
        "outs": [{"path": "models/quick/digits32.safetensors"}],
    },
    "train@desktop/mnist": {"cmd": "exec robustgen train --out models/desktop/mnist.safetensors"},
}


def record(out: str, *command: str) -> dict[str, Any]:
    return {
        "family": command[0],
        "out": out,
        "command": ["/somewhere/robustgen", *command],
        "started": "2026-11-21T10:00:00+00:00",
        "wall_seconds": 61.5,
        "cpu_seconds": 100.0,
        "peak_memory_mb": 512.0,
        "machine": {"cpu": "Some CPU", "cores": 2, "memory_gb": 7.8, "gpu": None},
        "versions": {"python": "3.11.2", "torch": "2.15.0"},
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the results of one small paper; returns the paper's folder, relative to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "papers", lambda: {PAPER.slug: PAPER})
    folder = Path("results/quick/gat")
    save_rows(folder / "table1.csv", [ROW])
    (folder / "table1.md").write_text(markdown([ROW], "Table 1"))
    Image.new("RGB", (40, 30)).save(folder / "figure1.png")
    (folder / "figure1.pdf").write_bytes(b"%PDF-1.4")
    (folder / "figure1.csv").write_text("x\n1\n")
    save_claims(folder / "claims.csv", [CLAIM])
    (folder / "claims.md").write_text(claims_markdown([CLAIM], "Claims"))
    save_coverage(
        folder / "coverage.csv", [Coverage(item="Table 1", what="w", status="reproduced", where="table1", note="")]
    )
    save_json(folder / "headline.json", {"detection_rate": 97.5})
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": STAGES}))
    return folder


def make() -> str:
    save_manifest(Path("results/quick"), "gat")
    report.run(report.Options(out=Path("results/quick"), scale="quick"))
    return Path("results/quick/report.html").read_text()


def write_record(name: str, entry: object) -> None:
    path = Path(".cache/runs") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(entry if isinstance(entry, str) else json.dumps(entry))


def runs() -> dict[str, dict[str, str]]:
    with Path("results/quick/runs.csv").open(newline="") as file:
        return {line["stage"]: line for line in csv.DictReader(file)}


def test_the_page_holds_numbers_claims_and_commands(folder: Path) -> None:
    html = make()
    for text in (
        "97.50",
        "[95.25, 98.75]",
        "98.38",
        "n = 397",
        "PGD &amp; more",
        "It &lt;works&gt;.",
        "fails",
        "detection rate",
        "snakemake --cores 2 results/quick/gat/table1.csv",
        "snakemake --cores 2 results/quick/gat/figure1.png",
        "dvc repro gat@quick",
        "robustgen train --out models/quick/digits32.safetensors --lr 0.1",
        "data:image/png;base64,",
    ):
        assert text in html, text
    assert "<detection>" not in html  # escaped
    assert "desktop/mnist" not in html  # of another scale


def test_the_page_has_no_script_and_no_address_elsewhere(folder: Path) -> None:
    html = make()
    assert "<script" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "url(" not in html


def test_the_same_results_give_the_same_page(folder: Path) -> None:
    assert make() == make()


def test_stages_without_a_record_were_restored(folder: Path) -> None:
    write_record("a.json", record("results/quick/gat", "gat", "--out", "results/quick/gat", "--name", "a b"))
    html = make()
    found = runs()
    assert list(found) == ["train@quick/digits32", "detect@quick/gat/digits32", "gat@quick"]  # in an order to run
    assert found["gat@quick"]["state"] == "run"
    assert float(found["gat@quick"]["wall_seconds"]) == 61.5
    assert found["gat@quick"]["machine"] == "Some CPU, 2 cores, 8 GB"
    assert found["gat@quick"]["command"] == "robustgen gat --out results/quick/gat --name 'a b'"
    assert found["train@quick/digits32"]["state"] == provenance.RESTORED
    assert found["train@quick/digits32"]["wall_seconds"] == ""
    assert "3, of which 1 run on this machine and 2 restored from cache" in html
    assert "1 min 02 s" in html


def test_a_machine_is_named_once_with_its_gpu(folder: Path) -> None:
    plain = record("results/quick/gat", "gat", "--out", "results/quick/gat", "--name", "a b")
    out = "data/detection/quick/gat/digits32.npz"
    accelerated = record(out, "detect", "--out", out)
    write_record("a.json", plain | {"versions": {"python": "3.11.2", "torch": None}})
    write_record("b.json", accelerated | {"machine": plain["machine"] | {"gpu": "Some GPU"}})
    html = make()
    assert "<dt>Machine</dt><dd>Some CPU, 2 cores, 8 GB, Some GPU</dd>" in html
    assert "python 3.11.2, torch 2.15.0</dd>" in html


def test_a_record_of_another_command_does_not_count(folder: Path) -> None:
    out = "models/quick/digits32.safetensors"
    write_record("a.json", record(out, "train", "--out", out, "--lr", "0.2"))
    make()
    assert runs()["train@quick/digits32"]["state"] == provenance.RESTORED


def test_a_damaged_record_is_logged_and_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record("a.json", "{")
    write_record("b.json", {"out": "x"})
    make()
    logged = capsys.readouterr().err
    assert "a.json is not readable" in logged
    assert "b.json is not readable" in logged


def test_without_a_lock_file_the_page_says_the_commands_are_not_known(folder: Path) -> None:
    Path("dvc.lock").unlink()
    assert "commands are not recorded" in make()
    assert runs() == {}


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\n", "schema: '2.0'\n", "stages: [1]\n", "stages: {a: {}}\n", "[\n"])
def test_a_damaged_lock_file_is_named(folder: Path, text: str) -> None:
    Path("dvc.lock").write_text(text)
    with pytest.raises(UserError, match=r"^dvc.lock is not a readable dvc.lock \(.*git checkout"):
        make()


@pytest.mark.parametrize(
    "name",
    [
        "table1.csv",
        "table1.md",
        "figure1.png",
        "figure1.pdf",
        "figure1.csv",
        "claims.csv",
        "coverage.csv",
        "headline.json",
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(
        UserError, match=f"not found: {folder / name}; make it with `snakemake --cores 2 {folder / name}`"
    ):
        make()
    assert not Path("results/quick/report.html").exists()


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("table1.csv", "a,b\n1,2\n", "is not a readable table"),
        ("claims.csv", "", "is not a readable list of claims"),
        ("coverage.csv", "item,what\n", "is not a readable coverage table"),
        ("figure1.png", "a text", "is not a PNG image"),
        ("headline.json", "{", "is not valid JSON"),
        ("headline.json", "[1]", "must be an object of named finite numbers"),
        ("headline.json", '{"a": "b"}', "must be an object of named finite numbers"),
        ("headline.json", '{"a": NaN}', "must be an object of named finite numbers"),
    ],
)
def test_a_malformed_file_is_named(folder: Path, name: str, text: str, fault: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=f"{name} {fault}"):
        make()


def test_an_empty_table_and_a_coverage_of_nothing_are_errors(folder: Path) -> None:
    save_rows(folder / "table1.csv", [])
    with pytest.raises(UserError, match=r"table1\.csv holds no rows"):
        make()
    save_rows(folder / "table1.csv", [ROW])
    save_coverage(
        folder / "coverage.csv", [Coverage(item="Table 9", what="w", status="partly", where="table9", note="")]
    )
    with pytest.raises(UserError, match="points to 'table9'"):
        make()


def test_an_unknown_paper_and_no_paper_are_errors(folder: Path) -> None:
    options = report.Options(out=Path("results/quick"), scale="quick")
    with pytest.raises(UserError, match="results/quick holds no paper's results"):
        report.run(options)
    save_json("results/quick/manifests/adp.json", {})
    with pytest.raises(UserError, match="unknown paper 'adp'; known: gat"):
        report.run(options)


def test_a_result_changed_or_deleted_after_the_pipeline_wrote_it_is_an_error(folder: Path) -> None:
    make()
    options = report.Options(out=Path("results/quick"), scale="quick")
    original = (folder / "table1.csv").read_text()
    (folder / "table1.csv").write_text(original.replace("97.5", "99.5"))
    with pytest.raises(UserError, match=r"table1\.csv was changed after the pipeline wrote it"):
        report.run(options)
    (folder / "table1.csv").unlink()
    with pytest.raises(UserError, match=r"table1\.csv is missing"):
        report.run(options)


def stage(name: str, outs: tuple[str, ...], deps: tuple[str, ...]) -> Stage:
    return Stage(name=name, command=f"robustgen {name}", outs=outs, deps=deps, record=None)


def test_upstream_follows_files_and_folders_and_ends_in_a_runnable_order() -> None:
    stages = [
        stage("last", ("results/q/t.csv",), ("data/d", "models/m/weights")),
        stage("left", ("data/d/left.npz",), ("data/root.npz",)),
        stage("right", ("data/d/right.npz",), ("data/root.npz",)),
        stage("folder", ("models/m",), ()),
        stage("root", ("data/root.npz",), ("src",)),
        stage("other", ("data/dd.npz", "models/m2"), ("data/root.npz",)),
    ]
    order = [found.name for found in upstream(stages, stages[:1])]
    assert sorted(order) == ["folder", "last", "left", "right", "root"]
    assert order[-1] == "last"
    assert order.index("root") < min(order.index("left"), order.index("right"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.97, "10 s"), (59.6, "1 min 00 s"), (192, "3 min 12 s"), (7500, "2 h 05 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert page.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1.26, "1.26"), (98.4, "98.4"), (-3.0, "−3"), (12000.0, "12000")]
)
def test_plain(value: float, text: str) -> None:
    assert page.plain(value) == text


def test_folded_commands_still_run_the_same() -> None:
    import shlex

    command = "robustgen attack " + " ".join(f"--option{index} {index}" for index in range(9))
    assert page.folded(command).count("\n") == 9
    assert shlex.split(page.folded(command).replace("\\\n", "")) == shlex.split(command)
    quoted = command + " --name 'a --b'"
    assert page.folded(quoted) == quoted
