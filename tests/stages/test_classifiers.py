from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustgen import models
from robustgen.data import ImageSet, load_split
from robustgen.errors import UserError
from robustgen.models.detectors import Detectors
from robustgen.models.madry_cnn import Config
from robustgen.stages import classifiers as stage
from robustgen.stages.compute import Compute

CNN = Config(size=8, channels=1, classes=4, widths=(2, 4), hidden=8)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds data, classifiers, and what is none."""
    root = tmp_path_factory.mktemp("classifiers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        f, g, member = (models.build(replace(CNN, classes=k)) for k in (4, 3, 1))
    models.save(root / "f.safetensors", f)
    models.save(root / "g.safetensors", g)
    models.save(root / "bank.safetensors", Detectors.of([member], (0,), 4))
    models.save(root / "ebm.safetensors", models.build(models.config_type("nijkamp")(size=8, channels=1, width=2)))
    write_data(root / "data.npz")
    return root


@pytest.fixture
def images(built: Path) -> ImageSet:
    return load_split(built / "data.npz", "test")


def test_classifier(built: Path, images: ImageSet) -> None:
    def load(name: str, arch: str | None = None) -> nn.Module:
        return stage.load_classifier(built / name, "cpu", arch, images, Path("data.npz"))

    f = load("f.safetensors", "madry_cnn")
    assert not f.training
    assert not any(weight.requires_grad for weight in f.parameters())
    with pytest.raises(UserError, match=r"bank\.safetensors holds no classifier but detectors; give a model"):
        load("bank.safetensors")
    with pytest.raises(UserError, match=r"ebm\.safetensors holds no classifier but nijkamp; give a model"):
        load("ebm.safetensors")
    with pytest.raises(UserError, match="images are 1x8x8 with 4 classes where the model needs 1x8x8 with 3 classes"):
        load("g.safetensors")
    with pytest.raises(UserError, match="holds a madry_cnn, not the resnet10"):
        load("f.safetensors", "resnet10")


def test_logits_do_not_depend_on_the_batch(built: Path, images: ImageSet) -> None:
    network = models.load(built / "f.safetensors")
    whole = stage.logits_of(network, images.images, 32, "logits")
    assert whole.shape == (32, 4)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(stage.logits_of(network, images.images, 1, "logits"), whole, atol=1e-6)
    for weight in network.parameters():
        weight.data.fill_(np.nan)
    with pytest.raises(UserError, match="the logits here are NaN or infinite for 32 of 32 images; train the network"):
        stage.logits_of(network, images.images, 10, "logits here")


def test_lists_that_belong_together() -> None:
    assert stage.together(a=(1, 2), b="x") == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
    assert stage.together(a=(1,), b=(2,)) == [{"a": 1, "b": 2}]
    with pytest.raises(UserError, match="a, b, c belong together, but a has 3, b has 2, c has 1; give each 3 values"):
        stage.together(a=(1, 2, 3), b=(1, 2), c=(1,))
    with pytest.raises(UserError, match="a, b belong together, but a has 0, b has 1; give each 1 values, or one"):
        stage.together(a=(), b=(1,))


def test_description_of_a_result() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Options(Compute):
        data: Path

    found = stage.described(Options(data=Path("d.npz")), torch.tensor([3, 1]), 7, trained={"lr": 0.5}, arch="x")
    assert found["labels"].tolist() == [3, 1]
    assert found["indices"].tolist() == [7, 8]
    assert json.loads(str(found["config"])) == {
        "data": "d.npz",
        "device": "cpu",
        "threads": 1,
        "trained": {"lr": 0.5},
        "arch": "x",
    }
    assert stage.described(Compute(), torch.tensor([3]))["indices"].tolist() == [0]
