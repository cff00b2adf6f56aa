from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.stages import attack_synthesis as stage
from robustgen.stages import evaluation

from .conftest import AAE, CNN, EVERY, MIXED, PER_IMAGE, PER_POINT, PGD, Stage

STAGE = "attack-synthesis"


@pytest.mark.parametrize("base", [CNN, AAE], ids=["cnn", "aae"])
def test_batches_and_shards_do_not_matter(run: Stage, base: str) -> None:
    options = f"{base} {EVERY} --restarts 2"
    if base == AAE:
        for name, value in (("attack", "latent-descent"), ("norm", "l2"), ("eps", "1"), ("steps", "6")):
            options = options.replace(f" --{name} ", f" --{name} {value} ", 1)
        options += " --bound --inference.draws 2 --runs 2"
    whole = run(f"{options} --batch 7")
    right = whole["natural_correct"]
    assert (whole["robust"].any(1) & (whole["robust"].sum(1) < right.sum())).sum() > 4  # attacks break some
    single = run(f"{options} --batch 1")
    for name in set(whole) - {"config"}:
        same(single[name], whole[name], name)
    shards = [run(f"{options} --offset {offset} --images {count}") for offset, count in ((0, 4), (4, 3))]
    axes = {**PER_IMAGE, **PER_POINT, **({"bound": 0, "bound_reason": 0} if base == AAE else {})}
    for name, axis in axes.items():
        merged = np.concatenate([each[name] for each in shards], axis=axis)
        same(merged, whole[name], name)


def same(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    """Equal but for the last digit, in which foolbox's boundary attack rounds otherwise in another batch."""
    if found.dtype == np.float32:
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6, err_msg=name)
    else:
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_same_command_gives_the_same_file(run: Stage) -> None:
    run(f"{AAE} {MIXED}")
    first = Path("out.npz").read_bytes()
    run(f"{AAE} {MIXED}")
    assert Path("out.npz").read_bytes() == first


def test_interruption_loses_one_batch(run: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    options = f"{AAE} {MIXED} --bound"
    run(options)
    whole = Path("out.npz").read_bytes()
    Path("out.npz").unlink()
    real, asked = stage.outcome, 0

    def breaking(*args: Any) -> dict[str, np.ndarray]:
        nonlocal asked
        asked += 1
        if asked in (3, 8):
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(stage, "outcome", breaking)
    before = 3 * 3  # natural images, control and bounds of three batches
    for kept in (2, 6):
        with pytest.raises(KeyboardInterrupt):
            run(options)
        assert len(list(evaluation.FOLDER.rglob("*.npz"))) == before + kept
    assert not Path("out.npz").exists()
    run(options)
    assert Path("out.npz").read_bytes() == whole
    assert not list(evaluation.FOLDER.rglob("*.npz"))


@pytest.mark.parametrize(
    ("base", "modules"),
    [(CNN, {"models.encoder_cnn"}), (AAE, {"models.aae", "models.encoder_cnn", "models.folded", "defenses.e_abs"})],
    ids=["cnn", "aae"],
)
def test_finished_parts_belong_to_all_modules_that_make_the_network(
    run: Stage, base: str, modules: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []
    real = stage.identity

    def identity(options: Any, files: list[Path], sources: list[str]) -> dict[str, Any]:
        named.extend(sources)
        return real(options, files, sources)

    monkeypatch.setattr(stage, "identity", identity)
    run(f"{base} {PGD} --images 2")
    assert modules <= set(named)
    assert all(find_spec(f"robustgen.{name}") for name in named)
