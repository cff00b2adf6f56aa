from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustgen import cli, io, models
from robustgen.attacks.ball import ball_of
from robustgen.attacks.bpda_eot import BpdaEot
from robustgen.attacks.eot import Outcome
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.stages import evaluation

MODELS = "--classifier classifier.safetensors --ebm ebm.safetensors"
BASE = f"{MODELS} --data data.npz --images 8 --steps 3 --batch 3 --seed 5"
GRID = "--langevin-steps 0 4 --linf 0 0.2 --l2 0.9 --draws 2 --verify 5"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_data: Callable[..., Path]) -> Callable[[str], None]:
    """run(options): the stage in a folder that holds a data file with the labels its classifier gives, and an EBM."""
    monkeypatch.chdir(tmp_path)
    network(Path("classifier.safetensors"), arch="resnet10", width=4, classes=4, mean=(0.3,), std=(0.3,))
    network(Path("ebm.safetensors"), arch="nijkamp", width=2, tau=0.05)
    relabel(write_data(Path("data.npz")))
    return lambda options: cli.run("defend", shlex.split(options))


def network(path: Path, **parameters: Any) -> None:
    """Save an untrained network for 1x8x8 images (or as `parameters` say)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.config_type(parameters["arch"])(**{"size": 8, "channels": 1, **parameters})
        models.save(path, models.build(config))


def relabel(path: Path) -> None:
    """Give the test images the labels that the classifier gives them, but the first another one."""
    arrays = io.load_arrays(path)
    with torch.no_grad():
        labels = models.load("classifier.safetensors")(load_split(path, "test").images).argmax(1).numpy()
    labels[0] = (labels[0] + 1) % 4
    io.save_arrays(path, {**arrays, "test_labels": labels})


def test_file_is_what_it_says(run: Callable[[str], None]) -> None:
    run(f"{BASE} {GRID} --draws 2 3 --offset 4 --out out.npz")
    found = io.load_arrays("out.npz")
    assert found["langevin_steps"].tolist() == [0] * 6 + [4] * 6
    assert found["norm"].tolist() == ["linf"] * 4 + ["l2"] * 2 + ["linf"] * 4 + ["l2"] * 2
    assert found["eps"].tolist() == [0, 0, 0.2, 0.2, 0.9, 0.9] * 2
    assert found["draws"].tolist() == [2, 3] * 6
    assert found["verify"].tolist() == [5] * 12
    images = load_split("data.npz", "test")
    assert found["indices"].tolist() == list(range(4, 12))
    assert found["labels"].tolist() == images.labels[4:12].tolist()
    kinds = {"natural_correct": bool, "broken": bool} | dict.fromkeys(
        ("broken_step", "broken_restart", "checks"), np.int64
    )
    for name, kind in kinds.items():
        assert found[name].shape == (12, 8), name
        assert found[name].dtype == kind, name
    assert found["adversarial"].dtype == np.float32
    for norm, eps, states in zip(found["norm"], found["eps"], found["adversarial"], strict=True):
        distance = ball_of(str(norm), float(eps)).distance(torch.from_numpy(states), images.images[4:12])
        assert float(distance.max()) <= eps + 1e-5
    assert not found["broken"][found["eps"] == 0].any()
    assert found["broken"][found["eps"] == 0.2].any()
    config = json.loads(str(found["config"]))
    assert config["linf"] == [0, 0.2]
    assert config["classifier"] == "classifier.safetensors"
    assert config["steps"] == 3
    assert config["ebm_config"]["width"] == 2


def test_wrong_natural_image_is_dropped_and_checked_once(
    run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    check = BpdaEot.large_sample

    def counted(self: BpdaEot, x: torch.Tensor, streams: Any) -> torch.Tensor:
        asked.append(len(x))
        return check(self, x, streams)

    monkeypatch.setattr(BpdaEot, "large_sample", counted)
    run(f"{BASE} --langevin-steps 4 --linf 0 --l2 0 --draws 2 --verify 5 --steps 0 --out out.npz")
    found = io.load_arrays("out.npz")
    assert not found["natural_correct"][:, 0].any()
    assert found["natural_correct"].sum() >= 10
    np.testing.assert_array_equal(found["natural_correct"][0], found["natural_correct"][1])
    suspects = found["checks"].sum()
    assert sum(asked) == 8 + suspects  # the second attack on the same defence takes over the first one's check


def test_same_command_writes_the_same_bytes(run: Callable[[str], None]) -> None:
    run(f"{BASE} {GRID} --out out.npz")
    before = Path("out.npz").read_bytes()
    run(f"{BASE} {GRID} --out out.npz")
    assert Path("out.npz").read_bytes() == before


def test_shards_and_batches_only_share_the_work(run: Callable[[str], None]) -> None:
    run(f"{BASE} {GRID} --out whole.npz")
    run(f"{BASE} {GRID} --images 3 --out a.npz --batch 2")
    run(f"{BASE} {GRID} --offset 3 --images 5 --out b.npz --batch 5")
    whole, a, b = (io.load_arrays(f"{name}.npz") for name in ("whole", "a", "b"))
    for name in ("natural_correct", "broken", "broken_step", "broken_restart", "checks", "adversarial"):
        joined = np.concatenate([a[name], b[name]], axis=1)
        assert (np.abs(joined.astype(float) - whole[name].astype(float)) > 1e-6).mean() < 0.01, name
    np.testing.assert_array_equal(np.concatenate([a["indices"], b["indices"]]), whole["indices"])


def test_classifier_alone_is_a_defence_without_draws(run: Callable[[str], None]) -> None:
    run(f"{BASE} --langevin-steps 0 --linf 0.2 --draws 15 --verify 150 --out with.npz")
    alone = BASE.replace("--ebm ebm.safetensors", "")
    run(f"{alone} --langevin-steps 0 --linf 0.2 --draws 15 --verify 150 --out without.npz")
    one, other = io.load_arrays("with.npz"), io.load_arrays("without.npz")
    assert one["draws"].tolist() == [15]
    for name in one.keys() - {"config"}:
        np.testing.assert_array_equal(one[name], other[name])
    labels = torch.from_numpy(other["labels"])
    with torch.no_grad():
        wrong = models.load("classifier.safetensors")(torch.from_numpy(other["adversarial"][0])).argmax(1) != labels
    np.testing.assert_array_equal(wrong.numpy(), other["broken"][0] | ~other["natural_correct"][0])
    np.testing.assert_array_equal(other["checks"][0], other["broken"][0])  # what is certain is confirmed at once


def test_without_an_energy_model_no_langevin_defence_is_imported(
    run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "robustgen.defenses.langevin", raising=False)
    alone = BASE.replace("--ebm ebm.safetensors", "")
    run(f"{alone} --langevin-steps 0 --linf 0.2 --draws 1 --verify 1 --out out.npz")
    assert "robustgen.defenses.langevin" not in sys.modules
    assert json.loads(str(io.load_arrays("out.npz")["config"]))["ebm_config"] is None


def test_full_gradient_is_another_attack(run: Callable[[str], None]) -> None:
    curved = {"classes": 4, "depth": 10, "widen": 1, "base": 8, "step": 20.0}
    network(Path("jem.safetensors"), arch="jem", tau=0.1, **curved)
    point = "--ebm jem.safetensors --langevin-steps 4 --linf 0.2 --draws 2 --verify 5"
    run(f"{BASE} {point} --out bpda.npz")
    run(f"{BASE} {point} --gradient full --out full.npz")
    bpda, full = io.load_arrays("bpda.npz"), io.load_arrays("full.npz")
    assert json.loads(str(full["config"]))["gradient"] == "full"
    assert (bpda["adversarial"] != full["adversarial"]).any()
    np.testing.assert_array_equal(bpda["natural_correct"], full["natural_correct"])


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Let the evaluation be interrupted after so many batches; the sizes of the batches that were begun."""
    begun: list[int] = []
    evaluate = BpdaEot.evaluate

    def counted(self: BpdaEot, x: torch.Tensor, *args: Any, **options: Any) -> Outcome:
        if len(begun) == after:
            raise KeyboardInterrupt
        begun.append(len(x))
        return evaluate(self, x, *args, **options)

    monkeypatch.setattr(BpdaEot, "evaluate", counted)
    return begun


def test_interrupted_run_goes_on_where_it_was(run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    run(f"{BASE} {GRID} --out out.npz")
    expected = Path("out.npz").read_bytes()
    Path("out.npz").unlink()
    with monkeypatch.context() as patch:
        interrupt(patch, 10)
        with pytest.raises(KeyboardInterrupt):
            run(f"{BASE} {GRID} --out out.npz")
    assert not Path("out.npz").exists()
    with monkeypatch.context() as patch:  # another command does not meet what this one left
        begun = interrupt(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(f"{BASE} {GRID} --out out.npz --seed 6")
        assert len(begun) == 1
    network(Path("ebm.safetensors"), arch="nijkamp", width=2, tau=0.06)
    with monkeypatch.context() as patch:  # nor does another model in the same file
        begun = interrupt(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(f"{BASE} {GRID} --out out.npz")
        assert len(begun) == 1
    network(Path("ebm.safetensors"), arch="nijkamp", width=2, tau=0.05)
    begun = interrupt(monkeypatch, 1000)
    run(f"{BASE} {GRID} --out out.npz")
    assert len(begun) == 18 - 10
    assert Path("out.npz").read_bytes() == expected


def test_store_is_emptied_and_a_damaged_part_computed_again(
    run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            run(f"{BASE} {GRID} --out out.npz")
    parts = sorted(evaluation.FOLDER.rglob("*.npz"))
    assert len(parts) == 3
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    begun = interrupt(monkeypatch, 1000)
    run(f"{BASE} {GRID} --out out.npz")
    assert len(begun) == 18 - 2
    assert not list(evaluation.FOLDER.rglob("*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (f"{GRID} --classifier none.safetensors", "model not found: none.safetensors; make it with"),
        (f"{GRID} --ebm none.safetensors", "model not found: none.safetensors; make it with"),
        (f"{GRID} --ebm classifier.safetensors", "holds a resnet10, which has no energy; give a model made by train-"),
        (f"{GRID} --ebm-arch jem", "ebm.safetensors holds a nijkamp, not the jem that was asked for"),
        (f"{GRID} --classifier-arch jem", "classifier.safetensors holds a resnet10, not the jem that was asked for"),
        (f"{GRID} --ebm wide.safetensors", "images are 1x8x8 where the energy model in wide.safetensors needs 1x16x16"),
        (f"{GRID} --data wide.npz", "images are 1x16x16 with 4 classes where the model needs 1x8x8 with 4 classes"),
        (f"{GRID} --ebm None", "Langevin steps need an energy model; give ebm, or 0 steps"),
        (f"{GRID} --images 33", "data.npz holds 32 test images, not the 33 that offset and images ask for"),
        (f"{GRID} --offset 25", "data.npz holds 32 test images, not the 33 that offset and images ask for"),
        (f"{GRID} --offset -1", "offset is -1 and images 8; give offset >= 0 and images >= 1"),
        (f"{GRID} --images 0", "offset is 0 and images 0; give offset >= 0 and images >= 1"),
        (f"{GRID} --batch 0", "batch is 0; give at least 1 image"),
        (f"{GRID} --draws 0", "draws is 0 and verify 5; give at least 1"),
        (f"{GRID} --l2 -1", "eps >= 0"),
        (f"{GRID} --langevin-steps 5 -1", "steps >= 0"),
        ("--langevin-steps 4 --draws 2 --verify 5", "the grid is empty; give at least one value to langevin_steps"),
        (f"{GRID} --device tpu", "unknown device 'tpu'"),
        (f"{GRID} --ebm diverged.safetensors", "its purification diverged; lower its step (tau of Langevin dynamics)"),
    ],
)
def test_what_the_user_can_mend(
    options: str, message: str, run: Callable[[str], None], write_data: Callable[..., Path]
) -> None:
    network(Path("wide.safetensors"), arch="nijkamp", width=2, size=16)
    network(Path("diverged.safetensors"), arch="nijkamp", width=2, tau=1e38)
    write_data(Path("wide.npz"), size=16)
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {options} --out out.npz")
    assert message in str(caught.value)
    assert not Path("out.npz").exists()
