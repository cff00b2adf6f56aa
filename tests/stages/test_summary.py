from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from robustgen.evaluation.rows import Claim, Verdict, save_claims
from robustgen.io import save_json


def write(folder: Path, verdict: Verdict) -> None:
    save_json(folder / "headline.json", {"clean accuracy %": 98.5, "claims that hold": 3})
    numbers = {"value": 1.0, "low": 0.5, "high": 1.5, "n": 10}
    text = {"id": "a", "statement": "It works", "source": "Sec. 1", "quantity": "q", "condition": "> 0", "note": ""}
    save_claims(folder / "claims.csv", [Claim(**text, **numbers, verdict=verdict)])  # type: ignore[arg-type]


def test_headline_failing_claims_and_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    succeed: Callable[[str], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("results/desktop/one-paper"), "fails")
    write(Path("results/desktop/other-paper"), "holds")
    succeed("summary --scale desktop")
    text = capsys.readouterr().out
    assert text.index("one-paper, scale desktop") < text.index("other-paper, scale desktop")
    assert text.count("98.5") == 2
    assert text.count("fails: It works (Sec. 1)") == 1
    assert f"The report: {tmp_path}/results/desktop/report.html" in text


def test_scale_without_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[str], str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert fail("summary") == "error: results/quick holds no results; make them with `snakemake --cores 2 quick`"
    assert fail("summary --scale foo") == "error: unknown scale 'foo'; known: quick"
    save_json("results/quick/a/headline.json", {})
    assert "claims.csv" in fail("summary")


@pytest.mark.usefixtures("tiny")
def test_summary_of_computed_results(capsys: pytest.CaptureFixture[str], succeed: Callable[[str], None]) -> None:
    succeed("summary")
    assert "PGD detection rate %" in capsys.readouterr().out


def test_scale_that_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[str], str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("desktop/gat", "paper/adp", "paper/gat"):
        path = Path(f"params/{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    Path("dvc.yaml").write_text("vars: [params/desktop/gat.yaml]\nstages: {}\n")
    assert fail("summary --scale foo") == "error: unknown scale 'foo'; known: quick, desktop, paper"
    make = "make them with `snakemake --cores 2"
    assert fail("summary --scale desktop") == f"error: results/desktop holds no results; {make} desktop`"
    on = "`robustgen scale paper SLUG on` switches a paper on, SLUG being adp, gat"
    assert fail("summary --scale paper") == f"error: results/paper holds no results; {on}; then {make} paper`"
