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
from robustgen.models.detectors import load_detectors
from robustgen.training.checkpoint import FOLDER

DATA = "--data data/images/tiny.npz"
NETWORK = "--model.arch madry_cnn --model.size 8 --model.widths 2 4 --model.hidden 8 --model.mean 0.3 --model.std 0.3"
PGD = "--recipe.{0}.eps 0.1 --recipe.{0}.alpha 0.05 --recipe.{0}.steps"
RECIPE = (
    f"--recipe.updates 4 --recipe.check-every 2 --recipe.positives 8 --recipe.negatives 8 --recipe.lr 0.01 "
    f"{PGD.format('adversary')} 2 {PGD.format('monitor')} 3 --recipe.monitor.no-random-start --monitor-images 16"
)
TRAIN = f"train-gat {DATA} {NETWORK} --model.classes 1 {RECIPE}"
INIT = "--init models/classifier.safetensors --init-arch madry_cnn"
CLASSIFIER = (
    f"train-classifier {DATA} --out models/classifier.safetensors --curve classifier.csv {NETWORK} --model.classes 4 "
    "--recipe.epochs 2 --recipe.lr 0.01"
)

# Runs a command and kills itself, as the system's out-of-memory killer would, in the last update.
KILLED = """
import os, signal, sys
from robustgen.cli import main
from robustgen.training import gat

steps, real = iter(range(100)), gat.train_step

def train_step(*args):
    if next(steps) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)

gat.train_step = train_step
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A data file, a classifier and detectors that were trained from scratch."""
    root = tmp_path_factory.mktemp("gat")
    write_data(root / "data/images/tiny.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for command in (CLASSIFIER, f"{TRAIN} --out models/all.safetensors --curve all.csv"):
            assert main(shlex.split(command)) == 0, command
    return root


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as the working folder."""
    monkeypatch.chdir(project)
    return project


def test_detectors_and_curve(inside: Path) -> None:
    detectors = load_detectors("models/all.safetensors", complete=True)
    assert detectors.labels == (0, 1, 2, 3)
    _, header = load_weights("models/all.safetensors")
    assert header["architecture"] == "detectors"
    assert header["classes"] == [f"quarter {k}" for k in range(4)]
    assert header["training"]["updates"] == 4
    assert header["training"]["monitor"]["random_start"] is False
    with (inside / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "update",
        "detector",
        "loss",
        "train_natural_auc",
        "train_adversarial_auc",
        "natural_auc",
        "adversarial_auc",
    ]
    assert [(row["update"], row["detector"]) for row in rows] == [(u, k) for u in "024" for k in "0123"]
    assert not list((inside / FOLDER).iterdir())  # nothing to resume once the detectors are written


def test_same_command_writes_the_same_bytes(inside: Path, succeed: Callable[[str], None]) -> None:
    before = (inside / "models/all.safetensors").read_bytes(), (inside / "all.csv").read_bytes()
    succeed(f"{TRAIN} --out models/all.safetensors --curve all.csv")
    assert ((inside / "models/all.safetensors").read_bytes(), (inside / "all.csv").read_bytes()) == before


@pytest.mark.usefixtures("inside")
def test_some_classes_are_trained_as_among_all(succeed: Callable[[str], None]) -> None:
    succeed(f"{TRAIN} --classes 3 1 --out part.safetensors --curve part.csv --recipe.select last")
    succeed(f"{TRAIN} --out whole.safetensors --curve whole.csv --recipe.select last")
    part, whole = load_detectors("part.safetensors"), load_detectors("whole.safetensors")
    assert part.labels == (1, 3)
    for position, label in enumerate(part.labels):
        expected = whole.member(label).state_dict()
        for key, value in part.member(position).state_dict().items():
            torch.testing.assert_close(value, expected[key], atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("inside")
def test_fine_tuning_starts_at_the_subnetworks(succeed: Callable[[str], None]) -> None:
    succeed(f"{TRAIN} {INIT} --out tuned.safetensors --curve tuned.csv --recipe.lr 1e-12")
    tuned, classifier = load_detectors("tuned.safetensors"), models.load("models/classifier.safetensors")
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(tuned(x), classifier(x), atol=1e-5, rtol=0)


def test_killed_training_resumes_to_the_same_bytes(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    succeed: Callable[[str], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(project / "data")
    command = f"{TRAIN} --out models/all.safetensors --curve all.csv"
    done = subprocess.run([sys.executable, "-c", KILLED, *shlex.split(command)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not Path("models").exists()
    assert len(list(FOLDER.iterdir())) == 1
    succeed(command)
    assert "resuming after update 2 of 4" in capsys.readouterr().err
    for path in ("models/all.safetensors", "all.csv"):
        assert Path(path).read_bytes() == (project / path).read_bytes()
    assert not list(FOLDER.iterdir())


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model.classes 4", "a detector is a network with a single output; set --model.classes 1"),
        ("--model.size 16", "images are 1x8x8 where a detector needs 1x16x16"),
        ("--classes 1 4", "no class 4; the data's labels are 0 to 3"),
        ("--classes 1 1", "classes names a label twice: 1 1"),
        ("--recipe.updates 0", "a recipe needs updates, check_every, positives and negatives >= 1"),
        ("--recipe.adversary.eps -8/255", "an attack needs eps >= 0"),
        ("--init models/none.safetensors", "classifier not found: models/none.safetensors"),
        ("--init models/all.safetensors --init-arch madry_cnn", "holds a detectors, not the madry_cnn"),
        ("--init models/all.safetensors", "models/all.safetensors holds a classifier of arch detectors, "),
        (f"{INIT} --model.hidden 9", "holds a classifier of hidden 8, unlike the detectors"),
        ("--data data/images/none.npz", "array file not found: data/images/none.npz"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, fail: Callable[[str], str]) -> None:
    assert message in fail(f"{TRAIN} --out x.safetensors --curve x.csv {options}")
    assert not Path("x.safetensors").exists()


@pytest.mark.usefixtures("inside")
def test_unknown_architecture(fail: Callable[[str], str]) -> None:
    command = f"{TRAIN} --out x.safetensors --curve x.csv".replace("madry_cnn", "vgg")
    assert "unknown architecture 'vgg'; known are " in fail(command)
