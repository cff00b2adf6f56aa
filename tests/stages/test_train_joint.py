from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from robustgen import models
from robustgen.io import load_weights
from robustgen.protocols import EnergyModel
from robustgen.training import joint
from robustgen.training.checkpoint import FOLDER

RECIPE = "--recipe.updates 6 --recipe.batch 8 --recipe.steps 2 --recipe.buffer 16 --recipe.log-every 2"
SHAPE = "--data data.npz --model.size 8 --model.channels 1 --model.classes 4"
COMMANDS = {
    "jem": f"train-joint --out jem.safetensors --curve jem.csv {SHAPE} {RECIPE} --recipe.save-every 2 "
    "--model.depth 10 --model.widen 1 --model.base 4",
    "igebm": f"train-joint --out igebm.safetensors --curve igebm.csv {SHAPE} {RECIPE} --recipe.save-every 2 "
    "--model.arch igebm --model.width 4 --recipe.alpha 1 --recipe.beta1 0 --monitor-images 7",
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_data: Callable[..., Path]) -> None:
    """A folder with a data file, as the working folder."""
    monkeypatch.chdir(tmp_path)
    write_data(Path("data.npz"))


@pytest.mark.parametrize("arch", COMMANDS)
def test_model_and_curve(arch: str, succeed: Callable[[str], None]) -> None:
    succeed(COMMANDS[arch])
    model = models.load(f"{arch}.safetensors", arch=arch)
    assert isinstance(model, EnergyModel)
    _, header = load_weights(f"{arch}.safetensors")
    assert header["classes"] == [f"quarter {k}" for k in range(4)]
    assert header["training"]["updates"] == 6
    with Path(f"{arch}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("update", "loss", "energy_difference", "largest_difference"),
        *("cross_entropy", "penalty", "accuracy", "restarts"),
    ]
    assert [row["update"] for row in rows] == ["2", "4", "6"]
    assert all((row["cross_entropy"] == "") is (arch == "igebm") for row in rows)
    assert not list(FOLDER.iterdir())  # nothing to resume once the model is written


@pytest.mark.parametrize("arch", COMMANDS)
def test_interrupted_training_resumes_to_the_same_bytes(
    arch: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], succeed: Callable[[str], None]
) -> None:
    from robustgen.cli import main

    succeed(COMMANDS[arch])
    expected = [Path(f"{arch}{ending}").read_bytes() for ending in (".safetensors", ".csv")]
    Path(f"{arch}.safetensors").unlink()
    steps, real = iter(range(100)), joint.train_step

    def interrupted(*args: object) -> joint.Losses:
        if next(steps) == 5:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(joint, "train_step", interrupted)
        assert main(COMMANDS[arch].split()) == 130
    assert not Path(f"{arch}.safetensors").exists()
    succeed(COMMANDS[arch])
    assert "resuming after update 4 of 6" in capsys.readouterr().err
    assert [Path(f"{arch}{ending}").read_bytes() for ending in (".safetensors", ".csv")] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model.arch resnet10", "train-joint trains igebm and jem, not resnet10; set --model.arch"),
        ("--model.arch vgg", "unknown architecture 'vgg'"),
        ("--model.size 16", "images are 1x8x8 with 4 classes where the model needs 1x16x16 with 4 classes"),
        ("--model.depth 11", "no jem has these options: depth must be 10, 16"),
        ("--recipe.batch 65 --recipe.buffer 65", "jem: 64 training images are fewer than one batch of 65"),
        ("--recipe.buffer 7", "needs a buffer of at least one batch"),
        ("--recipe.lr 1e4 --recipe.updates 50 --recipe.restarts 1", "after 1 restarts from the last good state; lower"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, fail: Callable[[str], str]) -> None:
    assert message in fail(f"{COMMANDS['jem']} {options}")
    assert not Path("jem.safetensors").exists()
