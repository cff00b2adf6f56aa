from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustgen.training.checkpoint import Checkpoint


def network(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A small network after three Adam steps."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.arange(12.0).view(4, 3)).square().sum().backward()
    optimizer.step()


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_nothing_to_restore(tmp_path: Path) -> None:
    model, optimizer = network(0)
    assert Checkpoint("x", tmp_path).restore({"model": model}, optimizer) is None


def test_training_goes_on_where_it_was(tmp_path: Path) -> None:
    model, optimizer = network(0)
    best, _ = network(1)
    facts = {"curve": [{"epoch": 1, "loss": 0.1}]}
    Checkpoint({"a": 1}, tmp_path).save({"model": model, "best": best}, optimizer, facts)
    fresh, fresh_optimizer = network(2)
    fresh_best, _ = network(3)
    found = Checkpoint({"a": 1}, tmp_path).restore({"model": fresh, "best": fresh_best}, fresh_optimizer)
    assert found == facts
    assert equal(fresh_best, best)
    for _ in range(3):
        step(model, optimizer)
        step(fresh, fresh_optimizer)
    assert equal(fresh, model)


def test_further_tensors_travel_too(tmp_path: Path) -> None:
    model, optimizer = network(0)
    wanted = {"bank": torch.rand(5, 2), "snapshot/1": torch.arange(3)}
    checkpoint = Checkpoint("x", tmp_path)
    checkpoint.save({"model": model}, optimizer, {"n": 1}, wanted)
    found: dict[str, torch.Tensor] = {}
    assert checkpoint.restore({"model": model}, optimizer, found) == {"n": 1}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert checkpoint.restore({"model": model}, optimizer) == {"n": 1}  # who has no use for them may leave them


@pytest.mark.parametrize("identity", [{"a": 2}, {"a": 1, "b": None}, {}, {"a": "1"}])
def test_another_training_has_another_file(tmp_path: Path, identity: Any) -> None:
    assert Checkpoint(identity, tmp_path).path != Checkpoint({"a": 1}, tmp_path).path


def test_identity_is_independent_of_order_and_may_hold_paths(tmp_path: Path) -> None:
    one = Checkpoint({"a": 1, "b": Path("x")}, tmp_path).path
    assert one == Checkpoint({"b": Path("x"), "a": 1}, tmp_path).path


@pytest.mark.parametrize("data", [b"", b"garbage", None], ids=["empty", "garbage", "truncated"])
def test_damaged_checkpoint_counts_as_none(tmp_path: Path, data: bytes | None) -> None:
    model, optimizer = network(0)
    checkpoint = Checkpoint("x", tmp_path)
    checkpoint.save({"model": model}, optimizer, {})
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-20] if data is None else data)
    fresh, fresh_optimizer = network(1)
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    assert checkpoint.restore({"model": fresh}, fresh_optimizer) is None
    assert all(torch.equal(value, before[key]) for key, value in fresh.state_dict().items())
    assert not checkpoint.path.exists()


def test_clear_forgets_and_may_be_repeated(tmp_path: Path) -> None:
    model, optimizer = network(0)
    checkpoint = Checkpoint("x", tmp_path)
    checkpoint.save({"model": model}, optimizer, {})
    for _ in range(2):
        checkpoint.clear()
        assert list(tmp_path.iterdir()) == []
