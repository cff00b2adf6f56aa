"""Every kind of training, killed, ended and interrupted at random moments: it goes on and ends with the same bytes."""

from __future__ import annotations

import os
import random
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..workflow.conftest import Project
from .harness import interrupt, marked, started, until
from .test_interruptions import KINDS

pytestmark = pytest.mark.faults

TRIALS = int(os.environ.get("FAULT_TRIALS", "3"))
SHAPE = "--data data.npz --model.size 8"
AAE = (
    "--model.classes 4 --model.latent 3 --model.encoder-channels 6 8 --model.encoder-kernels 3 4 "
    "--model.encoder-strides 2 1 --model.encoder-paddings 1 0 --model.decoder-channels 8 6 1 "
    "--model.decoder-kernels 4 4 1 --model.decoder-strides 1 2 1 --model.decoder-paddings 0 1 0 --model.neurons 12 6"
)
COMMANDS = {  # some seconds each, a checkpoint every few tenths of one
    "train-classifier": "--model.channels 1 --model.classes 4 --model.width 4 --model.mean 0.3 --model.std 0.3 "
    "--recipe.epochs 20 --recipe.lr 0.01",
    "train-ebm": "--snapshots snapshots.safetensors --model.channels 1 --model.width 4 --model.tau 0.1 "
    "--recipe.updates 300 --recipe.switch 150 --recipe.batch 16 --recipe.steps 5 --recipe.save-every 20 "
    "--recipe.log-every 50 --recipe.snapshots 2",
    "train-ncsn": "--levels levels.csv --model.channels 1 --model.width 2 --model.sigma-first 2 --model.levels 5 "
    "--recipe.updates 120 --recipe.batch 16 --recipe.lr 0.005 --recipe.save-every 10 --recipe.log-every 20 "
    "--validation-images 10",
    "train-gat": "--model.arch madry_cnn --model.widths 2 4 --model.hidden 8 --model.mean 0.3 --model.std 0.3 "
    "--model.classes 1 --recipe.updates 120 --recipe.check-every 10 --recipe.positives 8 --recipe.negatives 8 "
    "--recipe.lr 0.01 --recipe.adversary.eps 0.1 --recipe.adversary.alpha 0.05 --recipe.adversary.steps 2 "
    "--recipe.monitor.eps 0.1 --recipe.monitor.alpha 0.05 --recipe.monitor.steps 3 --monitor-images 16",
    "train-autoencoder": f"{AAE} --recipe.epochs 24 --recipe.batch 16 --recipe.lr 0.01 --recipe.noise 0.05 "
    "--recipe.check-every 2 --monitor-images 22",
    "train-joint": "--model.channels 1 --model.classes 4 --model.depth 10 --model.widen 1 --model.base 4 "
    "--recipe.updates 60 --recipe.batch 8 --recipe.steps 2 --recipe.buffer 16 --recipe.log-every 20 "
    "--recipe.save-every 5",
}


@dataclass(frozen=True)
class Undisturbed:
    files: dict[str, bytes]
    seconds: float


def command(name: str) -> list[str]:
    program = [sys.executable, "-m", "robustgen.cli", name, "--out", "model.safetensors", "--curve", "curve.csv"]
    return [*program, *shlex.split(f"{SHAPE} {COMMANDS[name]}")]


def made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".safetensors", ".csv")}


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]
) -> Callable[..., Undisturbed]:
    """What a training makes when nobody interrupts it; computed when it is first asked for."""
    known: dict[str, Undisturbed] = {}

    def run(name: str) -> Undisturbed:
        if name not in known:
            project = Project(root=tmp_path_factory.mktemp(name), env=dict(os.environ))
            write_data(project.root / "data.npz")
            before = time.monotonic()
            project.run(*command(name))
            known[name] = Undisturbed(made(project.root), time.monotonic() - before)
        return known[name]

    return run


@pytest.mark.parametrize("seed", range(TRIALS))
def test_training_goes_on(
    seed: int, tmp_path: Path, write_data: Callable[..., Path], undisturbed: Callable[..., Undisturbed]
) -> None:
    name, kind = list(COMMANDS)[seed % 6], KINDS[(seed // 6 + seed) % 3]
    wanted, chance = undisturbed(name), random.Random(seed)
    for attempt in range(4):  # where it had ended by then, sooner
        project = Project(root=tmp_path / f"attempt{attempt}", env=dict(os.environ))
        write_data(project.root / "data.npz")
        if interrupted(project, command(name), kind, chance, wanted.seconds / 2**attempt):
            break
    else:
        pytest.fail("the training always ended before it could be interrupted")
    whole = {file: content for file, content in made(project.root).items() if not file.startswith(".")}
    assert whole.items() <= wanted.files.items(), "a file that is there is complete"
    begun = list(project.root.glob(".cache/checkpoints/[!.]*.safetensors"))
    said = project.run(*command(name))
    assert ("resuming after" in said) == bool(begun)
    assert made(project.root) == wanted.files
    assert not list(project.root.glob(".cache/checkpoints/*"))


def interrupted(
    project: Project, words: list[str], kind: signal.Signals, chance: random.Random, seconds: float
) -> bool:
    """Interrupt the command after its first checkpoint, or now and then before; whether it had not ended by then."""
    early = chance.random() < 0.2
    mark = f"training-{os.getpid()}-{chance.random()}"
    with started(project, words, mark) as process:
        if early:
            until(lambda: process.poll() is not None, chance.uniform(0, seconds / 3))
        else:
            until(lambda: list(project.root.glob(".cache/checkpoints/[!.]*")) or process.poll() is not None, 300)
            until(lambda: process.poll() is not None, chance.uniform(0, seconds / 4))
        interrupt(process, kind)
        assert until(lambda: not marked(mark), 20)
        return process.returncode != 0
