from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustgen.attacks.eot import Outcome
from robustgen.errors import UserError
from robustgen.stages import evaluation
from robustgen.stages.evaluation import Store, shard


def outcome(n: int, value: int = 0) -> Outcome:
    counts, flags = np.full(n, value), np.full(n, True)
    return Outcome(
        natural_correct=flags,
        broken=flags,
        broken_step=counts,
        broken_restart=counts,
        checks=counts,
        adversarial=np.full((n, 1, 2, 2), value / 10),
    )


def test_store_keeps_what_one_identity_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.of({"seed": 1, "files": ["a"]})
    store.below("0").save(4, outcome(3, 7))
    found = Store.of({"files": ["a"], "seed": 1}).below("0").load(4)
    assert found is not None
    assert found.checks.tolist() == [7, 7, 7]
    assert found.broken.dtype == bool
    assert store.below("1").load(4) is None
    assert store.below("0").load(0) is None
    assert Store.of({"files": ["a"], "seed": 2}).below("0").load(4) is None
    store.clear()
    assert store.below("0").load(4) is None
    store.clear()  # twice does no harm


def test_store_computes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store, made = Store.of("this"), {"length": np.array([0.5, np.inf], np.float32), "broken": np.array([True, False])}
    calls: list[str] = []

    def compute() -> dict[str, np.ndarray]:
        calls.append("")
        return made

    for _ in range(2):
        found = store.all_kept("a", compute)
        assert {name: (each.dtype, each.tolist()) for name, each in found.items()} == {
            name: (each.dtype, each.tolist()) for name, each in made.items()
        }
        assert store.kept("b", lambda: compute()["broken"]).tolist() == [True, False]
    assert len(calls) == 2
    (store.folder / "a.npz").write_bytes(b"damaged")
    assert store.all_kept("a", compute)["broken"].tolist() == [True, False]
    assert len(calls) == 3


def test_shards_are_the_images_in_order(tmp_path: Path, write_data: Callable[..., Path]) -> None:
    data = write_data(tmp_path / "data.npz")
    whole = shard(data, 0, 32)
    part = shard(data, 5, 3)
    assert part.indices.tolist() == whole.indices[5:8].tolist()
    assert part.labels.tolist() == whole.labels[5:8].tolist()
    assert (part.images == whole.images[5:8]).all()
    assert part.classes == whole.classes
    with pytest.raises(UserError, match="holds 32 test images, not the 33"):
        shard(data, 30, 3)


def test_long_attack_reports(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 3.0, 11.0, 12.0, 30.0])
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: next(clock))
    report = evaluation.Report("shard 1/2")
    for step in range(4):
        report(0, step, 7 - step)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "shard 1/2: restart 0, step 1, 6 of the batch unbroken",
        "shard 1/2: restart 0, step 3, 4 of the batch unbroken",
    ]
