from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robustgen import models
from robustgen.data import ImageSet, load_split
from robustgen.errors import UserError
from robustgen.models.detectors import Detectors
from robustgen.models.madry_cnn import Config
from robustgen.stages import detector_models as stage

MEMBER = Config(size=8, channels=1, classes=1, widths=(2, 4), hidden=8)


def bank(labels: tuple[int, ...], classes: int = 4, **changes: Any) -> Detectors:
    """Untrained detectors of some classes."""
    with torch.random.fork_rng():
        torch.manual_seed(labels[0])
        members = [models.build(replace(MEMBER, **changes)) for _ in labels]
    return Detectors.of(members, labels, classes)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds data, a classifier, detectors in a file and in a folder, and what is neither."""
    root = tmp_path_factory.mktemp("detector-models")
    models.save(root / "bank.safetensors", bank((0, 1, 2, 3)), training={"lr": 0.5})
    models.save(root / "parts/low.safetensors", bank((0, 1)), training={"lr": 0.25})
    models.save(root / "parts/high.safetensors", bank((3,)))
    models.save(root / "many.safetensors", bank((0, 1), classes=5))
    models.save(root / "wide.safetensors", bank((0, 1), size=16))
    models.save(root / "f.safetensors", models.build(replace(MEMBER, classes=4)))
    write_data(root / "data.npz")
    return root


@pytest.fixture
def images(built: Path) -> ImageSet:
    return load_split(built / "data.npz", "test")


@pytest.fixture
def bank_of(built: Path, images: ImageSet) -> Callable[..., Detectors]:
    """bank_of(name, arch=None, complete=False): what the stages load."""

    def load(name: str, arch: str | None = None, complete: bool = False) -> Detectors:
        return stage.load_bank(built / name, "cpu", arch, images, Path("data.npz"), complete=complete)

    return load


def test_detectors_of_a_file_and_of_a_folder(bank_of: Callable[..., Detectors], images: ImageSet) -> None:
    whole, parts = bank_of("bank.safetensors", "madry_cnn", complete=True), bank_of("parts")
    assert whole.labels == (0, 1, 2, 3)
    assert parts.labels == (0, 1, 3)
    for each in (whole, parts):
        assert not each.training
        assert not any(weight.requires_grad for weight in each.parameters())
    own = bank((0, 1, 2, 3))(images.images[:9]).detach()
    torch.testing.assert_close(whole(images.images[:9]), own)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "bank.safetensors",
            {"arch": "resnet50"},
            "detectors of the kind madry_cnn, not the resnet50 asked for; name the one it holds",
        ),
        ("parts", {"complete": True}, "no detectors of the classes 2"),
        ("many.safetensors", {}, "data.npz has 4 classes where the detectors in .*many.safetensors are for 5"),
        (
            "wide.safetensors",
            {},
            "images are 1x8x8 where the bank of detectors in .*wide.safetensors needs 1x16x16; train one on it",
        ),
        ("f.safetensors", {}, "holds a madry_cnn, not the detectors"),
        ("none.safetensors", {}, "model not found: .*none.safetensors; make it with"),
    ],
)
def test_detectors_that_do_not_fit(
    bank_of: Callable[..., Detectors], name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        bank_of(name, **options)


def test_files_and_facts_of_detectors(built: Path) -> None:
    high, low = stage.detector_files(built / "parts")
    assert (high.name, low.name) == ("high.safetensors", "low.safetensors")
    assert stage.detector_files(low) == [low]
    assert stage.training_facts(built / "parts") == [
        {"labels": [3], "training": None},
        {"labels": [0, 1], "training": {"lr": 0.25}},
    ]


def test_modules_of_networks_and_their_members() -> None:
    softmax = models.build(models.config_type("resnet10")(size=8, channels=1, width=2, mean=(0.5,), std=(0.5,)))
    found = stage.modules_of([bank((0,)), softmax])
    assert {*found} == {"models.detectors", "models.grouped", "models.madry_cnn", "models.resnet10"}
