from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustgen import cli, io, models
from robustgen.data import load_split
from robustgen.defenses.langevin import LangevinDefense
from robustgen.errors import UserError
from robustgen.seeding import ImageStreams, derive

BASE = (
    "--classifier classifier.safetensors --ebm ebm.safetensors --data data.npz --adversarial pgd.npz "
    "--images 7 --steps 0 3 8 --draws 3 --batch 4 --seed 2"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_data: Callable[..., Path]) -> Callable[[str], None]:
    """run(options): the stage in a folder that holds a data file, a classifier, its PGD images and an EBM."""
    monkeypatch.chdir(tmp_path)
    network(Path("classifier.safetensors"), arch="resnet10", width=4, classes=4, mean=(0.3,), std=(0.3,))
    network(Path("ebm.safetensors"), arch="nijkamp", width=2, tau=0.1)
    write_data(Path("data.npz"))
    pgd = "--attack.name pgd --attack.eps 0.1 --attack.alpha 0.05 --attack.steps 3 --validation 4"
    cli.run("attack", shlex.split(f"--model classifier.safetensors --data data.npz --out pgd.npz --test 10 {pgd}"))
    return lambda options: cli.run("purify", shlex.split(options))


def network(path: Path, **parameters: Any) -> None:
    """Save an untrained network for 1x8x8 images (or as `parameters` say)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.config_type(parameters["arch"])(**{"size": 8, "channels": 1, **parameters})
        models.save(path, models.build(config))


def test_file_is_what_it_says(run: Callable[[str], None]) -> None:
    run(f"{BASE} --out out.npz")
    found = io.load_arrays("out.npz")
    test = load_split("data.npz", "test")
    assert found["steps"].tolist() == [0, 3, 8]
    assert found["indices"].tolist() == list(range(7))
    assert found["labels"].tolist() == test.labels[:7].tolist()
    config = json.loads(str(found["config"]))
    assert config["draws"] == 3
    assert config["ebm_config"]["width"] == 2
    for name in ("natural_logits", "adversarial_logits"):
        assert found[name].shape == (3, 7, 4)
        assert found[name].dtype == np.float32
    assert found["natural_draws"].shape == (7, 3, 4)
    assert found["natural_draws"].dtype == np.float32
    np.testing.assert_allclose(found["natural_draws"].mean(1), found["natural_logits"][-1], atol=1e-6)
    assert (found["natural_draws"][:, 0] != found["natural_draws"][:, 1]).any(1).all()  # draws are draws
    attacked = torch.from_numpy(io.load_arrays("pgd.npz")["test_adversarial"][:7])
    with torch.no_grad():  # without Langevin steps it is the classifier
        for name, images in (("natural", test.images[:7]), ("adversarial", attacked)):
            expected = models.load("classifier.safetensors")(images)
            np.testing.assert_allclose(found[f"{name}_logits"][0], expected, atol=1e-5)


@pytest.mark.parametrize("average", ["logits", "softmax", "log_softmax"])
def test_logits_are_those_of_the_defence(run: Callable[[str], None], average: Any) -> None:
    run(f"{BASE} --steps 3 8 --average {average} --out out.npz")
    found = io.load_arrays("out.npz")
    test = load_split("data.npz", "test")
    defense = LangevinDefense(
        models.load("classifier.safetensors"), models.load("ebm.safetensors"), steps=8, draws=3, average=average
    )
    streams = ImageStreams(derive(2, "natural"), test.indices[:7].tolist())
    with torch.no_grad():
        logits = defense.logits(defense.purify_draws(test.images[:7], 3, streams))
    np.testing.assert_allclose(found["natural_draws"], logits, atol=1e-5)
    np.testing.assert_allclose(found["natural_logits"][1], defense.combine(logits), atol=1e-5)
    assert (np.abs(found["natural_logits"][0] - found["natural_logits"][1]) > 1e-5).any()


def test_earlier_looks_do_not_disturb_the_chain(run: Callable[[str], None]) -> None:
    run(f"{BASE} --out three.npz")
    run(f"{BASE} --steps 8 --out one.npz")
    three, one = io.load_arrays("three.npz"), io.load_arrays("one.npz")
    np.testing.assert_array_equal(three["natural_logits"][2], one["natural_logits"][0])
    np.testing.assert_array_equal(three["adversarial_logits"][2], one["adversarial_logits"][0])


def test_batches_only_share_the_work(run: Callable[[str], None]) -> None:
    run(f"{BASE} --out a.npz --batch 4")
    run(f"{BASE} --out b.npz --batch 7")
    run(f"{BASE} --out c.npz --images 3")
    a, b, c = (io.load_arrays(f"{name}.npz") for name in "abc")
    for name in ("natural_logits", "adversarial_logits"):
        np.testing.assert_allclose(a[name], b[name], atol=1e-4)
        np.testing.assert_allclose(a[name][:, :3], c[name], atol=1e-4)
    before = Path("a.npz").read_bytes()
    run(f"{BASE} --out a.npz --batch 4")
    assert Path("a.npz").read_bytes() == before


def test_classifier_may_be_its_own_energy_model(run: Callable[[str], None]) -> None:
    network(Path("jem.safetensors"), arch="jem", classes=4, depth=10, widen=1, base=4)
    run(f"{BASE} --ebm jem.safetensors --classifier jem.safetensors --out out.npz")
    assert np.isfinite(io.load_arrays("out.npz")["adversarial_logits"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--adversarial none.npz", "adversarial set not found: none.npz; make it with"),
        ("--adversarial data.npz", "data.npz holds no array test_adversarial"),
        ("--adversarial wide-pgd.npz", "wide-pgd.npz was not made from data.npz: its images are 1x16x16, not 1x8x8"),
        ("--adversarial other-pgd.npz", "other-pgd.npz was not made from data.npz: an image lies "),
        ("--adversarial long-pgd.npz", "long-pgd.npz was not made from data.npz: its rows run to 99, but there are 32"),
        ("--images 11", "images is 11; pgd.npz holds 10, so give 1 to 10"),
        ("--images 0", "images is 0; pgd.npz holds 10, so give 1 to 10"),
        ("--steps 3 0", "steps are (3, 0); give different numbers from 0 on, in ascending order"),
        ("--steps 3 3", "steps are (3, 3); give different numbers from 0 on, in ascending order"),
        ("--steps -1 3", "steps are (-1, 3); give different numbers from 0 on, in ascending order"),
        ("--batch 0", "batch is 0; give at least 1 image"),
        ("--draws 0", "draws >= 1"),
        ("--ebm classifier.safetensors", "classifier.safetensors holds a resnet10, which has no energy"),
        ("--ebm wide.safetensors", "images are 1x8x8 where the energy model in wide.safetensors needs 1x16x16"),
        ("--data wide.npz", "images are 1x16x16 with 4 classes where the model needs 1x8x8 with 4 classes"),
        ("--ebm diverged.safetensors", "for 4 of 4 images: its purification diverged; lower its step (tau"),
    ],
)
def test_what_the_user_can_mend(
    options: str, message: str, run: Callable[[str], None], write_data: Callable[..., Path]
) -> None:
    network(Path("wide.safetensors"), arch="nijkamp", width=2, size=16)
    network(Path("diverged.safetensors"), arch="nijkamp", width=2, tau=1e38)
    write_data(Path("wide.npz"), size=16)
    pgd = io.load_arrays("pgd.npz")
    changes: dict[str, dict[str, np.ndarray]] = {
        "wide": {"test_adversarial": np.zeros((10, 1, 16, 16), dtype=np.float32)},
        "other": {"test_adversarial": 1 - pgd["test_adversarial"]},
        "long": {"test_indices": np.arange(99, 89, -1)},
    }
    for name, change in changes.items():
        io.save_arrays(f"{name}-pgd.npz", {**pgd, **change})
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {options} --out out.npz")
    assert message in str(caught.value)
    assert not Path("out.npz").exists()


def test_attack_in_another_norm_is_accepted(run: Callable[[str], None]) -> None:
    pgd = "--attack.name pgd --attack.norm l2 --attack.eps 1 --attack.alpha 0.5 --attack.steps 3"
    cli.run("attack", shlex.split(f"--model classifier.safetensors --data data.npz --out l2.npz --test 10 {pgd}"))
    run(f"{BASE} --adversarial l2.npz --out out.npz")
    assert io.load_arrays("out.npz")["adversarial_logits"].shape == (3, 7, 4)
