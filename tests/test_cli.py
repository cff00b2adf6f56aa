from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from robustgen import __version__, cli
from robustgen.errors import UserError
from robustgen.records import record_path

ATTACK = ["--model", "m", "--data", "d", "--out", "o"]
TRAIN = ["--data", "d", "--out", "o", "--curve", "c", "--recipe.epochs", "1"]


def test_usage_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.STAGES | cli.TOOLS)
    assert cli.main([]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"robustgen {__version__}\n"


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown command 'trian'\n\nusage:")


@pytest.mark.parametrize("command", [*cli.STAGES, *cli.TOOLS])
def test_every_command_explains_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: robustgen {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", [*cli.STAGES, *cli.TOOLS])
def test_unknown_option_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, *(["desktop", "a-paper"] if command == "scale" else []), "--no-such-option", "1"])
    assert caught.value.code == 2
    assert "--no-such-option" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "options", "named"),
    [
        ("attack", ATTACK, "--test"),
        ("attack", [*ATTACK, "--test", "many"], "--test"),
        ("attack", [*ATTACK, "--test", "1", "--attack.eps", "8/x"], "--attack.eps"),
        ("attack", [*ATTACK, "--test", "1", "--attack.lam", "1"], "--attack.lam"),
        ("train-classifier", ["--data", "d", "--out", "o", "--curve", "c"], "--recipe.epochs"),
        ("train-classifier", [*TRAIN, "--recipe.milestones", "9", "late"], "--recipe.milestones"),
        ("train-classifier", [*TRAIN, "--model.width", "broad"], "--model.width"),
        ("train-classifier", [*TRAIN, "--recipe.select", "best"], "--recipe.select"),
        ("train-classifier", [*TRAIN, "--recipe.precision", "float16"], "--recipe.precision"),
        ("train-classifier", [*TRAIN, "--recipe.adversary.epsilon", "0.1"], "--recipe.adversary.epsilon"),
        ("detect", ["--model", "m"], "--adversarial"),
    ],
)
def test_missing_or_ill_typed_option_is_named(
    command: str, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, *options])
    assert caught.value.code == 2
    assert named in capsys.readouterr().err


def test_options_of_the_chosen_attack_only(capsys: pytest.CaptureFixture[str]) -> None:
    for name, has in (("he_pgd", True), ("fgsm", False)):
        with pytest.raises(SystemExit):
            cli.main(["attack", "--attack.name", name, "--help"])
        assert ("--attack.lam" in capsys.readouterr().out) is has


def test_user_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["summary", "--scale", "quick"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: results/quick holds no results")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(("error", "status"), [(UserError("broken; mend it"), 1), (KeyboardInterrupt(), 130)])
def test_failed_stage_leaves_no_record(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
) -> None:
    from robustgen.stages import fetch

    def fail(_: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "run", fail)
    assert cli.main(["fetch", "--out", "x.npz", "--name", "digits"]) == status
    assert capsys.readouterr().err.startswith("error: ")
    assert not record_path("x.npz").exists()


def test_finished_stage_leaves_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustgen.stages import fetch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "run", lambda _: None)
    assert cli.main(["fetch", "--out", "x.npz", "--name", "digits"]) == 0
    assert record_path("x.npz").exists()


def test_command_starts_without_torch() -> None:
    code = "import sys; from robustgen.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "robustgen.cli", "nope"], capture_output=True, check=False)
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--no-recipe.flip", "--recipe.no-flip"),
        ("--no-a.b-c.d", "--a.b-c.no-d"),
        ("--no-trace", "--no-trace"),
        ("--recipe.no-flip", "--recipe.no-flip"),
        ("--no-where=a.b", "--no-where=a.b"),
        ("no-recipe.flip", "no-recipe.flip"),
    ],
)
def test_dvcs_way_to_write_a_nested_false_is_read(word: str, expected: str) -> None:
    assert cli.negated(word) == expected
