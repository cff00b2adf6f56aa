from __future__ import annotations

import pytest

from robustgen.papers.words import named, pixels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"),
        (1 / 255, "1/255"),
        (16 / 255, "16/255"),
        (0.031, "0.031"),
        (8 / 256, "0.03125"),
        (0.1, "0.1"),
        (0.0, "0"),
        (1.0, "1"),
        (128 / 255, "0.502"),
    ],
)
def test_lengths_in_pixels(value: float, text: str) -> None:
    assert pixels(value) == text


def test_data_sets_as_people_write_them() -> None:
    assert named("fashion-mnist") == "Fashion-MNIST"
    assert named("mnist32") == "MNIST 32×32"
    assert named("mine") == "mine"
