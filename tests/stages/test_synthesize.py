from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robustgen import models
from robustgen.attacks.ball import L2, Linf
from robustgen.attacks.first_order import climb
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.evaluation.gaussians import class_samples, white_noise
from robustgen.models.detectors import Detectors
from robustgen.models.madry_cnn import Config
from robustgen.seeding import ImageStreams, derive

STAGE = "synthesize"
MEMBER: dict[str, Any] = {"size": 8, "channels": 1, "widths": (2, 4), "hidden": 8}
OTHERS = "--data data.npz --judge judge.safetensors --images 7 --batch 12 --seed 2"
SHIFT = "--per-class 2 --norm linf l2 --eps 0.2 1/2 --steps 3 --alpha 0.1 0.25"
GENERATE = "--generated 3 --radius 2 --generate-steps 4 --generate-alpha 0.5"
NOISE = "--noise-steps 0 2 5 --noise-alpha 0.5 --noises 2"
BASE = f"--model bank.safetensors {OTHERS} {SHIFT} {GENERATE} {NOISE}"

Run = Callable[[str], dict[str, np.ndarray]]


def network(seed: int, **changes: Any) -> nn.Module:
    """An untrained network whose logits differ between images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.build(Config(**{**MEMBER, **changes}))
    for weight in model.parameters():
        weight.data.mul_(3)
    return model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder with data files, classifiers, detectors of all classes and of two, and spoilt ones."""
    root = tmp_path_factory.mktemp("synthesize")
    members = [network(seed, classes=1) for seed in range(4)]
    models.save(root / "f.safetensors", network(9, classes=4), training={"lr": 0.25})
    models.save(root / "judge.safetensors", network(8, classes=4))
    models.save(root / "bank.safetensors", Detectors.of(members, (0, 1, 2, 3), 4), training={"lr": 0.5})
    (root / "some").mkdir()
    for label in (1, 3):
        models.save(root / f"some/{label}.safetensors", Detectors.of([members[label]], (label,), 4))
    members[2].fc.bias.data.fill_(np.nan)
    models.save(root / "spoilt.safetensors", Detectors.of(members, (0, 1, 2, 3), 4))
    members[2].fc.weight.data.fill_(np.nan)
    models.save(root / "lost.safetensors", Detectors.of(members, (0, 1, 2, 3), 4))
    write_data(root / "data.npz")
    write_data(root / "wide.npz", size=16)
    return root


def shapes(outputs: int, shifts: int, images: int, generated: int, noises: int) -> dict[str, tuple[int, ...]]:
    """The shape of every array that has one axis or more, for 7 natural images of 1x8x8 pixels."""
    pixels = (1, 8, 8)
    shifted, made = (shifts, outputs, images), (outputs, generated)
    shift = dict.fromkeys(("shift_norm", "shift_eps", "shift_steps", "shift_alpha"), (shifts,))
    judged = dict.fromkeys(("shifted_judged", "shifted_nearest"), shifted)
    judged |= dict.fromkeys(("start_judged", "generated_judged", "generated_nearest"), made)
    return (
        shift
        | judged
        | {
            "model_labels": (outputs,),
            "natural": (7, outputs),
            "labels": (7,),
            "indices": (7,),
            "images": (images, *pixels),
            "image_labels": (images,),
            "shifted": (*shifted, *pixels),
            "shifted_logits": (*shifted, outputs),
            "start": (*made, *pixels),
            "generated": (*made, *pixels),
            "generated_logits": (*made, outputs),
            "noise_steps": (noises,),
            "noise": (noises, outputs, *pixels),
            "noise_logits": (noises, outputs, 2),
            "noise_judged": (noises, outputs, 2),
            "noise_nearest": (noises, outputs, 2),
        }
    )


@pytest.mark.parametrize(
    ("model", "kind", "labels"),
    [("bank", "detectors", [0, 1, 2, 3]), ("some", "detectors", [1, 3]), ("f", "softmax", [0, 1, 2, 3])],
)
def test_file_is_what_it_says(run: Run, model: str, kind: str, labels: list[int]) -> None:
    path = model if model == "some" else f"{model}.safetensors"
    found = run(f"{BASE} --model {path} --arch madry_cnn --judge-arch madry_cnn")
    expected = shapes(len(labels), 2, 8, 3, 3)
    assert {name: array.shape for name, array in found.items() if name not in ("kind", "config")} == expected
    assert str(found["kind"]) == kind
    assert found["model_labels"].tolist() == labels
    assert found["image_labels"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found["indices"].tolist() == list(range(7))
    assert found["labels"].tolist() == load_split("data.npz", "test").labels[:7].tolist()
    assert found["shift_norm"].tolist() == ["linf", "l2"]
    assert [found[f"shift_{name}"].tolist() for name in ("eps", "steps", "alpha")] == [[0.2, 0.5], [3, 3], [0.1, 0.25]]
    assert found["noise_steps"].tolist() == [0, 2, 5]
    for name in ("shifted", "start", "generated", "noise"):
        assert found[name].dtype == np.float16
        assert found[name].min() >= 0
        assert found[name].max() <= 1
    for name, array in found.items():
        wanted = {"judged": np.int64, "nearest": np.int64, "logits": np.float32}.get(name.split("_")[-1])
        assert wanted is None or array.dtype == wanted, name
    config = json.loads(str(found["config"]))
    assert config["eps"] == [0.2, 0.5]
    training = {"bank": [{"lr": 0.5}], "some": [None, None], "f": [{"lr": 0.25}]}
    assert [each["training"] for each in config["trained"]] == training[model]


@pytest.mark.parametrize("kind", ["detectors", "softmax"])
def test_images_climb_their_targets_logit(run: Run, kind: str) -> None:
    """Against the attack on every network and target alone, from its definition."""
    name = {"detectors": "bank.safetensors", "softmax": "f.safetensors"}[kind]
    found = run(f"{BASE} --model {name}")
    model = models.load(name)
    test, train = load_split("data.npz", "test"), load_split("data.npz", "train")
    rows = torch.cat([(test.labels == label).nonzero()[:2, 0] for label in range(4)])
    x = test.images[rows]
    starts = class_samples(train.images, train.labels, classes=range(4), each=3, seed=2)
    balls = [(Linf(0.2), 0.1), (L2(0.5), 0.25)]
    np.testing.assert_array_equal(found["images"], x.numpy())
    np.testing.assert_allclose(found["start"], starts.numpy(), atol=1e-3)
    with torch.no_grad():
        np.testing.assert_allclose(found["natural"], model(test.images[:7]).numpy(), atol=1e-5)
    for target in range(4):

        def value(images: torch.Tensor, target: int = target) -> torch.Tensor:
            return model(images)[:, target]  # type: ignore[no-any-return]

        for number, (ball, alpha) in enumerate(balls):
            moved = climb(value, x, ball=ball, alpha=alpha, steps=3)
            np.testing.assert_allclose(found["shifted"][number, target], moved.numpy(), atol=1e-3)
            with torch.no_grad():
                np.testing.assert_allclose(found["shifted_logits"][number, target], model(moved), atol=1e-4)
        made = climb(value, starts[target], ball=L2(2.0), alpha=0.5, steps=4)
        np.testing.assert_allclose(found["generated"][target], made.numpy(), atol=1e-3)
        with torch.no_grad():
            np.testing.assert_allclose(found["generated_logits"][target], model(made), atol=1e-4)
    own = np.diagonal(found["shifted_logits"], axis1=1, axis2=3)  # (2, 8, 4)
    with torch.no_grad():
        assert (own > model(x).numpy()).all()


def test_noise_is_one_image_that_climbs_without_a_ball(run: Run) -> None:
    found = run(BASE)
    model, steps = models.load("bank.safetensors"), found["noise_steps"].tolist()
    noise = white_noise((1, 8, 8), ImageStreams(derive(2, "noise"), [0]))
    for target in range(4):
        image = noise
        for step in range(6):
            image = image.detach().requires_grad_()
            logit = model(image)[0, target]
            if step in steps:
                row = steps.index(step)
                np.testing.assert_allclose(found["noise"][row, target], image[0].detach().numpy(), atol=1e-3)
                assert found["noise_logits"][row, target, 0] == pytest.approx(logit.item(), abs=1e-4)
            (gradient,) = torch.autograd.grad(logit, image)
            image = (image + 0.5 * gradient / gradient.norm()).clamp(0, 1)
    assert (np.diff(found["noise_logits"], axis=0) > 0).all()


def test_judgements_are_the_classifiers_and_the_nearest_training_images(run: Run) -> None:
    found = run(BASE)
    judge, train = models.load("judge.safetensors"), load_split("data.npz", "train")
    known = train.images.flatten(1).double()
    for judged, nearest, images in (
        ("shifted_judged", "shifted_nearest", "shifted"),
        ("generated_judged", "generated_nearest", "generated"),
        ("start_judged", None, "start"),
    ):
        x = torch.from_numpy(found[images]).float().flatten(0, -4)  # rounded to float16, which may tip a few
        with torch.no_grad():
            assert (judge(x).argmax(1).numpy() == found[judged].flatten()).mean() > 0.95
        if nearest is not None:
            rows = torch.cdist(x.flatten(1).double(), known).argmin(1)
            assert (train.labels[rows].numpy() == found[nearest].flatten()).mean() > 0.95
    assert len({*found["shifted_nearest"].flatten().tolist()}) > 1


def test_batches_only_share_the_work(run: Run) -> None:
    whole = run(BASE)
    for batch in (1, 5, 1000):
        found = run(f"{BASE} --batch {batch}")
        for name, array in whole.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(found[name], array, atol=1e-3, err_msg=name)
    first = Path("out.npz").read_bytes()
    run(f"{BASE} --batch 1000")
    assert Path("out.npz").read_bytes() == first


def test_starts_are_those_of_other_models_and_of_other_targets(run: Run) -> None:
    bank, softmax = run(BASE), run(f"{BASE} --model f.safetensors")
    some, other = run(f"{BASE} --model some --generated 2"), run(f"{BASE} --seed 3")
    np.testing.assert_array_equal(bank["start"], softmax["start"])
    np.testing.assert_array_equal(bank["noise"][0], softmax["noise"][0])
    assert (bank["noise"][0] == bank["noise"][0, 0]).all()
    np.testing.assert_allclose(some["start"], bank["start"][[1, 3], :2], atol=1e-3)
    assert (other["start"] != bank["start"]).any()
    assert (other["noise"][0] != bank["noise"][0]).any()
    np.testing.assert_array_equal(other["shifted"], bank["shifted"])  # no part of it is drawn


def test_reduced_gaussians_are_made_of_squares(run: Run) -> None:
    start = run(f"{BASE} --factor 4")["start"].reshape(4, 3, 2, 4, 2, 4)
    assert (start == start[:, :, :, :1, :, :1]).all()


def test_rule_adam_is_for_natural_images_only(run: Run) -> None:
    steepest, adam = run(BASE), run(f"{BASE} --rule adam")
    assert (adam["shifted"] != steepest["shifted"]).any()
    np.testing.assert_array_equal(adam["generated"], steepest["generated"])
    np.testing.assert_array_equal(adam["noise"], steepest["noise"])


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ("--per-class 0", shapes(4, 0, 0, 3, 3)),
        ("--eps", shapes(4, 0, 0, 3, 3)),
        ("--generated 0", shapes(4, 2, 8, 0, 3)),
        ("--noise-steps", shapes(4, 2, 8, 3, 0)),
        ("--images 0", {**shapes(4, 2, 8, 3, 3), "natural": (0, 4), "labels": (0,), "indices": (0,)}),
        ("--per-class 0 --generated 0 --noise-steps", shapes(4, 0, 0, 0, 0)),
    ],
)
def test_parts_can_be_left_out(run: Run, left_out: str, expected: dict[str, tuple[int, ...]]) -> None:
    found = run(f"{BASE} {left_out}")
    assert {name: array.shape for name, array in found.items() if name not in ("kind", "config")} == expected


def test_what_is_not_asked_for_is_left_out(run: Run) -> None:
    found = run(f"--model bank.safetensors {OTHERS} --generated 0")
    assert [len(found[name]) for name in ("images", "shifted", "shift_norm", "noise", "noise_steps")] == [0] * 5
    assert found["generated"].size == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--batch 0", "images is 7, per_class is 2, generated is 3 and batch 0; give counts >= 0 and a batch >= 1"),
        ("--generated -1", "generated is -1 and batch 12; give counts"),
        ("--images 33", "data.npz holds 32 test images, not the 33 that images asks for"),
        ("--per-class 9", "fewer than 9 test images of quarter 0, quarter 1, quarter 2, quarter 3; lower per_class"),
        ("--noise-steps 5 2", "noise_steps are (5, 2) and noises 2; give rising numbers >= 0"),
        ("--noise-steps 2 2", "noise_steps are (2, 2) and noises 2; give rising numbers >= 0"),
        ("--noises 0", "and noises 0; give rising numbers >= 0, and noises >= 1"),
        ("--noise-alpha 0", "an attack needs eps >= 0, alpha > 0"),
        ("--radius -1", "an attack needs eps >= 0, alpha > 0"),
        ("--eps 0.1 0.2 0.3", "norm, eps, steps, alpha belong together, but norm has 2, eps has 3"),
        ("--alpha 0.1 -0.2", "an attack needs eps >= 0, alpha > 0"),
        ("--factor 3", "factor is 3; give a divisor of the images' sides, 8 and 8 pixels"),
        ("--model none.safetensors", "model not found: none.safetensors; make it with"),
        ("--judge none.safetensors", "model not found: none.safetensors; make it with"),
        ("--judge bank.safetensors", "bank.safetensors holds no classifier"),
        ("--data none.npz", "array file not found: none.npz; make it with"),
        ("--data wide.npz", "wide.npz: images are 1x16x16 where the bank of detectors in bank.safetensors needs 1x8x8"),
        ("--model f.safetensors --data wide.npz", "images are 1x16x16 with 4 classes where the model needs 1x8x8"),
        ("--arch resnet10", "bank.safetensors holds detectors of the kind madry_cnn, not the resnet10"),
        ("--model f.safetensors --arch resnet10", "f.safetensors holds a madry_cnn, not the resnet10"),
        ("--judge-arch resnet10", "judge.safetensors holds a madry_cnn, not the resnet10"),
        ("--model spoilt.safetensors", "the logits of spoilt.safetensors are NaN or infinite for 7 of 7 images; train"),
        ("--model lost.safetensors --images 0 --eps", "the images are NaN or infinite for 3 of 12 images: the model's"),
    ],
)
def test_what_the_user_can_mend(run: Run, options: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {options}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()
