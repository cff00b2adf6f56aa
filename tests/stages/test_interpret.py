from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustgen.io import load_arrays

OUT = "data/interpretation/tiny.npz"


@pytest.mark.usefixtures("tiny")
def test_measures_of_every_classifier() -> None:
    arrays = load_arrays(OUT)
    assert arrays["images"].shape == (5, 1, 8, 8)
    assert arrays["labels"].shape == (30,)
    for role in ("natural", "robust", "quasi_robust"):
        assert arrays[f"{role}_gradients"].shape == (5, 1, 8, 8)
        assert arrays[f"{role}_synthesis"].shape == (8, 1, 8, 8)
        assert arrays[f"{role}_synthesis"].min() >= 0
        assert arrays[f"{role}_synthesis"].max() <= 1
        assert arrays[f"{role}_judged"].shape == (12,)
        for measure in ("density", "alignment"):
            values = arrays[f"{role}_{measure}"]
            assert values.shape == (30,)
            assert ((values >= 0) & (values <= 1)).all()
        assert arrays[f"{role}_robust_correct"].sum() <= arrays[f"{role}_clean_correct"].sum()


@pytest.mark.usefixtures("tiny")
def test_batches_only_share_the_work(stage_commands: dict[str, str], succeed: Callable[[str], None]) -> None:
    succeed(f"{stage_commands[OUT]} --out own/interpretation.npz --batch 7")
    one, other = load_arrays(OUT), load_arrays("own/interpretation.npz")
    for name in ("natural_density", "robust_alignment", "robust_synthesis"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-3)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--judge models/none.safetensors", "model not found: models/none.safetensors"),
        ("--adversary.craft train", "the adversary attacks finished classifiers, in eval mode"),
        ("--data own/wide.npz", "images are 1x16x16 with 4 classes where the model needs 1x8x8"),
    ],
)
def test_what_the_user_can_mend(
    options: str,
    message: str,
    stage_commands: dict[str, str],
    fail: Callable[[str], str],
    write_data: Callable[..., Path],
) -> None:
    write_data(Path("own/wide.npz"), size=16)
    assert message in fail(f"{stage_commands[OUT]} --out own/none.npz {options}")
