from __future__ import annotations

import csv
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from robustgen import models
from robustgen.io import load_weights
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


def test_model_and_curve(tiny: Path) -> None:
    model = models.load(OUT)
    assert model.num_classes == 4
    _, header = load_weights(OUT)
    assert header["architecture"] == "resnet10"
    assert header["classes"] == [f"quarter {k}" for k in range(4)]
    assert header["training"]["epochs"] == 4
    with (tiny / "results/curves/natural.csv").open() as file:
        rows = list(csv.DictReader(file))
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
