from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro

from robustgen import io, models
from robustgen.data import load_split
from robustgen.defenses import adp
from robustgen.errors import UserError
from robustgen.seeding import derive
from robustgen.stages import corrupt
from robustgen.stages import corruption_accuracy as stage

ALONE = "--classifier classifier.safetensors --corrupted corrupted.npz --data data.npz --batch 3 --seed 2"
BASE = f"{ALONE} --score score.safetensors --defense.steps 1 --defense.draws 2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds a data file, five corrupted images of it at few settings, files that harm, and networks."""
    root = tmp_path_factory.mktemp("corrupted")
    network(root / "classifier.safetensors", arch="resnet10", width=4, classes=4, mean=(0.3,), std=(0.3,))
    network(root / "score.safetensors", arch="ncsnv2", width=4, levels=3)
    network(root / "ebm.safetensors", arch="nijkamp", width=2, tau=0.1)
    network(root / "lost.safetensors", spoil=True, arch="ncsnv2", width=4, levels=3)
    network(root / "nan.safetensors", spoil=True, arch="resnet10", width=4, classes=4, mean=(0.3,), std=(0.3,))
    network(root / "wide.safetensors", arch="ncsnv2", width=4, levels=3, size=16)
    write_data(root / "data.npz")
    corrupt.run(corrupt.Options(data=root / "data.npz", out=root / "all.npz", images=5))
    every = io.load_arrays(root / "all.npz")
    few = np.array([0, 9])
    kept = {name: every[name][few] for name in ("images", "corruptions", "groups")}
    kept |= {"images": kept["images"][:, ::4], "severities": every["severities"][::4]}
    given = {**every, **kept}
    io.save_arrays(root / "corrupted.npz", given)
    changes: dict[str, dict[str, Any]] = {
        "cut": {"images": given["images"][:1]},
        "float": {"images": given["images"] / 255},
        "other": {"natural": 255 - given["natural"]},
        "renamed": {"labels": given["labels"][::-1]},
        "beyond": {"indices": given["indices"] + 40},
    }
    for name, change in changes.items():
        io.save_arrays(root / f"{name}.npz", {**given, **change})
    write_data(root / "wide.npz", size=16)
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, np.ndarray]]:
    """run(options): the stage's result, in a folder that holds what `made` does."""
    for file in made.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)

    def result(options: str) -> dict[str, np.ndarray]:
        stage.run(tyro.cli(stage.Options, args=shlex.split(f"{options} --out out.npz")))
        return io.load_arrays("out.npz")

    return result


def network(path: Path, spoil: bool = False, **parameters: Any) -> None:
    """Save an untrained network for 1x8x8 images (or as `parameters` say); `spoil` makes its output NaN."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.config_type(parameters["arch"])(**{"size": 8, "channels": 1, **parameters})
        model = models.build(config)
    if spoil:
        list(model.parameters())[-1].data.fill_(np.nan)
    models.save(path, model)


def predicted(model: Any, images: np.ndarray) -> np.ndarray:
    """A classifier's classes of uint8 images (N, C, H, W)."""
    with torch.no_grad():
        return model(torch.from_numpy(images).float() / 255).argmax(1).numpy()  # type: ignore[no-any-return]


def test_classifier_alone(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found, given = run(ALONE), io.load_arrays("corrupted.npz")
    classifier = models.load("classifier.safetensors")
    assert found["sigmas"].tolist() == [0]
    assert found["detection"].tolist() == [False]
    assert np.isnan(found["threshold"]).all()
    assert found["correct"].shape == (1, 2, 2, 5)
    assert found["correct"].dtype == found["natural"].dtype == np.bool_
    np.testing.assert_array_equal(found["natural"][0], predicted(classifier, given["natural"]) == given["labels"])
    for k in range(2):
        for s in range(2):
            expected = predicted(classifier, given["images"][k, s]) == given["labels"]
            np.testing.assert_array_equal(found["correct"][0, k, s], expected)
    for name in ("corruptions", "groups", "severities", "labels", "indices", "source"):
        np.testing.assert_array_equal(found[name], given[name])
    config = json.loads(str(found["config"]))
    assert config["has_score"] is False
    assert config["seed"] == 2


def test_rows_are_sigmas_with_and_without_detection(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} --sigmas 0.3 0 --detection --detection-quantile 0.75 --batch 5")
    assert found["sigmas"].tolist() == [0.3, 0.3, 0]
    assert found["detection"].tolist() == [False, True, False]
    assert found["correct"].shape == (3, 2, 2, 5)
    score = models.load("score.safetensors")
    with torch.no_grad():
        norms = score(load_split("data.npz", "validation").images).flatten(1).norm(dim=1)
    expected = np.quantile(norms.double().numpy(), 0.75)
    np.testing.assert_allclose(found["threshold"][found["detection"]], expected, rtol=1e-5)
    assert np.isnan(found["threshold"][~found["detection"]]).all()
    assert json.loads(str(found["config"]))["has_score"] is True


def test_outcomes_are_those_of_the_defence(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found, given = run(f"{BASE} --sigmas 0.3 --detection"), io.load_arrays("corrupted.npz")
    networks = models.load("classifier.safetensors"), models.load("score.safetensors")
    for row, (detection, threshold) in enumerate(zip(found["detection"], found["threshold"], strict=True)):
        options = adp.Options(sigma=0.3, steps=1, draws=2, detect=threshold if detection else None)
        for k, name in enumerate(given["corruptions"]):
            label = "σ 0.3, detection" if detection else "σ 0.3"
            defense = adp.ADP(*networks, options, seed=derive(2, label, str(name), 5))
            with torch.no_grad():
                x = torch.from_numpy(given["images"][k, 1]).float() / 255
                expected = defense.predict(x, given["indices"].tolist()).argmax(1).numpy() == given["labels"]
            np.testing.assert_array_equal(found["correct"][row, k, 1], expected)


def test_batches_only_share_the_work(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    a = run(f"{BASE} --sigmas 0.3 0.1 --batch 2")
    b = run(f"{BASE} --sigmas 0.1 --batch 5")
    first = Path("out.npz").read_bytes()
    for name in ("correct", "natural"):
        np.testing.assert_array_equal(a[name][1:], b[name])  # nor do other rows change anything
    run(f"{BASE} --sigmas 0.1 --batch 5")
    assert Path("out.npz").read_bytes() == first


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[adp.Options]:
    """The options of the defences that are made from here on, in order."""
    seen = []
    real = adp.ADP

    class Noted(real):  # type: ignore[misc, valid-type]
        def __init__(self, classifier: Any, score: Any, options: adp.Options, **more: Any) -> None:
            seen.append(options)
            super().__init__(classifier, score, options, **more)

    monkeypatch.setattr(adp, "ADP", Noted)
    return seen


def test_median_heuristic_comes_first(run: Callable[[str], dict[str, np.ndarray]], built: list[adp.Options]) -> None:
    sigma = adp.sigma_of(load_split("data.npz", "train").images)
    found = run(f"{BASE} --median --sigmas 0.1 --detection --defense.sigma 0.7 --batch 5")
    assert found["sigmas"].tolist() == [sigma, sigma, 0.1, 0.1]
    assert {o.sigma for o in built} == {0.0, sigma, 0.1}  # 0: the score norms that set the threshold
    config = json.loads(str(found["config"]))
    assert (config["median"], config["sigmas"]) == (True, [0.1])
    alone = run(f"{BASE} --median --batch 5")
    np.testing.assert_array_equal(alone["correct"], found["correct"][:1])
    with pytest.raises(UserError, match="give different numbers from 0 on"):
        run(f"{BASE} --median --sigmas {sigma!r}")


def test_zero_sigma_takes_the_fixed_step(run: Callable[[str], dict[str, np.ndarray]], built: list[adp.Options]) -> None:
    run(f"{BASE} --sigmas 0 0.3 --fixed-step 0.02 --batch 5")
    assert [(o.sigma, o.step, o.detect) for o in built] == [(0, 0.02, None), (0.3, None, None)]
    built.clear()
    run(f"{BASE} --sigmas 0 0.3 --defense.step 0.05 --defense.detect 1 --batch 5")
    assert [(o.sigma, o.step, o.detect) for o in built] == [(0, 0.05, None), (0.3, 0.05, None)]


def test_energy_models_purify_too(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    found = run(f"{BASE} --score ebm.safetensors --sigmas 0.1 --detection --batch 5")
    assert found["correct"].shape == (2, 2, 2, 5)
    assert np.isfinite(found["threshold"][1])


def test_an_interrupted_evaluation_goes_on(
    run: Callable[[str], dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = f"{BASE} --sigmas 0.3 0 --batch 5"
    whole = run(options)
    Path("out.npz").unlink()
    real, asked = stage.correct, []

    def fail(row: Any, condition: Any, *more: Any) -> np.ndarray:
        asked.append((row.sigma, condition.name, condition.severity))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(row, condition, *more)

    monkeypatch.setattr(stage, "correct", fail)
    with pytest.raises(KeyboardInterrupt):
        run(options)
    assert asked[0] == (0.3, "natural", 0)
    parts = sorted(Path(".cache").rglob("*.npz"))
    assert len(parts) == 3
    parts[1].write_bytes(b"damaged")
    found = run(options)
    assert len(asked) == 4 + 1 + 7  # the damaged one, and those that were missing
    assert not list(Path(".cache").rglob("*.npz"))
    for name in ("correct", "natural"):
        np.testing.assert_array_equal(found[name], whole[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (f"{ALONE} --batch 0", "batch is 0; give at least 1 image"),
        (f"{ALONE} --sigmas 0.1", "sigmas, median and detection need a score model; give score"),
        (f"{ALONE} --median", "sigmas, median and detection need a score model; give score"),
        (f"{ALONE} --detection", "sigmas, median and detection need a score model; give score"),
        (f"{ALONE} --classifier none.safetensors", "model not found: none.safetensors; make it with"),
        (f"{BASE} --median --sigmas 0.1 0.1", "sigmas are (0.1, 0.1); give different numbers from 0 on"),
        (BASE, "sigmas are (); give different numbers from 0 on"),
        (f"{BASE} --sigmas -0.1", "sigmas are (-0.1,); give different numbers from 0 on"),
        (f"{BASE} --sigmas 0.1 0.1", "sigmas are (0.1, 0.1); give different numbers from 0 on"),
        (f"{BASE} --sigmas 0 --detection", "the only sigma is 0; give another, or leave detection out"),
        (f"{BASE} --sigmas 0.1 --detection-quantile 1", "detection_quantile is 1; give a share between 0 and 1"),
        (f"{BASE} --sigmas 0.1 --corrupted none.npz", "corrupted images not found: none.npz; make it with"),
        (f"{BASE} --sigmas 0.1 --corrupted data.npz", "data.npz holds no array images"),
        (f"{BASE} --sigmas 0.1 --corrupted cut.npz", "cut.npz: images are uint8 of shape (1, 2, 5, 1, 8, 8), not"),
        (f"{BASE} --sigmas 0.1 --corrupted float.npz", "float.npz: images are float64 of shape"),
        (f"{BASE} --sigmas 0.1 --corrupted other.npz", "other.npz was not made from the test images of data.npz"),
        (f"{BASE} --sigmas 0.1 --corrupted renamed.npz", "renamed.npz was not made from the test images of data.npz"),
        (f"{BASE} --sigmas 0.1 --corrupted beyond.npz", "beyond.npz was not made from the test images of data.npz"),
        (f"{BASE} --sigmas 0.1 --data wide.npz", "corrupted.npz was not made from the test images of wide.npz"),
        (
            f"{BASE} --sigmas 0.1 --score classifier.safetensors",
            "classifier.safetensors holds a resnet10, which has no",
        ),
        (f"{BASE} --sigmas 0.1 --score wide.safetensors", "where the score model in wide.safetensors needs 1x16x16"),
        (f"{BASE} --sigmas 0.1 --score none.safetensors", "model not found: none.safetensors"),
        (f"{BASE} --sigmas 0.1 --score lost.safetensors", "the score is NaN or infinite for "),
        (f"{BASE} --sigmas 0.1 --detection --score lost.safetensors", "NaN or infinite for "),
        (f"{ALONE} --classifier nan.safetensors", "logits are NaN or infinite for 3 of 3 images"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, run: Callable[[str], dict[str, np.ndarray]]) -> None:
    with pytest.raises(UserError) as caught:
        run(options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()
