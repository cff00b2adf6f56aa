from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from robustgen import models
from robustgen.cli import main
from robustgen.io import load_weights
from robustgen.protocols import ScoreModel
from robustgen.training import dsm
from robustgen.training.checkpoint import FOLDER

COMMAND = (
    "train-ncsn --data data/images/tiny.npz --out models/ncsn.safetensors --curve results/ncsn.csv "
    "--levels results/ncsn-levels.csv --model.size 8 --model.channels 1 --model.width 2 --model.sigma-first 2 "
    "--model.levels 5 --recipe.updates 10 --recipe.batch 16 --recipe.lr 0.005 --recipe.milestones 6 8 "
    "--recipe.perturbation dct-augmix --recipe.save-every 3 --recipe.log-every 4 --validation-images 10"
)
OUT = [Path("models/ncsn.safetensors"), Path("results/ncsn.csv"), Path("results/ncsn-levels.csv")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder in which the command ran; nothing may be written there."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_data(Path("data/images/tiny.npz"))
        assert main(shlex.split(COMMAND)) == 0
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_data: Callable[..., Path]) -> Path:
    monkeypatch.chdir(tmp_path)
    write_data(Path("data/images/tiny.npz"))
    return tmp_path


def made(folder: Path) -> list[bytes]:
    return [(folder / path).read_bytes() for path in OUT]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_model_curve_and_levels(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    model = models.load(OUT[0], arch="ncsnv2")
    assert isinstance(model, ScoreModel)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    _, header = load_weights(OUT[0])
    assert header["parameters"]["sigma_first"] == 2
    assert (header["training"]["weights"], header["training"]["perturbation"]) == ("ema", "dct-augmix")
    curve = rows(OUT[1])
    assert [row["update"] for row in curve] == ["4", "8", "10"]
    assert all(0 < float(row["validation_loss"]) < 100 for row in curve)
    levels = rows(OUT[2])
    assert [row["level"] for row in levels] == ["1", "2", "3", "4", "5"]
    assert [float(row["sigma"]) for row in levels] == pytest.approx(model.sigmas.tolist(), rel=1e-5)
    assert all(0 < float(row["loss"]) < 3 for row in levels)
    assert not list(FOLDER.iterdir())  # nothing to resume once the model is written


def test_the_average_and_the_raw_weights_differ(here: Path, trained: Path) -> None:
    assert main(shlex.split(f"{COMMAND} --recipe.weights raw")) == 0
    assert all(a != b for a, b in zip(made(here), made(trained), strict=True))


class Killed(BaseException):
    """What no code of the stage catches."""


def test_a_killed_training_resumes_to_the_same_bytes(
    here: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = dsm.train_step

    def train_step(state: Any, *args: Any) -> Any:
        if state.update == 8:
            raise Killed
        return real(state, *args)

    with monkeypatch.context() as patch:
        patch.setattr(dsm, "train_step", train_step)
        with pytest.raises(Killed):
            main(shlex.split(COMMAND))
    assert not any(path.exists() for path in OUT)
    assert len(list((here / FOLDER).iterdir())) == 1
    assert main(shlex.split(COMMAND)) == 0
    assert "resuming after update 6 of 10" in capfd.readouterr().err
    assert made(here) == made(trained)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--model.size 16", "images are 1x8x8 where the model needs 1x16x16"),
        ("--model.size 9", "size must be even and at least 8, not 9"),
        ("--model.levels 1", "noise levels fall from sigma_first to sigma_last"),
        ("--recipe.batch 100", "64 training images are fewer than one batch of 100"),
        ("--recipe.band 1e-9", "the loss left its band at update 1 "),
        ("--recipe.lr 1e30 --recipe.band 1e300 --recipe.restarts 1", "update 2 (nan), after 1 restart"),
        ("--recipe.lr 0", "a recipe needs positive counts, lr > 0"),
        ("--data data/images/none.npz", "array file not found: data/images/none.npz"),
        ("--validation-images 0", "limit is 0; give at least 1 image"),
        ("--device cuda:99", "cuda"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    assert main(shlex.split(f"{COMMAND} {change}")) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert message in error[0]
    assert not any(path.exists() for path in OUT)


def test_other_architectures_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-ncsn", "--model.arch", "nijkamp"]) != 0
    assert "train-ncsn trains ncsnv2, not nijkamp; set --model.arch" in capsys.readouterr().err
