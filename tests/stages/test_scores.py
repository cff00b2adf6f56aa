from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustgen import cli, io, models
from robustgen.data import load_split
from robustgen.defenses.adp import ADP, Options, sigma_of
from robustgen.errors import UserError
from robustgen.sampling.noise_levels import guidance
from robustgen.stages import scores
from robustgen.training.dsm import level_losses

BASE = (
    "--score score.safetensors --classifier classifier.safetensors --data data.npz --adversarial pgd.npz "
    "--images 7 --validation 5 --defense.steps 3 --batch 4 --seed 2"
)
EXTRAS = "--samples 3 --sampler-steps 1 --tuning 0.02 1/10"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds a data file, its PGD images, a classifier, and score networks: one works, the others not."""
    folder = tmp_path_factory.mktemp("scores")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        network(Path("classifier.safetensors"), arch="resnet10", width=4, classes=4, mean=(0.3,), std=(0.3,))
        network(Path("score.safetensors"), arch="ncsnv2", width=4, levels=4, sigma_first=2)
        network(Path("wide.safetensors"), arch="ncsnv2", width=4, levels=4, sigma_first=2, size=16)
        network(Path("ebm.safetensors"), arch="nijkamp", width=2)
        for name in ("score", "classifier"):
            lose(f"{name}.safetensors", f"lost-{name}.safetensors")
        write_data(Path("data.npz"))
        write_data(Path("wide-data.npz"), size=16)
        attack("pgd.npz", "--validation 6")
        arrays = io.load_arrays("pgd.npz")
        io.save_arrays("other.npz", {**arrays, "test_indices": arrays["test_indices"][::-1]})
        io.save_arrays("long.npz", {**arrays, "test_indices": arrays["test_indices"] + 90})
        io.save_arrays("test-only.npz", {name: arrays[name] for name in arrays if not name.startswith("validation")})
        wide = {f"{split}_adversarial": np.zeros((10, 1, 16, 16), np.float32) for split in ("test", "validation")}
        io.save_arrays("wide.npz", {**arrays, **wide})
    return folder


@pytest.fixture
def run(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """run(options): the stage in a copy of that folder."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return lambda options: cli.run("scores", shlex.split(options))


def network(path: Path, **parameters: Any) -> None:
    """Save an untrained network for 1x8x8 images (or as `parameters` say)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.config_type(parameters["arch"])(**{"size": 8, "channels": 1, **parameters})
        models.save(path, models.build(config))


def attack(out: str, options: str = "") -> None:
    pgd = "--attack.name pgd --attack.eps 0.1 --attack.alpha 0.05 --attack.steps 3 --test 10"
    cli.run("attack", shlex.split(f"--model classifier.safetensors --data data.npz --out {out} {pgd} {options}"))


def test_file_is_what_it_says(run: Callable[[str], None]) -> None:
    run(f"{BASE} {EXTRAS} --out out.npz")
    found = io.load_arrays("out.npz")
    shapes = {
        **dict.fromkeys(
            ("norm_natural", "norm_adversarial", "norm_natural_purified", "norm_adversarial_purified"), (7,)
        ),
        **dict.fromkeys(("validation_norm_natural", "validation_norm_adversarial"), (5,)),
        **dict.fromkeys(("median_sigma", "guided_sigma_first", "guided_levels", "config"), ()),
        **dict.fromkeys(("levels", "level_loss"), (4,)),
        **dict.fromkeys(("drift", "drift_grey", "drift_paper"), (4,)),
        **dict.fromkeys(("tuning_natural", "tuning_adversarial"), (2, 5)),
        **dict.fromkeys(("labels", "indices"), (7,)),
        "samples": (3, 1, 8, 8),
        "tuning_alpha": (2,),
    }
    assert {name: array.shape for name, array in found.items()} == shapes
    test, train = load_split("data.npz", "test"), load_split("data.npz", "train")
    assert found["indices"].tolist() == list(range(7))
    assert found["labels"].tolist() == test.labels[:7].tolist()
    assert found["tuning_alpha"].tolist() == [0.02, 0.1]
    assert found["tuning_natural"].dtype == bool
    assert found["guided_levels"].dtype == np.int64
    assert float(found["median_sigma"]) == sigma_of(train.images)
    assert float(found["guided_sigma_first"]) == guidance(train.images).first
    score: Any = models.load("score.safetensors")
    np.testing.assert_array_equal(found["levels"], score.sigmas)
    losses = level_losses(score, load_split("data.npz", "validation").images[:5], 2)
    np.testing.assert_allclose(found["level_loss"], losses, atol=1e-6)
    config = json.loads(str(found["config"]))
    assert config["defense"]["steps"] == 3
    assert config["score_config"]["width"] == 4
    assert config["attack"]["eps"] == 0.1
    assert config["sampler_step"] > 0


def test_norms_are_those_of_the_images_and_of_one_step(run: Callable[[str], None]) -> None:
    run(f"{BASE} --defense.sigma 0.5 --defense.updates langevin --defense.detect 3 --out out.npz")
    found = io.load_arrays("out.npz")
    score, pgd = models.load("score.safetensors"), io.load_arrays("pgd.npz")
    one = ADP(models.load("classifier.safetensors"), score, Options(sigma=0, steps=1))  # nothing random in it
    for name, split, images in (
        ("natural", "test", load_split("data.npz", "test").images[:7]),
        ("adversarial", "test", torch.from_numpy(pgd["test_adversarial"][:7])),
        ("natural", "validation", load_split("data.npz", "validation").images[:5]),
        ("adversarial", "validation", torch.from_numpy(pgd["validation_adversarial"][:5])),
    ):
        with torch.no_grad():
            before, after = (score(x).flatten(1).norm(dim=1) for x in (images, one.purify(images)))
        prefix = "validation_" if split == "validation" else ""
        np.testing.assert_allclose(found[f"{prefix}norm_{name}"], before, rtol=1e-4)
        if split == "test":
            np.testing.assert_allclose(found[f"norm_{name}_purified"], after, rtol=1e-4)
    assert found["samples"].shape == (0, 1, 8, 8)
    assert found["tuning_natural"].shape == (0, 5)


@pytest.mark.parametrize("saturated", [True, False])
def test_only_the_released_grid_stretches_contrast(saturated: bool) -> None:
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = x.round() if saturated else 0.4 + x / 5
    found = scores.drifts(images, Options(steps=10))
    np.testing.assert_allclose(found["drift_paper"], 1)
    expected = [1, *((256 / 255) ** t for t in range(10))]  # entered once, left ten times
    np.testing.assert_allclose(found["drift_grey"], expected, rtol=1e-4)
    assert found["drift_grey"][10] > 1.03
    if saturated:
        assert found["drift"].max() <= 1 + 1e-6  # clipping holds black and white where they are
    else:
        np.testing.assert_allclose(found["drift"], expected, rtol=1e-4)


def test_tuning_judges_the_noiseless_defence(run: Callable[[str], None]) -> None:
    run(f"{BASE} --tuning 0.05 --defense.sigma 0.5 --out out.npz")
    found = io.load_arrays("out.npz")
    defense = ADP(
        models.load("classifier.safetensors"), models.load("score.safetensors"), Options(sigma=0, steps=3, step=0.05)
    )
    validation = load_split("data.npz", "validation")
    with torch.no_grad():
        correct = defense(validation.images[:5]).argmax(1) == validation.labels[:5]
    np.testing.assert_array_equal(found["tuning_natural"][0], correct)


def test_samples_have_streams_of_their_own(run: Callable[[str], None]) -> None:
    few = f"{BASE} {EXTRAS} --images 3 --validation 2 --defense.steps 1"
    run(f"{few} --out a.npz")
    before = Path("a.npz").read_bytes()
    run(f"{few} --out a.npz")
    assert Path("a.npz").read_bytes() == before
    run(f"{few} --batch 2 --out b.npz")
    run(f"{few} --tuning --seed 3 --out c.npz")
    a, b, c = (io.load_arrays(f"{name}.npz") for name in "abc")
    for name in a.keys() - {"config"}:
        if a[name].dtype != bool:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert (a["samples"] != c["samples"]).any()
    assert np.abs(a["samples"][0] - a["samples"][1]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--score none.safetensors", "model not found: none.safetensors; make it with"),
        ("--classifier none.safetensors", "model not found: none.safetensors; make it with"),
        ("--score classifier.safetensors", "classifier.safetensors holds a resnet10, which has no score"),
        ("--score ebm.safetensors", "holds a nijkamp, which has no noise levels; give one by train-ncsn"),
        ("--score wide.safetensors", "images are 1x8x8 where the score model in wide.safetensors needs 1x16x16"),
        ("--score-arch nijkamp", "score.safetensors holds a ncsnv2, not the nijkamp that was asked for"),
        ("--score lost-score.safetensors", "the score is NaN or infinite for"),
        ("--classifier lost-classifier.safetensors --tuning 0.1", "logits of purified images are NaN or infinite for"),
        ("--data none.npz", "array file not found: none.npz; make it with"),
        ("--adversarial none.npz", "adversarial set not found: none.npz; make it with"),
        ("--adversarial data.npz", "data.npz holds no array test_adversarial, config; give a file that"),
        ("--adversarial test-only.npz", "holds no validation images; give its attack run a `validation` count"),
        ("--adversarial other.npz", "other.npz was not made from data.npz: an image lies "),
        ("--adversarial long.npz", "its rows run to 96, but there are 32 test images; attack these images first"),
        ("--adversarial wide.npz", "wide.npz was not made from data.npz: its images are 1x16x16, not 1x8x8"),
        ("--images 11", "images is 11; pgd.npz holds 10, so give 1 to 10"),
        ("--validation 0", "validation is 0; pgd.npz holds 6, so give 1 to 6"),
        ("--batch 0", "samples is 0, sampler_steps 5, batch 0; give samples >= 0"),
        ("--samples -1", "samples is -1"),
        ("--tuning 0.1 0", "step sizes are above 0"),
        ("--sampler-step -1", "step sizes are above 0"),
        ("--samples 2 --sampler-step 1e38", "samples are not finite; train the network longer, or give a smaller"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, run: Callable[[str], None]) -> None:
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {options} --out out.npz")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()


def lose(source: str, target: str) -> None:
    """Write a network whose weights are not finite, as a diverged training would."""
    model = models.load(source)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    models.save(target, model)
