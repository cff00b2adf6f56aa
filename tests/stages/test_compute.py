from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from robustgen import models
from robustgen.errors import UserError
from robustgen.stages.compute import Compute, chosen, prepare, sources


@pytest.fixture(autouse=True)
def _one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU, as far as torch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_settings_that_make_results_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    assert prepare(Compute(threads=1)) == "cpu"
    assert torch.get_num_threads() == 1
    assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.deterministic


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0"])
def test_devices(device: str) -> None:
    assert prepare(Compute(device=device)) == device


def test_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cuda:1 was asked for, but there are 1 GPUs"):
        prepare(Compute(device="cuda:1"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no GPU; use --device cpu or a GPU node"):
        prepare(Compute(device="cuda"))


@pytest.mark.parametrize("device", ["gpu", "", "cuda:first", "mps"])
def test_unknown_device(device: str) -> None:
    with pytest.raises(UserError, match="unknown device"):
        prepare(Compute(device=device))


def test_option_read_ahead_of_the_parse() -> None:
    assert chosen(["--a", "1", "--attack.name", "pgd"], "--attack.name", "x") == "pgd"
    assert chosen(["--attack.name=fgsm"], "--attack.name", "x") == "fgsm"
    assert chosen(["--attack.name"], "--attack.name", "x") == "x"
    assert chosen([], "--attack.name", "x") == "x"


@pytest.mark.parametrize(
    ("arch", "modules"),
    [
        ("resnet10", ["models.resnet10"]),
        ("encoder_cnn", ["models.encoder_cnn"]),
        ("aae", ["models.aae", "models.encoder_cnn"]),
    ],
)
def test_modules_that_make_a_network(arch: str, modules: list[str]) -> None:
    found = sources(models.build(models.config_type(arch)()))
    assert found == modules
    assert all(find_spec(f"robustgen.{name}") for name in found)
