from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustgen import models
from robustgen.attacks.ball import Linf
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.models.detectors import Detectors
from robustgen.models.madry_cnn import Config
from robustgen.seeding import ImageStreams, derive
from robustgen.stages import attack_detectors as stage
from robustgen.stages import evaluation

STAGE = "attack-detectors"
MEMBER: dict[str, Any] = {"size": 8, "channels": 1, "widths": (2, 4), "hidden": 8}
NETWORKS = "--classifier f.safetensors --detectors bank.safetensors"
BASE = f"{NETWORKS} --data data.npz --images 7 --batch 3 --seed 2"
TWO = "--norm linf l2 --eps 0.1 1/2 --rule adam steepest --steps 3 --alpha 0.04 0.2"
RANDOM = "--eps 0.1 --rule steepest --steps 2 --alpha 0.03 --starts random"


def network(seed: int, **changes: Any) -> torch.nn.Module:
    """An untrained network whose logits differ between images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.build(Config(**{**MEMBER, **changes}))
    for weight in model.parameters():
        weight.data.mul_(3)
    return model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds data files, a classifier, detectors of all classes, of two, and spoilt ones."""
    root = tmp_path_factory.mktemp("attack-detectors")
    members = [network(seed, classes=1) for seed in range(4)]
    models.save(root / "f.safetensors", network(9, classes=4))
    models.save(root / "bank.safetensors", Detectors.of(members, (0, 1, 2, 3), 4), training={"lr": 0.5})
    (root / "some").mkdir()
    for label in (1, 3):
        models.save(root / f"some/{label}.safetensors", Detectors.of([members[label]], (label,), 4))
    members[2].fc.bias.data.fill_(np.nan)  # type: ignore[union-attr, operator]
    models.save(root / "spoilt.safetensors", Detectors.of(members, (0, 1, 2, 3), 4))
    write_data(root / "data.npz")
    write_data(root / "wide.npz", size=16)
    return root


def test_file_is_what_it_says(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} {TWO} --offset 4")
    settings = {"norm", "eps", "rule", "steps", "alpha", "restarts", "starts"}
    results = {"adversarial", "natural", "predicted", "labels", "indices", "detectors", "config"}
    assert set(found) == settings | results
    assert found["norm"].tolist() == ["linf", "l2"]
    assert found["eps"].tolist() == [0.1, 0.5]
    assert found["rule"].tolist() == ["adam", "steepest"]
    assert found["alpha"].tolist() == [0.04, 0.2]
    assert [found[name].tolist() for name in ("steps", "restarts", "starts")] == [[3, 3], [1, 1], ["image"] * 2]
    assert found["adversarial"].shape == (2, 7, 4)
    assert found["adversarial"].dtype == found["natural"].dtype == np.float32
    assert (found["adversarial"] > found["natural"]).mean() > 0.9
    images = load_split("data.npz", "test")
    x = images.images[4:11]
    with torch.no_grad():
        natural, logits = (models.load(f"{name}.safetensors")(x) for name in ("bank", "f"))
    np.testing.assert_allclose(found["natural"], natural, atol=1e-5)
    assert found["predicted"].tolist() == logits.argmax(1).tolist()
    assert found["labels"].tolist() == images.labels[4:11].tolist()
    assert found["indices"].tolist() == list(range(4, 11))
    assert found["detectors"].tolist() == [0, 1, 2, 3]
    config = json.loads(str(found["config"]))
    assert config["eps"] == [0.1, 0.5]
    assert config["trained"] == [{"labels": [0, 1, 2, 3], "training": {"lr": 0.5}}]


def test_each_detector_meets_the_images_changed_against_it(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} --eps 0.1 --rule steepest --steps 1 --alpha 0.06")
    bank = models.load("bank.safetensors")
    assert isinstance(bank, Detectors)
    x = load_split("data.npz", "test").images[:7]
    for k in range(4):
        leaf = x.clone().requires_grad_()
        member = bank.member(k)
        (gradient,) = torch.autograd.grad(member(leaf).sum(), leaf)
        with torch.no_grad():
            expected = member((x + 0.06 * gradient.sign()).clamp(0, 1))[:, 0]
        np.testing.assert_allclose(found["adversarial"][0, :, k], expected, atol=1e-5)


def test_no_radius_and_no_steps_change_nothing(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(
        f"{BASE} --eps 0 0.1 0 --steps 3 0 3 --rule adam adam steepest --alpha 0.05 --starts random image image"
    )
    for changed in found["adversarial"]:
        np.testing.assert_allclose(changed, found["natural"], atol=1e-6)


@pytest.mark.parametrize("attacks", [TWO, f"{RANDOM} --restarts 2"])
def test_batches_shards_and_other_detectors_only_share_the_work(
    run: Callable[[str], dict[str, np.ndarray]], attacks: str
) -> None:
    whole = run(f"{BASE} {attacks} --images 5")
    for part, images in (("--images 2 --batch 1", slice(0, 2)), ("--offset 2 --images 3 --batch 4", slice(2, 5))):
        found = run(f"{BASE} {attacks} {part}")
        np.testing.assert_allclose(found["adversarial"], whole["adversarial"][:, images], atol=1e-5)
        np.testing.assert_allclose(found["natural"], whole["natural"][images], atol=1e-6)
        np.testing.assert_array_equal(found["indices"], whole["indices"][images])
    some = run(f"{BASE} {attacks} --images 5 --detectors some")
    assert some["detectors"].tolist() == [1, 3]
    np.testing.assert_allclose(some["adversarial"], whole["adversarial"][:, :, [1, 3]], atol=1e-5)


def test_restarts_keep_the_largest_logit(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} {RANDOM} --restarts 1 2 4")["adversarial"]
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=0) > 0).any((1, 2)).all()
    again = run(f"{BASE} {RANDOM} --restarts 4 --seed 3")["adversarial"]
    assert (again[0] != found[2]).any()


def test_random_starts_are_those_of_the_image_streams(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} --eps 0.2 --steps 0 --alpha 1 --starts random")["adversarial"][0]
    images = load_split("data.npz", "test", limit=7)
    x, bank = images.images, models.load("bank.safetensors")
    assert isinstance(bank, Detectors)
    for k in range(4):
        streams = ImageStreams(derive(2, "restart", 0, k), images.indices.tolist())
        start = (x + 0.2 * Linf(0.2).offset(x, streams)).clamp(0, 1)
        with torch.no_grad():
            np.testing.assert_allclose(found[:, k], bank.member(k)(start)[:, 0], atol=1e-5)


def test_an_interrupted_run_goes_on_where_it_was(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = f"{BASE} {RANDOM} --restarts 1 2"
    run(options)
    whole = Path("out.npz").read_bytes()
    assert not list(evaluation.FOLDER.rglob("*.npz"))
    Path("out.npz").unlink()
    real, asked = stage.attacked, []

    def fail(*args: Any) -> np.ndarray:
        asked.append(args[4])
        if len(asked) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(stage, "attacked", fail)
    with pytest.raises(KeyboardInterrupt):
        run(options)
    assert len(list(evaluation.FOLDER.rglob("*.npz"))) == 4
    assert not Path("out.npz").exists()
    run(options)
    assert len(asked) == 5 + 9 - 4  # three batches of three restarts in all
    assert Path("out.npz").read_bytes() == whole
    assert not list(evaluation.FOLDER.rglob("*.npz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--steps 1 2 3", "eps has 2, rule has 2, steps has 3, alpha has 2"),
        ("--restarts 2", "2 restarts from the image itself are all the same"),
        ("--eps -0.1 0.1", "an attack needs eps >= 0"),
        ("--alpha 0", "alpha > 0"),
        ("--steps -1", "steps -1"),
        ("--batch 0", "batch is 0; give at least 1 image"),
        ("--images 33", "data.npz holds 32 test images, not the 33"),
        ("--data wide.npz", "wide.npz: images are 1x16x16"),
        ("--data none.npz", "array file not found: none.npz; make it with"),
        ("--classifier none.safetensors", "model not found: none.safetensors; make it with"),
        ("--classifier bank.safetensors", "bank.safetensors holds no classifier but detectors; give"),
        ("--classifier-arch resnet10", "f.safetensors holds a madry_cnn, not the resnet10"),
        ("--detectors none.safetensors", "model not found: none.safetensors; make it with"),
        ("--detectors f.safetensors", "f.safetensors holds a madry_cnn, not the detectors"),
        ("--member-arch resnet50", "bank.safetensors holds detectors of the kind madry_cnn, not the resnet50"),
        ("--detectors spoilt.safetensors", "logits of the detectors are NaN or infinite for 7 of 7 images; train"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, run: Callable[[str], dict[str, np.ndarray]]) -> None:
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {TWO} {options}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()


def test_unknown_start() -> None:
    paths = {name: Path(name) for name in ("classifier", "detectors", "data", "out")}
    options: Any = {"images": 1, "eps": (0.1,), "steps": (1,), "alpha": (0.1,)}
    with pytest.raises(UserError, match="unknown start 'here'; known are image, random"):
        stage.check(stage.Options(**paths, **options, starts=("here",)))  # type: ignore[arg-type]
