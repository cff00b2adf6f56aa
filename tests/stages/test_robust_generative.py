from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from robustgen.evaluation.rows import load_claims, load_coverage, load_rows
from robustgen.io import load_json
from robustgen.papers.robust_generative import PAPER

OUT = Path("results/quick/robust-generative")


@pytest.mark.usefixtures("tiny")
def test_every_artifact_is_written() -> None:
    for artifact in PAPER.artifacts:
        suffixes = (".csv", ".md") if artifact.kind == "table" else (".csv", ".png", ".pdf")
        assert all((OUT / f"{artifact.name}{suffix}").stat().st_size > 0 for suffix in suffixes)
        if artifact.kind == "figure":
            with Image.open(OUT / f"{artifact.name}.png") as image:
                assert min(image.size) > 200
            with (OUT / f"{artifact.name}.csv").open() as file:
                assert list(csv.DictReader(file))


@pytest.mark.usefixtures("tiny")
def test_table_and_headline_agree() -> None:
    rows = load_rows(OUT / "table1.csv")
    assert {row.dataset for row in rows} == {"tiny", "control"}
    assert {row.scale for row in rows} == {"quick"}
    assert all(row.low is not None and row.high is not None and row.low <= row.value <= row.high for row in rows)
    cells = {(row.row, row.column): row for row in rows if row.dataset == "tiny"}
    headline = load_json(OUT / "headline.json")
    assert headline["clean accuracy %"] == pytest.approx(cells["Clean", "Accuracy"].value, abs=0.01)
    assert headline["PGD detection rate %"] == pytest.approx(cells["Energy: PGD", "DR"].value, abs=0.01)
    assert cells["Energy: PGD", "DR"].reference == 98.38
    claims = load_claims(OUT / "claims.csv")
    assert sum(value for name, value in headline.items() if name.startswith("claims")) == len(claims)


@pytest.mark.usefixtures("tiny")
def test_coverage_points_to_what_is_there() -> None:
    for line in load_coverage(OUT / "coverage.csv"):
        assert not line.where or (OUT / f"{line.where}.csv").exists()


@pytest.mark.usefixtures("tiny")
def test_same_command_writes_the_same_bytes(
    stage_commands: dict[str, str], succeed: Callable[[str], None], tiny: Path
) -> None:
    shutil.rmtree("own/again", ignore_errors=True)
    succeed(f"{stage_commands[str(OUT)]} --out own/again/robust-generative")
    names = sorted(path.name for path in OUT.iterdir())
    assert names == sorted(path.name for path in Path("own/again/robust-generative").iterdir())
    for name in names:
        assert (OUT / name).read_bytes() == (tiny / "own/again/robust-generative" / name).read_bytes(), name


@pytest.mark.usefixtures("tiny")
def test_missing_study(stage_commands: dict[str, str], fail: Callable[[str], str]) -> None:
    message = fail(f"{stage_commands[str(OUT)]} --out own/none --studies nothing")
    assert "array file not found: data/detection/nothing.npz" in message
