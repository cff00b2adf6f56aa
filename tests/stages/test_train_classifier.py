from __future__ import annotations

import csv
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from robustgen import models
from robustgen.io import load_weights
from robustgen.stages import train_classifier as stage
from robustgen.training.checkpoint import FOLDER, Checkpoint

OUT = "models/natural.safetensors"

# Runs a command and kills itself, as the system's out-of-memory killer would, in the second batch of the third epoch.
KILLED = """
import os, signal, sys
from robustgen.cli import main
from robustgen.training import classifier

steps, real = iter(range(100)), classifier.train_step

def train_step(*args):
    if next(steps) == 2 * 4 + 1:  # four batches an epoch
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)

classifier.train_step = train_step
main(sys.argv[1:])
"""


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_model_and_curve(tiny: Path) -> None:
    model = models.load(OUT)
    assert model.num_classes == 4
    _, header = load_weights(OUT)
    assert header["architecture"] == "resnet10"
    assert header["classes"] == [f"quarter {k}" for k in range(4)]
    assert header["training"]["epochs"] == 4
    rows = rows_of(tiny / "results/curves/natural.csv")
    assert list(rows[0]) == ["epoch", "loss", "clean_accuracy", "robust_accuracy"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert not list((tiny / FOLDER).iterdir())  # nothing to resume once the model is written


def test_header_names_later_options_only_where_they_are_used(
    tiny: Path, stage_commands: dict[str, str], succeed: Callable[[str], None]
) -> None:
    """A file that was trained before they existed is made again byte for byte."""
    _, header = load_weights(OUT)
    old = header["training"]
    assert not {"optimizer", "momentum", "gamma"} & old.keys()
    assert old["adversary"].keys() == old["monitor"].keys() == {"eps", "alpha", "steps"}
    succeed(
        f"{stage_commands[OUT]} --out own/l2.safetensors --curve own/l2.csv --recipe.epochs 1 --recipe.optimizer sgd "
        "--recipe.lr 0.1 --recipe.gamma 0.2 --recipe.adversary.eps 0.5 --recipe.adversary.norm l2 "
        "--recipe.adversary.craft train"
    )
    new = load_weights("own/l2.safetensors")[1]["training"]
    assert new.keys() - old.keys() == {"optimizer", "gamma"}
    assert (new["optimizer"], new["gamma"]) == ("sgd", 0.2)
    assert (new["adversary"]["norm"], new["adversary"]["craft"]) == ("l2", "train")
    assert "norm" not in new["monitor"]


def test_same_command_writes_the_same_bytes(
    tiny: Path, stage_commands: dict[str, str], succeed: Callable[[str], None]
) -> None:
    before = (tiny / OUT).read_bytes(), (tiny / "results/curves/natural.csv").read_bytes()
    succeed(stage_commands[OUT])
    assert ((tiny / OUT).read_bytes(), (tiny / "results/curves/natural.csv").read_bytes()) == before


def test_killed_training_resumes_to_the_same_bytes(
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage_commands: dict[str, str],
    succeed: Callable[[str], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(built / "data")
    words = [sys.executable, "-c", KILLED, *shlex.split(stage_commands[OUT])]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not Path(OUT).exists()
    assert not Path("results").exists()
    assert len(list(FOLDER.iterdir())) == 1
    succeed(stage_commands[OUT])
    assert "resuming after epoch 2 of 4" in capsys.readouterr().err
    for path in (OUT, "results/curves/natural.csv"):
        assert Path(path).read_bytes() == (built / path).read_bytes()
    assert not list(FOLDER.iterdir())


def test_changed_option_does_not_resume_a_foreign_state(
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage_commands: dict[str, str],
    succeed: Callable[[str], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(built / "data")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "clear", lambda _: None)  # as if killed at the very end
        succeed(stage_commands[OUT])
    succeed(f"{stage_commands[OUT]} --recipe.seed 5")
    assert "resuming" not in capsys.readouterr().err
    assert len(list(FOLDER.iterdir())) == 1


def test_a_checkpoint_belongs_to_all_modules_that_make_the_network(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, succeed: Callable[[str], None], stage_commands: dict[str, str]
) -> None:
    named: list[str] = []
    real = stage.identity

    def identity(options: Any, files: list[Path], sources: list[str]) -> dict[str, Any]:
        named.extend(sources)
        return real(options, files, sources)

    monkeypatch.setattr(stage, "identity", identity)
    succeed(f"{stage_commands[OUT]} --out sources/x.safetensors --curve sources/x.csv")
    assert set(named) == {*stage.SOURCES, "models.resnet10"}
    assert all(find_spec(f"robustgen.{name}") for name in named)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model.arch vgg", "unknown architecture 'vgg'; known are "),
        ("--model.size 16", "images are 1x8x8 with 4 classes where the model needs 1x16x16 with 4 classes"),
        ("--model.classes 10", "images are 1x8x8 with 4 classes where the model needs 1x8x8 with 10 classes"),
        ("--model.mean 0.3 0.4", "no resnet10 has these options: mean and std need 1 values each"),
        ("--recipe.epochs 0", "a recipe needs epochs >= 1"),
        ("--recipe.batch 1", "a recipe needs epochs >= 1, batch >= 2"),
        ("--recipe.adversary.eps -8/255", "an adversary needs eps >= 0"),
        ("--recipe.momentum 1", "a recipe needs optimizer adam or sgd, 0 <= momentum < 1"),
        ("--recipe.monitor.craft train", "a monitor crafts in eval mode"),
        ("--data models/natural.safetensors", "is not a readable npz array file"),
        ("--out models/judge.safetensors/x", "cannot write models/judge.safetensors/x"),
    ],
)
def test_what_the_user_can_mend(
    options: str, message: str, stage_commands: dict[str, str], fail: Callable[[str], str]
) -> None:
    command = f"{stage_commands[OUT]} --recipe.epochs 1 --out own/x.safetensors --curve own/x.csv"
    assert message in fail(f"{command} {options}")
    assert not Path("own/x.safetensors").exists()


@pytest.mark.usefixtures("tiny")
def test_missing_data(stage_commands: dict[str, str], fail: Callable[[str], str]) -> None:
    message = fail(f"{stage_commands[OUT]} --data data/images/none.npz")
    assert "array file not found: data/images/none.npz" in message


def test_fine_tuning_starts_at_the_weights_of_the_other(
    tiny: Path, stage_commands: dict[str, str], succeed: Callable[[str], None]
) -> None:
    """It goes on from them, batch-norm statistics and all, and leaves their file as it is."""
    before = (tiny / OUT).read_bytes()
    tuned = f"{stage_commands[OUT]} --out own/tuned.safetensors --curve own/tuned.csv --recipe.epochs 1"
    succeed(f"{tuned} --init {OUT} --recipe.lr 1e-12 --recipe.weight-decay 0")
    start, model = models.load(OUT), models.load("own/tuned.safetensors")
    for name, weight in start.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), weight, atol=1e-8, rtol=0)
    counted = [int(each.state_dict()["bn1.num_batches_tracked"]) for each in (start, model)]
    assert counted[1] - counted[0] == 4  # the batches of an epoch
    assert (tiny / OUT).read_bytes() == before
    first = float(rows_of(tiny / "results/curves/natural.csv")[0]["loss"])
    assert float(rows_of(tiny / "own/tuned.csv")[0]["loss"]) < first / 2
    succeed(f"{tuned} --init {OUT} --init-arch resnet10")
    assert models.load("own/tuned.safetensors").num_classes == 4


def test_killed_fine_tuning_resumes_to_the_same_bytes_unless_its_start_changed(
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage_commands: dict[str, str],
    succeed: Callable[[str], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(built / "data")
    shutil.copy(built / OUT, "start.safetensors")
    command = f"{stage_commands[OUT]} --init start.safetensors"
    done = subprocess.run([sys.executable, "-c", KILLED, *shlex.split(command)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = {path: path.read_bytes() for path in FOLDER.iterdir()}
    succeed(command)
    assert "resuming after epoch 2 of 4" in capsys.readouterr().err
    resumed = Path(OUT).read_bytes()
    succeed(command)
    assert Path(OUT).read_bytes() == resumed != (built / OUT).read_bytes()
    for path, content in state.items():
        path.write_bytes(content)
    shutil.copy(built / "models/judge.safetensors", "start.safetensors")
    succeed(command)
    assert "resuming" not in capsys.readouterr().err
    assert Path(OUT).read_bytes() != resumed


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--init models/none.safetensors", "classifier not found: models/none.safetensors; make it with "),
        ("--init data/images/tiny.npz", "data/images/tiny.npz is not a readable safetensors file"),
        (f"--init {OUT} --init-arch vgg", f"{OUT} holds a resnet10, not the vgg that was asked for"),
        (
            f"--init {OUT} --model.width 5 --model.mean 0.4",
            "holds a classifier of width 4, mean (0.3,), unlike the one",
        ),
        (
            f"--init {OUT} --model.arch madry_cnn --model.hidden 8",
            "holds a classifier of arch resnet10, unlike the one",
        ),
    ],
)
def test_what_cannot_be_gone_on_from(
    options: str, message: str, stage_commands: dict[str, str], fail: Callable[[str], str]
) -> None:
    command = stage_commands[OUT].replace("--model.width 4", "") if "madry_cnn" in options else stage_commands[OUT]
    assert message in fail(f"{command} --recipe.epochs 1 --out own/x.safetensors --curve own/x.csv {options}")
    assert not Path("own/x.safetensors").exists()
