from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from robustgen.cli import main
from robustgen.errors import UserError
from robustgen.stages.scale import Options, run, switch

DEFINITION = """# The pipeline.
vars: []  # scales beside quick

stages:
  fetch:
    cmd: exec a "long command" that stays on one line --out ${key} ------------------------------------------ end
"""
GAT = "params/desktop/gat.yaml"
ADP = "params/desktop/adp.yaml"


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (GAT, ADP, "params/paper/gat.yaml"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("dvc.yaml").write_text(DEFINITION)
    return tmp_path


def listed() -> list[object]:
    return list(yaml.safe_load(Path("dvc.yaml").read_text())["vars"])


def test_on_and_off_again_leaves_every_byte(capsys: pytest.CaptureFixture[str]) -> None:
    run(Options(scale="desktop", slug="gat"))
    run(Options(scale="desktop", slug="adp", state="on"))
    assert listed() == [GAT, ADP]
    assert "snakemake desktop" in capsys.readouterr().out
    run(Options(scale="desktop", slug="gat", state="off"))
    assert listed() == [ADP]
    run(Options(scale="desktop", slug="adp", state="off"))
    assert Path("dvc.yaml").read_text() == DEFINITION


def test_twice_on_is_once() -> None:
    assert switch(Path("dvc.yaml"), GAT, on=True)
    text = Path("dvc.yaml").read_text()
    assert not switch(Path("dvc.yaml"), GAT, on=True)
    assert Path("dvc.yaml").read_text() == text
    assert not switch(Path("dvc.yaml"), ADP, on=False)


@pytest.mark.parametrize(
    "head",
    [
        f"vars:\n- {ADP} # tracked since May\n\n# the stages\n",
        f"vars:\n  # scales\n  - {ADP}\n\n",
        f"a: 1\nvars:\n- {ADP}\n- word: [1,\n    2]\n",
    ],
)
def test_block_lists_keep_comments_and_layout(head: str) -> None:
    text = head + "stages: {}\n"
    Path("dvc.yaml").write_text(text)
    switch(Path("dvc.yaml"), GAT, on=True)
    assert {item for item in listed() if isinstance(item, str)} == {ADP, GAT}
    switch(Path("dvc.yaml"), GAT, on=False)
    assert Path("dvc.yaml").read_text() == text
    switch(Path("dvc.yaml"), ADP, on=False)
    assert ADP not in listed()
    assert Path("dvc.yaml").read_text().endswith("stages: {}\n")


def test_list_in_brackets() -> None:
    Path("dvc.yaml").write_text(f"vars: [{ADP}, {GAT}] # two\nstages: {{}}\n")
    switch(Path("dvc.yaml"), ADP, on=False)
    assert Path("dvc.yaml").read_text() == f"vars: # two\n- {GAT}\nstages: {{}}\n"


@pytest.mark.parametrize(
    ("scale", "slug", "message"),
    [
        ("quick", "gat", "always on"),
        ("huge", "gat", "unknown scale 'huge'; known: desktop, paper"),
        ("paper", "adp", "no paper 'adp' at scale paper; known: gat"),
    ],
)
def test_unknown_names_are_errors_that_list_the_known(scale: str, slug: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(Options(scale=scale, slug=slug))
    assert Path("dvc.yaml").read_text() == DEFINITION


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", "not valid YAML"),
        ("stages: {}\n", "has no list `vars`"),
        ("vars: 3\n", "has no list `vars`"),
        ("- a\n", "has no list `vars`"),
        (f"vars: [\n  {ADP}]\n", "spans lines"),
    ],
)
def test_definitions_that_cannot_be_edited_stay(text: str, message: str) -> None:
    Path("dvc.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        switch(Path("dvc.yaml"), GAT, on=True)
    assert Path("dvc.yaml").read_text() == text


def test_outside_the_repository() -> None:
    Path("dvc.yaml").unlink()
    with pytest.raises(UserError, match="repository's root"):
        run(Options(scale="desktop", slug="gat"))


def test_help_names_the_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scale", "--help"])
    assert "SCALE SLUG" in capsys.readouterr().out
