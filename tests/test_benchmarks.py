"""That the benchmark compares like with like; its times are nobody's business here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks/attacks.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_attacks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def test_all_three_make_the_same_images(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--repetitions", "2", "--widths", "2"]) == 0
    text = capsys.readouterr().out
    assert "ResNet10 w2" in text
    assert "FAILED" not in text


def test_disagreement_is_reported(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = benchmark.attacks

    def off(model: torch.nn.Module) -> dict[str, object]:
        found = dict(real(model))
        exact = found["foolbox"]
        found["foolbox"] = lambda x, y: exact(x, y) + 1e-3
        return found

    monkeypatch.setattr(benchmark, "attacks", off)
    assert benchmark.main(["--repetitions", "1", "--widths", "2"]) == 1
    assert "FAILED: adversarial images differ" in capsys.readouterr().out
