"""That the benchmarks compare like with like; their times are nobody's business here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor


def load(name: str) -> Iterator[ModuleType]:
    """The script benchmarks/<name>.py as a module."""
    path = Path(__file__).parents[1] / f"benchmarks/{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_of_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def attacks() -> Iterator[ModuleType]:
    yield from load("attacks")


@pytest.fixture(scope="module")
def langevin() -> Iterator[ModuleType]:
    yield from load("langevin")


def test_all_three_make_the_same_images(attacks: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert attacks.main(["--repetitions", "2", "--widths", "2"]) == 0
    text = capsys.readouterr().out
    assert "ResNet10 w2" in text
    assert "FAILED" not in text


def test_disagreement_is_reported(
    attacks: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = attacks.attacks

    def off(model: torch.nn.Module) -> dict[str, object]:
        found = dict(real(model))
        exact = found["foolbox"]
        found["foolbox"] = lambda x, y: exact(x, y) + 1e-3
        return found

    monkeypatch.setattr(attacks, "attacks", off)
    assert attacks.main(["--repetitions", "1", "--widths", "2"]) == 1
    assert "FAILED: adversarial images differ" in capsys.readouterr().out


QUICK = ["--networks", "quick", "--repetitions", "2", "--device", "cpu"]


def test_both_loops_take_the_same_steps(langevin: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert langevin.main(QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("quick")] == [
        ["quick", "plain"],
        ["quick", "robustgen"],
        ["quick", "in"],  # bfloat16
    ]


def test_other_steps_are_reported(
    langevin: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = langevin.ours

    def off(*args: object) -> Callable[[Tensor, int, float], Tensor]:
        sampler = real(*args)
        return lambda v, steps, eta: sampler(v, steps - 1, eta)

    monkeypatch.setattr(langevin, "ours", off)
    assert langevin.main([*QUICK, "--repetitions", "1"]) == 1
    assert "FAILED: without noise, states differ" in capsys.readouterr().out


def test_orders_alternate(langevin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    known = {name: (lambda v, steps, eta, name=name: order.append(name) or 2 * v) for name in ("plain loop", "x", "y")}
    monkeypatch.setattr(langevin, "samplers", lambda config, device: known)
    found = langevin.compare(langevin.NETWORKS["quick"], 25, 2, torch.device("cpu"))
    assert order[3:] == ["plain loop", "x", "y", "y", "x", "plain loop"]
    assert {name: len(seconds) for name, seconds in found.seconds.items()} == dict.fromkeys(known, 2)


def test_rates(langevin: ModuleType) -> None:
    found = langevin.Result({"plain loop": [4.0, 2.0], "x": [1.0, 2.0]}, 10, 0.0)
    assert (found.rate("x"), found.ratio("x"), found.paired("x")) == (10, 2, 2.5)


def test_operations_are_those_of_the_convolutions(langevin: ModuleType) -> None:
    """Two operations for a weight at a place of the map forward, and two for the gradient of the layer's input."""
    places = 9 * 8 * 16**2 + 16 * 8 * 16 * 8**2 + 16 * 16 * 32 * 4**2 + 16 * 32
    assert langevin.step_flops(langevin.NETWORKS["quick"]) == 2 * 100 * 2 * places


def test_noise_is_drawn_in_whole_pieces(langevin: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        langevin.main(["--steps", "30"])
    assert "multiple of 25" in capsys.readouterr().err


@pytest.fixture(scope="module")
def adp() -> Iterator[ModuleType]:
    yield from load("adp")


def test_algorithm_1_and_the_batched_purification_agree(adp: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert adp.main(["--images", "2", "--draws", "2", "--steps", "2"]) == 0
    assert "2 of 2 predictions equal" in capsys.readouterr().out
    far = adp.Result(1.0, 3.0, 2 * adp.TOLERANCE, 0.0, 2, 2)
    assert not far.agrees()
    assert far.ratio == 3


@pytest.fixture(scope="module")
def gat() -> Iterator[ModuleType]:
    yield from load("gat")


def test_one_network_computes_what_ten_do(
    gat: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gat.ASKED, "quick", (0.0, 0.0))
    monkeypatch.setattr(gat, "BATCH", 8)
    assert gat.main(["--repetitions", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    ways = (gat.OURS, gat.LOOP, gat.LAID, gat.SINGLE)
    assert [line[:24].strip() for line in lines if line.startswith(ways)] == list(ways)
    assert "FAILED" not in "".join(lines)


def test_other_gradients_and_slow_ways_are_reported(
    gat: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = gat.gradients_together
    monkeypatch.setitem(gat.ASKED, "quick", (1e9, 0.0))
    monkeypatch.setattr(gat, "BATCH", 8)
    monkeypatch.setattr(gat, "gradients_together", lambda *args: [2 * g for g in real(*args)])
    assert gat.main(["--repetitions", "1"]) == 1
    text = capsys.readouterr().out
    assert "FAILED: gradients differ by more than 1e-09" in text
    assert "FAILED: inference is" in text
    assert "FAILED: an update" not in text


def test_what_fails_in_the_comparison_of_detectors(gat: ModuleType) -> None:
    seconds = {gat.OURS: 1.0, gat.LOOP: 4.0}
    assert gat.Result(seconds, seconds, 0.0, 0.0).ratios == (4, 4)
    assert gat.Result(seconds, seconds, 0.0, 0.0).failures((3, 2)) == []
    assert len(gat.Result(seconds, seconds, float("nan"), float("nan")).failures((3, 6))) == 3


@pytest.fixture(scope="module")
def e_abs() -> Iterator[ModuleType]:
    yield from load("e_abs")


BRIEF = ["--repetitions", "1", "--images", "3", "--candidates", "60"]


def test_ten_decoders_infer_what_one_network_does(
    e_abs: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(e_abs.ASKED, "quick", (0.0, 0.0))
    assert e_abs.main(BRIEF) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:16].strip() for line in lines if line.startswith((e_abs.OURS, e_abs.LOOP))] == [
        e_abs.OURS,
        e_abs.LOOP,
    ]


def test_other_losses_and_slow_inference_are_reported(
    e_abs: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = e_abs.Single.decode
    monkeypatch.setitem(e_abs.ASKED, "quick", (1e9, 0.0))
    monkeypatch.setattr(e_abs.Single, "decode", lambda self, z: real(self, z) + 1e-6)
    assert e_abs.main(BRIEF) == 1
    text = capsys.readouterr().out
    assert "FAILED: losses differ by more than 1e-08" in text
    assert "FAILED: inference is" in text
    assert "FAILED: scoring" not in text
