from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen import models
from robustgen.attacks import first_order
from robustgen.attacks.detection import ATTACKS, DetectionAttack
from robustgen.attacks.objectives import LOSSES
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.models.detectors import Detectors
from robustgen.models.madry_cnn import Config
from robustgen.stages import defend_detectors as stage
from robustgen.stages import evaluation

STAGE = "defend-detectors"
MEMBER: dict[str, Any] = {"size": 8, "channels": 1, "widths": (2, 4), "hidden": 8}
NETWORKS = "--classifier f.safetensors --detectors bank.safetensors --rival rival.safetensors"
BASE = f"{NETWORKS} --data data.npz --images 7 --batch 3 --seed 2"
RADII = "--eps 0 0.1 0.2 --steps 2 --alpha 0.05 0.05 0.1"
TWO = "--attacks detector multi-integrated --eps 0.1 0.2 --steps 2 3 --alpha 0.05"
ARRAYS = {"classifier_logits", "detector_logits", "rival_robust"}  # their second axis is the images'


def network(seed: int, **changes: Any) -> nn.Module:
    """An untrained network whose logits differ between images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.build(Config(**{**MEMBER, **changes}))
    for weight in model.parameters():
        weight.data.mul_(3)
    return model


def taught(seed: int, data: Path) -> nn.Module:
    """A network that names many of the training images rightly."""
    model, train = network(seed, classes=4), load_split(data, "train")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(train.images), train.labels).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds data files, classifiers, detectors of all classes, of three, and spoilt ones."""
    root = tmp_path_factory.mktemp("defend-detectors")
    write_data(root / "data.npz")
    write_data(root / "wide.npz", size=16)
    members = [network(seed, classes=1) for seed in range(4)]
    models.save(root / "f.safetensors", taught(8, root / "data.npz"))
    models.save(root / "rival.safetensors", taught(9, root / "data.npz"))
    models.save(root / "bank.safetensors", Detectors.of(members, (0, 1, 2, 3), 4), training={"lr": 0.5})
    models.save(root / "three.safetensors", Detectors.of(members[:3], (0, 1, 3), 4))
    members[2].fc.bias.data.fill_(np.nan)  # type: ignore[union-attr, operator]
    models.save(root / "spoilt.safetensors", Detectors.of(members, (0, 1, 2, 3), 4))
    softmax = network(7, classes=4)
    softmax.fc.bias.data.fill_(np.inf)  # type: ignore[union-attr, operator]
    models.save(root / "spoilt-f.safetensors", softmax)
    return root


def test_file_is_what_it_says(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} {TWO} --offset 4")
    settings = {"attack", "norm", "eps", "steps", "alpha"}
    natural = {f"{which}_{who}" for which, who in product(("natural", "validation"), ("classifier", "detector"))}
    rest = {"validation_labels", "rival_correct", "rival_eps", "labels", "indices", "config"}
    assert set(found) == settings | natural | rest | ARRAYS
    assert found["attack"].tolist() == ["detector"] * 2 + ["multi-integrated"] * 2
    assert [found[name].tolist() for name in ("norm", "eps")] == [["linf"] * 4, [0.1, 0.2] * 2]
    assert [found[name].tolist() for name in ("steps", "alpha")] == [[2, 3] * 2, [0.05] * 4]
    assert found["rival_eps"].tolist() == [0.1, 0.2]
    test, validation = (load_split("data.npz", split) for split in ("test", "validation"))
    with torch.no_grad():
        for who, name in (("classifier", "f"), ("detector", "bank")):
            model = models.load(f"{name}.safetensors")
            assert found[f"{who}_logits"].shape == (4, 7, 4)
            assert found[f"{who}_logits"].dtype == found[f"natural_{who}"].dtype == np.float32
            np.testing.assert_allclose(found[f"natural_{who}"], model(test.images[4:11]), atol=1e-5)
            np.testing.assert_allclose(found[f"validation_{who}"], model(validation.images), atol=1e-5)
        right = models.load("rival.safetensors")(test.images[4:11]).argmax(1) == test.labels[4:11]
    assert found["rival_correct"].tolist() == right.tolist()
    assert found["rival_robust"].shape == (2, 7)
    assert found["rival_robust"].dtype == bool
    assert found["labels"].tolist() == test.labels[4:11].tolist()
    assert found["validation_labels"].tolist() == validation.labels.tolist()
    assert found["indices"].tolist() == list(range(4, 11))
    config = json.loads(str(found["config"]))
    assert config["attacks"] == ["detector", "multi-integrated"]
    assert config["trained"] == [{"labels": [0, 1, 2, 3], "training": {"lr": 0.5}}]


@pytest.mark.parametrize("rule", ["adam", "steepest"])
def test_logits_are_those_of_the_attacked_images(run: Callable[[str], dict[str, np.ndarray]], rule: str) -> None:
    names = list(ATTACKS)
    found = run(f"{BASE} --attacks {' '.join(names)} --norm l2 --eps 0.5 --steps 3 --alpha 0.2 --rule {rule}")
    test = load_split("data.npz", "test", limit=7)
    classifier, bank = (models.load(f"{name}.safetensors") for name in ("f", "bank"))
    assert found["attack"].tolist() == names
    for number, name in enumerate(names):
        attack = DetectionAttack(name, classifier, bank, norm="l2", eps=0.5, alpha=0.2, steps=3, rule=rule, seed=2)
        changed = attack(test.images, test.labels, test.indices)
        with torch.no_grad():
            np.testing.assert_allclose(found["classifier_logits"][number], classifier(changed), atol=1e-4)
            np.testing.assert_allclose(found["detector_logits"][number], bank(changed), atol=1e-4)


def test_multi_targeted_attacks_have_steps_and_targets_of_their_own(
    run: Callable[[str], dict[str, np.ndarray]],
) -> None:
    found = run(f"{BASE} {TWO} --multi-steps 5 --multi-alpha 0.02 0.04 --targets 1 --rule steepest")
    assert found["attack"].tolist() == ["detector"] * 2 + ["multi-integrated"] * 2
    assert found["steps"].tolist() == [2, 3, 5, 5]
    assert found["alpha"].tolist() == [0.05, 0.05, 0.02, 0.04]
    test = load_split("data.npz", "test", limit=7)
    classifier, bank = (models.load(f"{name}.safetensors") for name in ("f", "bank"))
    for number, (name, eps, alpha, steps) in enumerate(
        zip(*(found[key].tolist() for key in ("attack", "eps", "alpha", "steps")), strict=True)
    ):
        attack = DetectionAttack(
            name, classifier, bank, norm="linf", eps=eps, alpha=alpha, steps=steps, rule="steepest", targets=1, seed=2
        )
        with torch.no_grad():
            expected = bank(attack(test.images, test.labels, test.indices))
        np.testing.assert_allclose(found["detector_logits"][number], expected, atol=1e-4)
    plain = run(f"{BASE} {TWO} --rule steepest")
    assert (plain["detector_logits"][2:] != found["detector_logits"][2:]).any()
    for name in ("rival_robust", "rival_correct"):
        np.testing.assert_array_equal(found[name], plain[name])
    assert run(f"{BASE} {TWO} --multi-steps 4 5")["alpha"].tolist() == [0.05] * 4


def test_no_radius_changes_nothing(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} --attacks classifier combined17 multi-generative {RADII}")
    for number in np.flatnonzero(found["eps"] == 0):
        np.testing.assert_allclose(found["classifier_logits"][number], found["natural_classifier"], atol=1e-6)
        np.testing.assert_allclose(found["detector_logits"][number], found["natural_detector"], atol=1e-6)
    np.testing.assert_array_equal(found["rival_robust"][0], found["rival_correct"])


def lead(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the best wrong logit exceeds the right one, summed."""
    wrong = logits.masked_fill(F.one_hot(labels, 4).bool(), -torch.inf).amax(1)
    return (wrong - logits.gather(1, labels[:, None])[:, 0]).sum()


def test_rival_is_right_where_neither_attack_misleads_it(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} --images 32 --batch 16 --attacks classifier {RADII} --rule steepest --no-random-start")
    x, y = (getattr(load_split("data.npz", "test"), name) for name in ("images", "labels"))
    rival = models.load("rival.safetensors")
    for number, (eps, alpha) in enumerate(((0.1, 0.05), (0.2, 0.1)), 1):
        expected = torch.from_numpy(found["rival_correct"])
        for loss in (partial(F.cross_entropy, reduction="sum"), lead):
            changed = x
            for _ in range(2):
                leaf = changed.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(loss(rival(leaf), y), leaf)
                changed = (changed + alpha * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
            with torch.no_grad():
                expected = expected & (rival(changed).argmax(1) == y)
        assert found["rival_robust"][number].tolist() == expected.tolist()
    counts = found["rival_robust"].sum(1)
    assert counts[0] > counts[1] >= counts[2]


def test_restarts_of_the_rivals_attack_only_take_away(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    options = f"{BASE} --images 32 --batch 32 --attacks classifier --eps 0.15 --steps 1 --alpha 0.05"
    once, often = (run(f"{options} --restarts {count}")["rival_robust"][0] for count in (1, 6))
    assert not (often & ~once).any()
    assert often.sum() < once.sum()


def test_batches_and_shards_only_share_the_work(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    whole = run(f"{BASE} {TWO} --images 5")
    for part, images in (("--images 2 --batch 1", slice(0, 2)), ("--offset 2 --images 3 --batch 4", slice(2, 5))):
        found = run(f"{BASE} {TWO} {part}")
        for name in ARRAYS:
            np.testing.assert_allclose(found[name], whole[name][:, images], atol=1e-5)
        for name in ("natural_detector", "rival_correct", "labels", "indices"):
            np.testing.assert_allclose(found[name], whole[name][images], atol=1e-6)
        for name in ("validation_detector", "attack", "eps"):
            np.testing.assert_array_equal(found[name], whole[name])


def test_an_interrupted_run_goes_on_where_it_was(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(f"{BASE} {TWO}")
    whole = Path("out.npz").read_bytes()
    assert not list(evaluation.FOLDER.rglob("*.npz"))
    Path("out.npz").unlink()
    asked: list[str] = []

    def breaking(name: str) -> Callable[..., np.ndarray]:
        real = getattr(stage, name)

        def call(*args: Any) -> np.ndarray:
            asked.append(name)
            if len(asked) in (3, 15):
                raise KeyboardInterrupt
            return real(*args)  # type: ignore[no-any-return]

        return call

    for name in ("logits_under", "withstood"):
        monkeypatch.setattr(stage, name, breaking(name))
    for kept in (2, 13):
        with pytest.raises(KeyboardInterrupt):
            run(f"{BASE} {TWO}")
        assert len(list(evaluation.FOLDER.rglob("*.npz"))) == kept
    assert not Path("out.npz").exists()
    run(f"{BASE} {TWO}")
    # three batches: four attacks on the defence, two radii with two losses on the rival; two calls came to nothing
    assert [asked.count(name) for name in ("logits_under", "withstood")] == [12 + 1, 12 + 1]
    assert Path("out.npz").read_bytes() == whole
    assert not list(evaluation.FOLDER.rglob("*.npz"))


def test_rival_under_attack_whose_logits_are_lost(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOSSES, "ce", lambda logits, y: logits[:, 0] * np.nan)  # so are the images', and their logits
    message = "the logits of the rival under attack are NaN or infinite for 3 of 3 images; train the network again"
    with pytest.raises(UserError, match=message):
        run(f"{BASE} {TWO} --attacks classifier")
    assert not Path("out.npz").exists()


def test_rivals_images_stay_in_their_ball(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_order, "climb", lambda value, x, *, ball, **_: (x + 2 * ball.eps).clamp(0, 1))
    with pytest.raises(AssertionError, match="the attack left its ball"):
        run(f"{BASE} {TWO} --attacks multi-generative")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--attacks detector bpda", "unknown attack 'bpda'; known are classifier, detector, combined16"),
        ("--attacks", "attacks is empty; known are classifier, detector"),
        ("--steps 1 2 3", "eps, steps, alpha belong together, but eps has 2, steps has 3, alpha has 1; give each 3"),
        ("--multi-steps 1 2 3", "but eps has 2, steps has 2, alpha has 1, multi_steps has 3; give each 3 values, or"),
        ("--multi-steps -1", "steps -1"),
        ("--multi-alpha 0", "alpha > 0"),
        ("--targets 0", "targets is 0; give at least 1 wrong class, or leave it out for all"),
        ("--eps 0.1 -0.1", "an attack needs eps >= 0"),
        ("--alpha 0", "alpha > 0"),
        ("--restarts 0", "restarts is 0; give at least 1 start"),
        ("--restarts 2 --no-random-start", "2 restarts from the image itself are all the same"),
        ("--batch 0", "batch is 0; give at least 1 image"),
        ("--images 33", "data.npz holds 32 test images, not the 33"),
        ("--data wide.npz", "wide.npz: images are 1x16x16"),
        ("--data none.npz", "array file not found: none.npz; make it with"),
        ("--classifier none.safetensors", "model not found: none.safetensors; make it with"),
        ("--classifier bank.safetensors", "bank.safetensors holds no classifier but detectors; give"),
        ("--classifier-arch resnet10", "f.safetensors holds a madry_cnn, not the resnet10"),
        ("--rival none.safetensors", "model not found: none.safetensors; make it with"),
        ("--rival-arch resnet10", "rival.safetensors holds a madry_cnn, not the resnet10"),
        ("--detectors none.safetensors", "model not found: none.safetensors; make it with"),
        ("--detectors three.safetensors", "three.safetensors has no detectors of the classes 2; train them too"),
        ("--member-arch resnet50", "bank.safetensors holds detectors of the kind madry_cnn, not the resnet50"),
        ("--rival spoilt-f.safetensors", "logits of the rival are NaN or infinite for 7 of 7 images; train"),
        ("--detectors spoilt.safetensors", "logits of the detector are NaN or infinite for 7 of 7 images; train"),
        ("--classifier spoilt-f.safetensors", "logits of the classifier are NaN or infinite for 7 of 7 images; train"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, run: Callable[[str], dict[str, np.ndarray]]) -> None:
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {TWO} {options}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()
