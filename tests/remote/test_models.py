"""`robustgen models`: what the list says of each model."""

from __future__ import annotations

import re
import shutil

import pytest
import tyro

from robustgen.errors import UserError
from robustgen.stages import models

from .published import Repository
from .test_load import flipped, spoil

pytestmark = pytest.mark.remote

EVERY = {  # of the kept weights: the latest of the most robust, those of the best epoch, the last ones
    "desktop/digits8-natural": ("madry_cnn", "75.0 %", "non-commercial use only"),
    "quick/digits8-ebm": ("nijkamp", "-", "CC BY 4.0"),
    "quick/digits8-ebm-snapshots": ("nijkamp, snapshots", "-", "CC BY 4.0"),
    "quick/digits8-natural": ("madry_cnn", "87.5 %", "CC BY 4.0"),
    "quick/e-abs/d": ("aae", "87.5 %", "CC BY 4.0"),
    "quick/e-abs/e-abs": ("aae", "75.0 %", "CC BY 4.0"),
    "quick/gat/tuned": ("detectors of madry_cnn", "-", "CC BY 4.0; non-commercial use only"),
}


@pytest.fixture(autouse=True)
def inside(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.root)


def shown(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    models.run(tyro.cli(models.Options, args=options))
    return capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, list[str]]:
    """The cells of each line, by model."""
    table, _, _ = shown(capsys, *options).partition("\n\n")
    rows = [re.split(r" {2,}", line) for line in table.splitlines()]
    assert rows[0] == list(models.HEADER)
    return {row[0]: row for row in rows[1:]}


def test_every_model_with_its_facts(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys)
    assert list(lines) == sorted(EVERY)
    for name, (arch, accuracy, licence) in EVERY.items():
        size = repository.file(name).stat().st_size
        assert lines[name] == [name, arch, "workspace", f"{size / 1000:.1f} kB", accuracy, licence]


def test_where_each_is(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["quick/digits8-natural", "quick/e-abs/e-abs", "quick/e-abs/d", "quick/gat/tuned", "quick/digits8-ebm"]
    changed, cached, remote, missing, here = names
    spoil(repository.file(changed), flipped)
    for name in (cached, remote, missing):
        repository.file(name).unlink()
    for name in (remote, missing):
        repository.objects(name)[0].unlink()
    repository.objects(missing)[1].unlink()
    lines = listed(capsys, "--scale", "quick")
    places = {name: lines[name][2] for name in names}
    assert places == {
        changed: "changed",
        cached: "cache",
        remote: "remote",
        missing: "missing",
        here: "workspace",
    }
    assert "desktop/digits8-natural" not in lines
    assert {line[2] for line in listed(capsys, "--no-remote").values()} == {*places.values(), "not here"} - {
        "remote",
        "missing",
    }


def test_a_remote_that_does_not_answer(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.run("dvc", "remote", "modify", "storage", "url", "ssh://127.0.0.1:9/nobody")
    assert "The remote was not asked" not in shown(capsys)  # everything is here
    repository.forget("workspace", "cache")
    text = shown(capsys)
    assert text.count("not here") == len(EVERY)
    assert re.search(r"\n\nThe remote was not asked: .*127", text)


def test_curves_that_are_not_there(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(repository.root / "results")
    assert {line[4] for line in listed(capsys).values()} == {"-"}


def test_unknown_scale(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("desktop/gat", "paper/adp"):
        path = repository.root / f"params/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(UserError, match="unknown scale 'foo'; known: quick, desktop, paper"):
        models.run(models.Options(scale="foo"))
    assert "No model of scale paper is recorded" in shown(capsys, "--scale", "paper")


def test_help_names_the_scale(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(models.Options, args=["--help"])
    assert "--scale SCALE" in capsys.readouterr().out
