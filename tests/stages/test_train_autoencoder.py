from __future__ import annotations

import csv
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from robustgen import models
from robustgen.cli import main
from robustgen.data import load_split
from robustgen.io import load_weights
from robustgen.models.aae import AAE
from robustgen.stages import train_autoencoder as stage
from robustgen.training import aae
from robustgen.training.aae import Check, Recipe
from robustgen.training.checkpoint import FOLDER

DATA = "--data data/images/tiny.npz"
NETWORK = (
    "--model.size 8 --model.classes 4 --model.latent 3 --model.encoder-channels 6 8 --model.encoder-kernels 3 4 "
    "--model.encoder-strides 2 1 --model.encoder-paddings 1 0 --model.decoder-channels 8 6 1 "
    "--model.decoder-kernels 4 4 1 --model.decoder-strides 1 2 1 --model.decoder-paddings 0 1 0 --model.neurons 12 6"
)
RECIPE = "--recipe.epochs 6 --recipe.batch 16 --recipe.lr 0.01 --recipe.noise 0.05 --recipe.check-every 2"
TRAIN = f"train-autoencoder {DATA} {NETWORK} {RECIPE} --monitor-images 22"
OUT = "models/e-abs.safetensors"
CURVE = "results/aae-curves/e-abs.csv"
COMMAND = f"{TRAIN} --out {OUT} --curve {CURVE}"

# Runs a command and kills itself, as the system's out-of-memory killer would, in the third epoch.
KILLED = """
import os, signal, sys
from robustgen.cli import main
from robustgen.stages import train_autoencoder as stage
from robustgen.training import aae

steps, real = iter(range(100)), aae.train_step

def train_step(*args):
    if next(steps) == 2 * 4 + 1:  # four batches an epoch
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)

aae.train_step = train_step
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A data file and the networks trained on it, with dropout."""
    root = tmp_path_factory.mktemp("autoencoder")
    write_data(root / "data/images/tiny.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(shlex.split(COMMAND)) == 0
    return root


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as the working folder."""
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def outside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that has the project's data and nothing else."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(project / "data")
    return tmp_path


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def test_networks_and_curve(inside: Path) -> None:
    model: Any = models.load(OUT, arch="aae")
    assert isinstance(model, AAE)
    assert (model.num_classes, model.config.latent, model.config.dropout) == (4, 3, 0.2)
    _, header = load_weights(OUT)
    assert header["classes"] == [f"quarter {k}" for k in range(4)]
    recipe = Recipe(epochs=6, batch=16, lr=0.01, noise=0.05, check_every=2)
    assert header["training"] == asdict(recipe)  # β and cost, which inference needs, among it
    rows = rows_of(CURVE)
    assert list(rows[0]) == list(Check.__dataclass_fields__)
    assert [row["epoch"] for row in rows] == ["2", "4", "6"]
    assert float(rows[-1]["reconstruction"]) < float(rows[0]["reconstruction"])
    assert not list((inside / FOLDER).iterdir())  # nothing to resume once the networks are written


@pytest.mark.usefixtures("inside")
def test_the_curve_s_last_row_is_of_the_networks_written() -> None:
    """And of as many validation images as the option says."""
    model, validation = models.load(OUT), load_split("data/images/tiny.npz", "validation", limit=22)
    with torch.no_grad():
        logits = model(validation.images)
    accuracy = float((logits.argmax(1) == validation.labels).double().mean())
    assert float(rows_of(CURVE)[-1]["accuracy"]) == pytest.approx(accuracy)
    cost = -float(logits.gather(1, validation.labels[:, None]).mean())
    assert float(rows_of(CURVE)[-1]["validation_reconstruction"]) == pytest.approx(cost, rel=1e-4)


def test_same_command_writes_the_same_bytes(inside: Path, succeed: Callable[[str], None]) -> None:
    before = (inside / OUT).read_bytes(), (inside / CURVE).read_bytes()
    torch.manual_seed(99)
    succeed(COMMAND)
    assert ((inside / OUT).read_bytes(), (inside / CURVE).read_bytes()) == before
    succeed(f"{TRAIN} --out other/seed.safetensors --curve other/seed.csv --recipe.seed 1")
    assert rows_of("other/seed.csv") != rows_of(CURVE)


@pytest.mark.usefixtures("outside")
def test_the_seed_decides_where_training_starts(succeed: Callable[[str], None]) -> None:
    starts = []
    for seed in (0, 0, 1):
        succeed(f"{TRAIN} --out x.safetensors --curve x.csv --recipe.lr 1e-30 --recipe.seed {seed}")
        starts.append(models.load("x.safetensors").state_dict()["decoder.fc.weight"])
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("adversarial", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_every_variant_of_the_ablation(adversarial: bool, shared: bool, succeed: Callable[[str], None]) -> None:
    """Switches in the words that DVC writes for them."""
    switches = [
        f"--{'' if on else 'no-'}model.{name}" for name, on in (("adversarial", adversarial), ("shared", shared))
    ]
    succeed(f"{TRAIN} {' '.join(switches)} --recipe.epochs 2 --out x.safetensors --curve x.csv")
    model: Any = models.load("x.safetensors")
    assert (model.config.adversarial, model.config.shared) == (adversarial, shared)
    assert (model.discriminator is not None) == adversarial
    assert model.groups == (1 if shared else 4)


@pytest.mark.usefixtures("outside")
def test_killed_training_resumes_to_the_same_bytes(
    project: Path, capsys: pytest.CaptureFixture[str], succeed: Callable[[str], None]
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, *shlex.split(COMMAND)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not Path("models").exists()
    assert not Path("results").exists()
    assert len(list(FOLDER.iterdir())) == 1
    succeed(COMMAND)
    assert "resuming after epoch 2 of 6" in capsys.readouterr().err
    for path in (OUT, CURVE):
        assert Path(path).read_bytes() == (project / path).read_bytes()
    assert not list(FOLDER.iterdir())


@pytest.mark.usefixtures("outside")
def test_interruption_says_how_to_go_on(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    succeed: Callable[[str], None],
) -> None:
    steps, real = iter(range(100)), aae.train_step

    def interrupted(*args: Any) -> Any:
        if next(steps) == 4 * 4 + 2:  # in the fifth epoch
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(aae, "train_step", interrupted)
        assert main(shlex.split(COMMAND)) == 130
    assert "interrupted; run the same command again, a training resumes" in capsys.readouterr().err
    assert not Path(OUT).exists()
    succeed(COMMAND)
    assert "resuming after epoch 4 of 6" in capsys.readouterr().err
    assert Path(OUT).read_bytes() == (project / OUT).read_bytes()


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("change", ["--recipe.seed 5", "--model.dropout 0.1", "--monitor-images 20", "data"])
def test_changed_training_does_not_resume_a_foreign_state(
    change: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write_data: Callable[..., Path],
    succeed: Callable[[str], None],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("robustgen.training.checkpoint.Checkpoint.clear", lambda _: None)  # as if killed at the very end
        succeed(COMMAND)
    options = change
    if change == "data":  # another content under the same name
        Path("data").unlink()
        options = f"--data {write_data(tmp_path / 'data/images/tiny.npz', train=60).relative_to(tmp_path)}"
    succeed(f"{COMMAND} {options}")
    assert "resuming" not in capsys.readouterr().err
    assert len(list(FOLDER.iterdir())) == 1


@pytest.mark.usefixtures("outside")
def test_a_checkpoint_belongs_to_all_modules_that_make_the_networks(
    monkeypatch: pytest.MonkeyPatch, succeed: Callable[[str], None]
) -> None:
    named: list[str] = []
    real = stage.identity

    def identity(options: Any, files: list[Path], sources: list[str]) -> dict[str, Any]:
        named.extend(sources)
        return real(options, files, sources)

    monkeypatch.setattr(stage, "identity", identity)
    succeed(f"{TRAIN} --model.arch aae --recipe.epochs 2 --out x.safetensors --curve x.csv")
    assert set(named) == {*stage.SOURCES, "models.aae", "models.encoder_cnn"}
    assert all(find_spec(f"robustgen.{name}") for name in named)


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("arch", ["vgg", "resnet10"])
def test_no_other_architecture_is_trained(arch: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(shlex.split(f"{TRAIN} --out x.safetensors --curve x.csv --model.arch {arch}"))
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("--model.arch", f"'{arch}'", "aae"))
    assert not Path("x.safetensors").exists()


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--model.channels 3 --model.decoder-channels 8 6 3",
            "images are 1x8x8 with 4 classes where the model needs 3x",
        ),
        ("--model.classes 10", "images are 1x8x8 with 4 classes where the model needs 1x8x8 with 10 classes"),
        ("--model.size 16", "no aae has these options: the decoder makes images of side 8, not 16"),
        ("--model.encoder-strides 2", "no aae has these options: encoder_channels, _kernels, _strides and _paddings"),
        ("--recipe.epochs 0", "a recipe needs epochs, halve_every and check_every >= 1"),
        ("--recipe.noise -1/255", "a recipe needs beta, gamma and noise >= 0"),
        (
            "--recipe.batch 7 --model.no-shared",
            "a batch of 7 has less than 2 images (batch norm) for each of 4 encoders",
        ),
        ("--recipe.lr 1e30", "x: after epoch 2 a loss is no longer finite; lower --recipe.lr"),
        ("--monitor-images 0", "limit is 0; give at least 1 image"),
        ("--data data/images/none.npz", "array file not found: data/images/none.npz"),
        (f"--data {OUT}", "is not a readable npz array file"),
        (f"--out {OUT}/x", f"cannot write {OUT}/x"),
        ("--device abacus", "unknown device 'abacus'; use cpu, cuda or cuda:N"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, fail: Callable[[str], str]) -> None:
    assert message in fail(f"{TRAIN} --recipe.epochs 2 --out x.safetensors --curve x.csv {options}")
    assert not Path("x.safetensors").exists()
