from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from robustgen import cli, io, models
from robustgen.data import load_split
from robustgen.defenses import adp
from robustgen.errors import UserError
from robustgen.evaluation.smoothing import certify, point_estimates
from robustgen.seeding import ImageStreams, derive
from robustgen.stages import certify as stage
from robustgen.stages import evaluation

PLAIN = "--classifier classifier.safetensors --data data.npz --images 7 --sigmas 0.12 0.5 --selection 12 --samples 56"
BASE = f"{PLAIN} --batch 3 --seed 2"
ADP = "--score score.safetensors --defense.steps 1"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds data files, classifiers and models that purify, some of them spoilt or of another size."""
    root = tmp_path_factory.mktemp("certify")
    classifier = {"arch": "resnet10", "width": 4, "classes": 4, "mean": (0.3,), "std": (0.3,)}
    score = {"arch": "ncsnv2", "width": 4, "levels": 3}
    network(root / "classifier.safetensors", **classifier)
    network(root / "spoilt.safetensors", True, **classifier)
    network(root / "score.safetensors", **score)
    network(root / "spoilt-score.safetensors", True, **score)
    network(root / "wide.safetensors", **score, size=16)
    network(root / "ebm.safetensors", arch="nijkamp", width=2, tau=0.1)
    write_data(root / "data.npz")
    write_data(root / "wide.npz", size=16)
    return root


@pytest.fixture
def run(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """run(options): the stage in a folder that holds what `built` does."""
    for file in built.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return lambda options: cli.run("certify", shlex.split(options))


def network(path: Path, spoil: bool = False, **parameters: Any) -> None:
    """Save an untrained network for 1x8x8 images (or as `parameters` say); `spoil` makes its output NaN."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.config_type(parameters["arch"])(**{"size": 8, "channels": 1, **parameters})
        model = models.build(config)
    if spoil:
        list(model.parameters())[-1].data.fill_(np.nan)
    models.save(path, model)


def same_counts(a: np.ndarray, b: np.ndarray) -> None:
    """Assert that counts are equal but for the odd copy that lies where rounding decides."""
    assert a.shape == b.shape
    assert np.abs(a - b).sum() <= 0.005 * a.sum()


@pytest.mark.parametrize("extra", ["", ADP])
def test_file_is_what_it_says(run: Callable[[str], None], extra: str) -> None:
    run(f"{BASE} {extra} --offset 4 --out out.npz")
    found = io.load_arrays("out.npz")
    test = load_split("data.npz", "test")
    assert set(found) == {"sigmas", "selection_counts", "counts", "labels", "indices", "config"}
    assert found["sigmas"].tolist() == [0.12, 0.5]
    assert found["indices"].tolist() == list(range(4, 11))
    assert found["labels"].tolist() == test.labels[4:11].tolist()
    for name, n in (("selection_counts", 12), ("counts", 56)):
        assert found[name].shape == (2, 7, 4)
        assert found[name].dtype == np.int64
        assert (found[name].sum(2) == n).all()
        assert found[name].min() >= 0
    config = json.loads(str(found["config"]))
    assert (config["n0"], config["n"], config["has_score"]) == (12, 56, bool(extra))
    assert config["sigmas"] == [0.12, 0.5]
    assert config["defense"]["steps"] == (1 if extra else 10)
    certify(found["selection_counts"][0], found["counts"][0], 0.12)  # what they are for


def test_copies_are_those_of_the_image_streams_unclipped(run: Callable[[str], None]) -> None:
    run(f"{BASE} --out out.npz")
    found = io.load_arrays("out.npz")
    images = load_split("data.npz", "test")
    model = models.load("classifier.safetensors")
    for role, n in (("selection_counts", 12), ("counts", 56)):
        for image in range(7):
            generator = torch.Generator().manual_seed(derive(derive(2, role), int(images.indices[image])))
            parts = [torch.randn(min(50, n - first), 1, 8, 8, generator=generator) for first in range(0, n, 50)]
            with torch.no_grad():
                named = [model(images.images[image] + 0.5 * z).argmax(1) for z in parts]
            expected = np.bincount(torch.cat(named), minlength=4)
            assert np.abs(found[role][1, image] - expected).sum() <= 2


def test_adp_names_one_purification_of_each_copy(run: Callable[[str], None]) -> None:
    run(f"{BASE} {ADP} --samples 1 --defense.sigma 0.9 --defense.draws 7 --out out.npz")  # neither does anything here
    images = load_split("data.npz", "test")
    classifier, score = models.load("classifier.safetensors"), models.load("score.safetensors")
    defense = adp.ADP(classifier, score, adp.Options(sigma=0.5, steps=1))
    streams = ImageStreams(derive(2, "selection_counts"), images.indices[:7].tolist())
    with torch.no_grad():
        named = classifier(defense.purify_draws(images.images[:7], 12, streams).flatten(0, 1)).argmax(1)
    expected = np.stack([np.bincount(row, minlength=4) for row in named.view(7, 12)])
    same_counts(io.load_arrays("out.npz")["selection_counts"][1], expected)


def test_without_steps_purification_only_clips(run: Callable[[str], None]) -> None:
    images = load_split("data.npz", "test").images[:3]
    classifier, score = models.load("classifier.safetensors"), models.load("score.safetensors")
    still = stage.copies_of(classifier, score, 0.5, adp.Options(steps=0))(images, 9, ImageStreams(0, range(3)))
    plain = stage.copies_of(classifier, None, 0.5, adp.Options())(images, 9, ImageStreams(0, range(3)))
    assert plain.shape == still.shape == (3, 9, 1, 8, 8)
    assert plain.min() < -0.5
    torch.testing.assert_close(plain.clamp(0, 1), still)


def test_selection_and_certification_draws_are_unrelated(run: Callable[[str], None]) -> None:
    run(f"{BASE} --selection 56 --out out.npz")
    found = io.load_arrays("out.npz")
    assert (found["selection_counts"] != found["counts"]).any()
    one, other = (stage.streams(2, role, [1003], "cpu").normal((500,)) for role in ("selection_counts", "counts"))
    assert np.corrcoef(one, other)[0, 1] ** 2 < 0.02


@pytest.mark.parametrize("extra", ["", f"{ADP} --defense.updates langevin"])
def test_shards_batches_and_other_noise_only_share_the_work(run: Callable[[str], None], extra: str) -> None:
    run(f"{BASE} {extra} --images 5 --out whole.npz")
    run(f"{BASE} {extra} --images 2 --batch 1 --out parts.000.npz")
    run(f"{BASE} {extra} --offset 2 --images 3 --batch 4 --out parts.001.npz")
    run(f"{BASE} {extra} --images 2 --sigmas 0.5 --selection 20 --batch 7 --out c.npz")
    whole, a, b, c = (io.load_arrays(f"{name}.npz") for name in ("whole", "parts.000", "parts.001", "c"))
    assert not {*a["indices"].tolist()} & {*b["indices"].tolist()}
    np.testing.assert_array_equal(a["sigmas"], b["sigmas"])
    for name, axis in {"counts": 1, "selection_counts": 1, "labels": 0, "indices": 0}.items():
        same = same_counts if axis else np.testing.assert_array_equal
        same(np.concatenate([a[name], b[name]], axis), whole[name])
    facts = [json.loads(str(part["config"])) for part in (a, b)]
    assert {key for key in facts[0] if facts[0][key] != facts[1][key]} == {"out", "offset", "images", "batch"}
    same_counts(c["counts"][0], whole["counts"][1, :2])
    before = Path("c.npz").read_bytes()
    run(f"{BASE} {extra} --images 2 --sigmas 0.5 --selection 20 --batch 7 --out c.npz")
    assert Path("c.npz").read_bytes() == before


def test_an_interrupted_run_goes_on_where_it_was(run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    run(f"{BASE} --out out.npz")
    whole = Path("out.npz").read_bytes()
    assert not list(evaluation.FOLDER.rglob("*.npz"))
    Path("out.npz").unlink()
    real, asked = stage.votes, []

    def fail(classifier: nn.Module, copies: Any, x: Tensor, n: int, streams: ImageStreams) -> Tensor:
        asked.append((len(x), n))
        if len(asked) in (4, 6):
            raise KeyboardInterrupt
        return real(classifier, copies, x, n, streams)

    monkeypatch.setattr(stage, "votes", fail)
    with pytest.raises(KeyboardInterrupt):
        run(f"{BASE} --out out.npz")
    assert asked == [(3, 12), (3, 56), (3, 12), (3, 56)]
    parts = sorted(evaluation.FOLDER.rglob("*.npz"))
    assert len(parts) == 3
    parts[0].write_bytes(b"damaged")
    with pytest.raises(KeyboardInterrupt):  # another shard does not meet what this one left
        run(f"{BASE} --offset 7 --out out.npz")
    assert asked[4:] == [(3, 12), (3, 56)]
    assert not Path("out.npz").exists()
    run(f"{BASE} --out out.npz")
    assert len(asked) == 6 + 1 + 9  # the damaged one, and those that were missing, of 2 σ, 3 batches and 2 roles
    assert Path("out.npz").read_bytes() == whole
    assert len(list(evaluation.FOLDER.rglob("*.npz"))) == 1  # the other shard's


def test_seeds_differ(run: Callable[[str], None]) -> None:
    run(f"{BASE} --out a.npz")
    run(f"{BASE} --seed 3 --out b.npz")
    assert (io.load_arrays("a.npz")["counts"] != io.load_arrays("b.npz")["counts"]).any()


class Halfspace(nn.Module):
    """Class 0 where the mean of an image's pixels is above 1/2; in images of 64 pixels the boundary is
    8 · |mean − 1/2| away.
    """

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1).mean(1) - 0.5
        return torch.stack([z, -z], 1)


def test_radii_of_a_linear_classifier_are_its_distance() -> None:
    sigma, n = 0.25, 4000
    model = Halfspace()
    x = torch.linspace(0.42, 0.58, 8).view(8, 1, 1, 1).expand(8, 1, 8, 8)
    distance = 8 * (x[:, 0, 0, 0] - 0.5).abs().double().numpy()
    copies = stage.copies_of(model, None, sigma, adp.Options())
    counts = stage.votes(model, copies, x, n, ImageStreams(1, range(8))).numpy()
    share = stats.norm.cdf(distance / sigma)
    assert (np.abs(counts.max(1) / n - share) < 5 * np.sqrt(share * (1 - share) / n)).all()
    selected = stage.votes(model, copies, x, 100, ImageStreams(2, range(8))).numpy()
    certificate, estimate = certify(selected, counts, sigma), point_estimates(counts, sigma)
    assert estimate.classes.tolist() == [1] * 4 + [0] * 4
    np.testing.assert_allclose(estimate.radii, distance, atol=0.06)
    certain = certificate.classes >= 0
    assert certain.sum() >= 6
    assert (certificate.radii[certain] <= distance[certain]).all()
    assert (certificate.radii[certain] > distance[certain] - 0.12).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--selection 0", "selection is 0, samples 56 and batch 3; give at least 1 of each"),
        ("--samples 0", "selection is 12, samples 0 and batch 3; give at least 1 of each"),
        ("--batch 0", "selection is 12, samples 56 and batch 0; give at least 1 of each"),
        ("--sigmas 0 0.5", "sigmas are (0.0, 0.5); give different numbers above 0"),
        ("--sigmas -0.1", "sigmas are (-0.1,); give different numbers above 0"),
        ("--sigmas 0.5 1/2", "sigmas are (0.5, 0.5); give different numbers above 0"),
        ("--images 33", "data.npz holds 32 test images, not the 33"),
        ("--offset -1", "offset is -1 and images 7"),
        (f"{ADP} --defense.detect 3", "a certificate holds for one noise level at all images"),
        ("--score classifier.safetensors", "classifier.safetensors holds a resnet10, which has no score"),
        ("--score wide.safetensors", "data.npz: images are 1x8x8 where the score model in wide.safetensors needs 1x16"),
        ("--classifier none.safetensors", "model not found: none.safetensors; make it with"),
        ("--data none.npz", "array file not found: none.npz; make it with"),
        ("--score none.safetensors", "model not found: none.safetensors; make it with"),
        ("--score-arch nijkamp --score score.safetensors", "holds a ncsnv2, not the nijkamp that was asked for"),
        ("--data wide.npz", "images are 1x16x16 with 4 classes where the model needs 1x8x8 with 4 classes"),
        ("--classifier spoilt.safetensors", "the logits of noisy copies are NaN or infinite for 3 of 3 images; train"),
        ("--score spoilt-score.safetensors", "the score is NaN or infinite for"),
    ],
)
def test_what_the_user_can_mend(options: str, message: str, run: Callable[[str], None]) -> None:
    with pytest.raises(UserError) as caught:
        run(f"{BASE} {options} --out out.npz")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()


def test_energy_model_purifies_too(run: Callable[[str], None]) -> None:
    run(f"{BASE} --score ebm.safetensors --defense.steps 2 --defense.step 0.001 --out out.npz")
    assert (io.load_arrays("out.npz")["counts"].sum(2) == 56).all()
