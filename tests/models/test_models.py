from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustgen import io, models
from robustgen.errors import UserError
from robustgen.models.resnet10 import Config

CONFIG = Config(size=8, channels=1, classes=3, width=2, mean=(0.3,), std=(0.4,))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    model = models.build(CONFIG)
    model(torch.rand(8, 1, 8, 8))  # moves the batch-norm statistics
    return model


@pytest.fixture
def file(model: nn.Module, tmp_path: Path) -> Path:
    models.save(tmp_path / "m.safetensors", model, classes=["a", "b", "c"])
    return tmp_path / "m.safetensors"


def rewrite(file: Path, **changes: Any) -> None:
    tensors, header = io.load_weights(file)
    io.save_weights(file, tensors, {k: v for k, v in {**header, **changes}.items() if v is not None})


def test_network_comes_back_in_eval_mode(model: nn.Module, file: Path) -> None:
    loaded = models.load(file)
    assert not any(module.training for module in loaded.modules())
    assert loaded.num_classes == 3
    assert loaded.config == CONFIG
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(loaded(x), model.eval().to(memory_format=torch.channels_last)(x))
    _, header = io.load_weights(file)
    assert header["classes"] == ["a", "b", "c"]
    assert json.loads(json.dumps(header)) == header


def test_equal_networks_make_equal_files(model: nn.Module, file: Path) -> None:
    models.save(file.with_name("again"), models.load(file), classes=["a", "b", "c"])
    assert file.with_name("again").read_bytes() == file.read_bytes()


def test_unknown_architecture_is_named() -> None:
    with pytest.raises(
        UserError, match=r"unknown architecture 'resnet1000'; known are aae, detectors, .*, wide_resnet"
    ):
        models.config_type("resnet1000")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vgg"}, "unknown architecture 'vgg'"),
        ({"architecture": None}, "unknown architecture 'None'"),
        ({"parameters": {"width": 4, "channels": 1, "mean": [0.3], "std": [0.4]}}, "do not fit .* size mismatch"),
        ({"parameters": {"depth": 3}}, "do not fit .* 'depth'"),
        ({"parameters": {"channels": 2}}, "do not fit .* 2 values each"),
        ({"parameters": {"width": "wide"}}, "do not fit"),
        ({"parameters": {"width": 0}}, "do not fit"),
        ({"parameters": None}, "do not fit"),
        ({"parameters": [1]}, "do not fit"),
    ],
)
def test_header_that_disagrees_with_the_weights(file: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(file, **changes)
    with pytest.raises(UserError, match=message) as caught:
        models.load(file)
    assert "\n" not in str(caught.value)


def test_header_that_is_no_record(file: Path) -> None:
    tensors, _ = io.load_weights(file)
    io.save_weights(file, tensors, [1, 2])  # type: ignore[arg-type]
    for arch in (None, "resnet10"):
        with pytest.raises(UserError, match="has no robustgen header, so its architecture is unknown"):
            models.load(file, arch=arch)


@pytest.mark.parametrize(
    ("arch", "parameters"),
    [
        ("madry_cnn", {"hidden": 2**24}),
        ("madry_cnn", {"hidden": 2**13}),
        ("wide_resnet", {"depth": 6 * 10**7 + 4, "widen": 1, "base": 1}),
        ("ncsnv2", {"levels": 2**40}),
        ("detectors", {"labels": [*range(10**5)], "classes": 10**5, "member": {"arch": "madry_cnn", "classes": 1}}),
    ],
)
def test_network_larger_than_its_file_is_never_built(file: Path, arch: str, parameters: dict[str, Any]) -> None:
    rewrite(file, architecture=arch, parameters=parameters)
    with pytest.raises(UserError, match=r"m\.safetensors: the weights do not fit .*it (asks for|names)"):
        models.load(file)


def test_architecture_that_was_asked_for(file: Path) -> None:
    assert models.load(file, arch="resnet10").num_classes == 3
    with pytest.raises(UserError, match=r"m\.safetensors holds a resnet10, not the vgg that was asked for"):
        models.load(file, arch="vgg")


def test_missing_weight(file: Path) -> None:
    tensors, header = io.load_weights(file)
    del tensors["fc.bias"]
    io.save_weights(file, tensors, header)
    with pytest.raises(UserError, match=r"Missing key.*fc\.bias"):
        models.load(file)


def test_missing_truncated_and_pickled_files(file: Path, model: nn.Module) -> None:
    with pytest.raises(UserError, match=r"model not found: .*none.*dvc pull"):
        models.load(file.with_name("none"))
    data = file.read_bytes()
    for damaged in (data[: len(data) // 2], data[:4], b"", pickle.dumps({"w": 1})):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="not a readable safetensors file"):
            models.load(file)
    torch.save(model.state_dict(), file)
    with pytest.raises(UserError, match="pickles never are"):
        models.load(file)


def test_evaluating_restores_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(1).eval())
    seen = []

    def fail() -> None:
        with models.evaluating(model):
            seen.extend(m.training for m in model.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [False, False, False]
    assert [m.training for m in model.modules()] == [True, True, False]


def test_frozen_asks_for_no_gradient_and_restores_after_an_error() -> None:
    model = nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    x = torch.ones(1, 2, requires_grad=True)

    def fail() -> None:
        with models.frozen(model):
            model(x).sum().backward()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert x.grad is not None
    assert torch.equal(x.grad, model.weight)
    assert model.weight.grad is None
    assert (model.weight.requires_grad, model.bias.requires_grad) == (True, False)


def test_options_that_differ_are_named_with_their_values() -> None:
    assert models.differing(CONFIG, dataclasses.replace(CONFIG)) == ""
    other = dataclasses.replace(CONFIG, width=5, mean=(0.4,))
    assert models.differing(CONFIG, other) == "width 2, mean (0.3,)"
    assert models.differing(CONFIG, models.config_type("madry_cnn")(size=16)) == "arch resnet10"
