from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from robustgen.evaluation.plotting import figure, show_image


def draw(path: Path) -> None:
    with figure(path, 3, 2) as made:
        grey, colour = made.subplots(1, 2)
        show_image(grey, np.linspace(0, 1, 16).reshape(1, 4, 4))
        show_image(colour, np.linspace(0, 1, 48).reshape(3, 4, 4))
        grey.set_title("σ ≤ 1")


def test_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    draw(tmp_path / "a")
    draw(tmp_path / "b")
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (480, 320)
    assert dict(mpl.rcParams) == before


def test_failure_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with figure(tmp_path / "a", 3, 2):
            raise RuntimeError("drawing failed")

    with pytest.raises(RuntimeError, match="drawing failed"):
        fail()
    assert not list(tmp_path.iterdir())
