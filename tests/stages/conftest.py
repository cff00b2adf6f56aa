"""A tiny project with everything that the stages of Beadini & Masi 2023 make, made once through the command line."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustgen import cli, io
from robustgen.cli import main

DATA = "--data data/images/tiny.npz"
TRAIN = (
    f"{DATA} --model.size 8 --model.channels 1 --model.classes 4 --model.width 4 --model.mean 0.3 --model.std 0.3 "
    "--recipe.lr 0.01 --recipe.batch 16 --monitor-images 16"
)
PGD = "--recipe.adversary.alpha 8/255 --recipe.adversary.steps 2 --recipe.adversary.eps"
MODELS = {
    "natural": "--recipe.epochs 4",
    "robust": f"--recipe.epochs 3 --recipe.select robust --recipe.monitor.eps 16/255 {PGD} 16/255",
    "quasi-robust": f"--recipe.epochs 2 {PGD} 4/255",
    "judge": "--recipe.epochs 3 --recipe.seed 1",
}
ATTACKS = {
    "pgd": "--attack.name pgd --attack.eps 16/255 --attack.alpha 4/255 --attack.steps 8 --trace",
    "pgd-strong": "--attack.name pgd --attack.eps 32/255 --attack.alpha 4/255 --attack.steps 8 --no-trace",
    "apgd": "--attack.name apgd --attack.eps 64/255 --attack.steps 8",
    "fgsm": "--attack.name fgsm --attack.eps 16/255",
    "targeted": "--attack.name pgd --attack.eps 16/255 --attack.steps 8 --attack.targeted",
    "he-pgd": "--attack.name he_pgd --attack.eps 16/255 --attack.alpha 4/255 --attack.steps 8 --trace",
}
FITTED = ("pgd", "pgd-strong", "apgd")
ROLES = " ".join(f"--{role} models/{role}.safetensors" for role in MODELS)


def commands() -> dict[str, str]:
    """The stages in order: what each makes, and its command."""
    found = {}
    for name, options in MODELS.items():
        out = f"models/{name}.safetensors"
        found[out] = f"train-classifier --out {out} --curve results/curves/{name}.csv {TRAIN} {options}"
    for name, options in ATTACKS.items():
        out = f"data/adversarial/tiny/{name}.npz"
        counts = f"--test 32 --validation {24 if name in FITTED else 0} --batch 20"
        found[out] = f"attack --out {out} --model models/natural.safetensors {DATA} {counts} {options}"
    out = "data/detection/tiny.npz"
    found[out] = (
        f"detect --out {out} --model models/natural.safetensors {DATA} --adversarial data/adversarial/tiny "
        f"--fit {' '.join(FITTED)} --attacks {' '.join(ATTACKS)}"
    )
    out = "data/detection/control.npz"
    found[out] = (
        f"detect --out {out} --model models/natural.safetensors {DATA} --adversarial data/adversarial/tiny "
        "--fit pgd --attacks pgd --detectors energy energy-released"
    )
    out = "data/interpretation/tiny.npz"
    found[out] = (
        f"interpret --out {out} {DATA} {ROLES} --images 30 --shown 5 --batch 16 --per-class 3 --steps 5 "
        "--adversary.eps 16/255 --adversary.alpha 4/255 --adversary.steps 3"
    )
    out = "results/quick/robust-generative"
    found[out] = (
        f"robust-generative --out {out} --detection data/detection --interpretation data/interpretation "
        "--studies tiny --controls control --interpreted tiny --scale quick"
    )
    return found


@pytest.fixture(scope="session")
def stage_commands() -> dict[str, str]:
    """{output: command line} of every stage of the tiny project."""
    return commands()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """The tiny project's folder. Write to it only below folders of your own."""
    root = tmp_path_factory.mktemp("tiny")
    write_data(root / "data/images/tiny.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for command in commands().values():
            assert main(shlex.split(command)) == 0, command
    return root


@pytest.fixture
def tiny(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny project's folder, as the working folder."""
    monkeypatch.chdir(built)
    return built


@pytest.fixture
def succeed() -> Callable[[str], None]:
    """succeed(command line): run it and assert that it succeeds."""

    def run(command: str) -> None:
        assert main(shlex.split(command)) == 0, command

    return run


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """fail(command line): run it, assert exit status 1, return the one line of its error message."""

    def run(command: str) -> str:
        capsys.readouterr()
        assert main(shlex.split(command)) == 1, command
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        return lines[0]

    return run


@pytest.fixture
def run(
    request: pytest.FixtureRequest, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], dict[str, np.ndarray]]:
    """run(options): the arrays that the stage which the test module names `STAGE` writes to out.npz.

    It runs in a folder that holds what `built` does, which the module makes anew where it needs another project.
    """
    for file in built.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)

    def call(options: str) -> dict[str, np.ndarray]:
        cli.run(request.module.STAGE, shlex.split(f"{options} --out out.npz"))
        return io.load_arrays("out.npz")

    return call
