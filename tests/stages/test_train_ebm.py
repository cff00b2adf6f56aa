from __future__ import annotations

import csv
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robustgen import models
from robustgen.cli import main
from robustgen.io import load_weights
from robustgen.training.checkpoint import FOLDER
from robustgen.training.snapshots import load_snapshots

COMMAND = (
    "train-ebm --data data/images/tiny.npz --out models/ebm.safetensors --snapshots models/ebm-snapshots.safetensors "
    "--curve results/ebm.csv --model.size 8 --model.channels 1 --model.width 4 --model.tau 0.1 --recipe.updates 10 "
    "--recipe.switch 5 --recipe.batch 16 --recipe.steps 3 --recipe.save-every 3 --recipe.log-every 4 "
    "--recipe.snapshots 2"
)
OUT = [Path("models/ebm.safetensors"), Path("models/ebm-snapshots.safetensors"), Path("results/ebm.csv")]

# Runs a command and kills itself, as the system's out-of-memory killer would, in the ninth update.
KILLED = """
import os, signal, sys
from robustgen.cli import main
from robustgen.training import ebm

real = ebm.train_step

def train_step(state, *args):
    if state.update == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(state, *args)

ebm.train_step = train_step
main(sys.argv[1:])
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_data: Callable[..., Path]) -> Path:
    monkeypatch.chdir(tmp_path)
    write_data(Path("data/images/tiny.npz"))
    return tmp_path


def made() -> list[bytes]:
    return [path.read_bytes() for path in OUT]


def test_model_snapshots_and_curve(here: Path) -> None:
    assert main(shlex.split(COMMAND)) == 0
    model = models.load(OUT[0], arch="nijkamp")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2,)
    _, header = load_weights(OUT[0])
    assert header["parameters"]["tau"] == 0.1
    assert header["training"]["steps"] == 3
    kept = load_snapshots(OUT[1])
    assert [(s.update, s.phase) for s in kept.snapshots] == [(5, "adam"), (10, "sgd")]
    last = kept.model(kept.snapshots[-1]).state_dict()
    assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())
    with OUT[2].open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["update"], row["phase"]) for row in rows] == [("4", "adam"), ("8", "sgd"), ("10", "sgd")]
    assert not list((here / FOLDER).iterdir())  # nothing to resume once the model is written


def test_a_killed_training_resumes_to_the_same_bytes(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(COMMAND)) == 0
    whole = made()
    for path in OUT:
        path.unlink()
    killed = subprocess.run([sys.executable, "-c", KILLED, *shlex.split(COMMAND)], cwd=here, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not any(path.exists() for path in OUT)
    assert len(list((here / FOLDER).iterdir())) == 1
    assert main(shlex.split(COMMAND)) == 0
    assert "resuming after update 6 of 10" in capfd.readouterr().err
    assert made() == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--model.size 16", "images are 1x8x8 where the model needs 1x16x16"),
        ("--model.size 12", "size is 12; it must be a power of two from 8 on, so pad the images"),
        ("--recipe.batch 100", "64 training images are fewer than one batch of 100"),
        ("--recipe.band 1e-9", "the energy difference left its band at update 1 "),
        ("--data data/images/none.npz", "array file not found: data/images/none.npz"),
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
