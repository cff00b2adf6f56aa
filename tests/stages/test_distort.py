from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robustgen import models
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.models.detectors import from_classifier
from robustgen.models.madry_cnn import Config
from robustgen.stages import distort as stage
from robustgen.stages import evaluation

STAGE = "distort"
SEARCH = "--search.depth 3 --search.steps 8 --search.alpha 0.15"
BASE = f"--detectors bank.safetensors --data data.npz --images 7 --batch 3 {SEARCH}"


def taught(data: Path) -> nn.Module:
    """A softmax classifier that names most images rightly; its logits make detectors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.build(Config(size=8, channels=1, classes=4, widths=(2, 4), hidden=8))
    train = load_split(data, "train")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(train.images), train.labels).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds data files, a classifier, detectors of all classes, of three, and spoilt ones."""
    root = tmp_path_factory.mktemp("distort")
    write_data(root / "data.npz")
    write_data(root / "wide.npz", size=16)
    classifier = taught(root / "data.npz")
    models.save(root / "f.safetensors", classifier)
    models.save(root / "bank.safetensors", from_classifier(classifier, range(4), 4), training={"lr": 0.5})
    models.save(root / "three.safetensors", from_classifier(classifier, (0, 1, 3), 4))
    classifier.fc.bias.data.fill_(np.nan)  # type: ignore[union-attr, operator]
    models.save(root / "spoilt.safetensors", from_classifier(classifier, range(4), 4))
    return root


def logits(images: torch.Tensor) -> np.ndarray:
    """Those of the detectors, (N, 4)."""
    with torch.no_grad():
        found: np.ndarray = models.load("bank.safetensors")(images).numpy()
    return found


def test_file_is_what_it_says(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} --offset 4 --shown 5")
    names = {"distance", "c", "threshold", "validation_share", "natural_error", "adversarial", "labels", "indices"}
    assert set(found) == {*names, "config"}
    assert found["distance"].shape == found["c"].shape == found["natural_error"].shape == (7,)
    assert found["natural_error"].dtype == bool
    assert found["adversarial"].shape == (5, 1, 8, 8)
    assert found["adversarial"].dtype == np.float32
    test = load_split("data.npz", "test")
    assert found["labels"].tolist() == test.labels[4:11].tolist()
    assert found["indices"].tolist() == list(range(4, 11))
    config = json.loads(str(found["config"]))
    assert config["search"]["depth"] == 3
    assert config["trained"] == [{"labels": [0, 1, 2, 3], "training": {"lr": 0.5}}]


@pytest.mark.parametrize("share", [0.95, 0.5, 1.0])
def test_threshold_is_the_largest_that_lets_the_share_pass(
    run: Callable[[str], dict[str, np.ndarray]], share: float
) -> None:
    found = run(f"{BASE} --images 1 --share {share}")
    top = np.sort(logits(load_split("data.npz", "validation").images).max(1))[::-1]
    count = int(np.ceil(share * len(top)))
    np.testing.assert_allclose(found["threshold"], top[count - 1], atol=1e-5)
    assert found["validation_share"] == pytest.approx(count / len(top))


def test_distances_are_those_of_errors_that_pass_the_threshold(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} --images 32 --batch 32 --shown 32")
    images = load_split("data.npz", "test")
    labels, threshold = images.labels.numpy(), float(found["threshold"])

    def error(z: np.ndarray) -> np.ndarray:
        wrong: np.ndarray = (z.argmax(1) != labels) & (z.max(1) > threshold)
        return wrong

    np.testing.assert_array_equal(found["natural_error"], error(logits(images.images)))
    np.testing.assert_array_equal(found["distance"] == 0, found["natural_error"])
    reached = np.isfinite(found["distance"])
    assert reached.mean() > 0.5
    adversarial = torch.from_numpy(found["adversarial"])
    assert error(logits(adversarial))[reached].all()
    norms = (adversarial - images.images).flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(norms[reached], found["distance"][reached], rtol=1e-4)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_longer_searches_find_nearer_errors(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    first = run(f"{BASE} --search.depth 1")["distance"]
    longer = run(f"{BASE} --search.depth 6")["distance"]
    assert (longer <= first).all()
    assert (longer < first).any()


def test_batches_and_shards_only_share_the_work(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    whole = run(f"{BASE} --images 5 --shown 2")
    for part, images in (("--images 2 --batch 1", slice(0, 2)), ("--offset 2 --images 3 --batch 4", slice(2, 5))):
        found = run(f"{BASE} {part}")
        for name in ("distance", "c", "natural_error", "labels", "indices"):
            np.testing.assert_allclose(found[name], whole[name][images], rtol=1e-4)
        for name in ("threshold", "validation_share"):
            np.testing.assert_allclose(found[name], whole[name], atol=1e-6)
    assert whole["adversarial"].shape == (2, 1, 8, 8)
    assert run(f"{BASE} --images 2 --shown 0")["adversarial"].shape == (0, 1, 8, 8)


def test_long_search_reports(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 3.0, 11.0, 12.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    report = stage.Report("shard, image 0 of 7")
    for tried in range(3):
        report(tried, 7 - tried)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "shard, image 0 of 7: 1 values of c tried, 6 of the batch searched on"
    ]


def test_an_interrupted_run_goes_on_where_it_was(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(BASE)
    whole = Path("out.npz").read_bytes()
    assert not list(evaluation.FOLDER.rglob("*.npz"))
    Path("out.npz").unlink()
    real, asked = stage.nearest, []

    def fail(*args: Any) -> np.ndarray:
        asked.append(args[2])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(stage, "nearest", fail)
    with pytest.raises(KeyboardInterrupt):
        run(BASE)
    assert len(list(evaluation.FOLDER.rglob("*.npz"))) == 2
    assert not Path("out.npz").exists()
    run(BASE)
    assert asked == [slice(0, 3), slice(3, 6), slice(6, 9), slice(6, 9)]
    assert Path("out.npz").read_bytes() == whole
    assert not list(evaluation.FOLDER.rglob("*.npz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--share 0", "share is 0; give a share of images above 0, up to 1"),
        ("--share 1.2", "share is 1.2; give a share"),
        ("--batch 0", "batch is 0 and shown 16; give at least 1 image a batch, 0 or more shown"),
        ("--shown -1", "batch is 3 and shown -1"),
        ("--images 33", "data.npz holds 32 test images, not the 33"),
        ("--data wide.npz", "wide.npz: images are 1x16x16"),
        ("--data none.npz", "array file not found: none.npz; make it with"),
        ("--detectors none.safetensors", "model not found: none.safetensors; make it with"),
        ("--detectors f.safetensors", "f.safetensors holds a madry_cnn, not the detectors"),
        ("--detectors three.safetensors", "three.safetensors has no detectors of the classes 2; train them too"),
        ("--member-arch resnet50", "bank.safetensors holds detectors of the kind madry_cnn, not the resnet50"),
        ("--detectors spoilt.safetensors", "logits of the detectors are NaN or infinite for 24 of 24 images; train"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, run: Callable[[str], dict[str, np.ndarray]]) -> None:
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {options}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()
