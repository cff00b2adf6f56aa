from __future__ import annotations

import pytest

from robustgen.errors import UserError
from robustgen.training.divergence import Band

BAND = Band(width=2.0, restarts=2)


@pytest.mark.parametrize("values", [(0.0,), (-2.0,), (2.0, 1e30), (1.0, 0.0, -5.0)])
def test_sound(values: tuple[float, ...]) -> None:
    assert BAND.holds(*values)


@pytest.mark.parametrize(
    "values", [(2.1,), (-3.0,), (float("nan"),), (float("inf"),), (0.0, float("nan")), (0.0, 1.0, float("-inf"))]
)
def test_diverged(values: tuple[float, ...]) -> None:
    assert not BAND.holds(*values)


def test_restarts_are_counted_and_end_with_advice() -> None:
    assert BAND.restart(0, "x diverged", "lower y") == 1
    assert BAND.restart(1, "x diverged", "lower y") == 2
    with pytest.raises(UserError, match=r"^x diverged, after 2 restarts from the last good state; lower y$"):
        BAND.restart(2, "x diverged", "lower y")
    with pytest.raises(UserError, match="after 0 restarts"):
        Band(width=1, restarts=0).restart(0, "x", "y")


@pytest.mark.parametrize("wrong", [{"width": 0.0}, {"width": float("nan")}, {"restarts": -1}])
def test_bands_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="a band needs"):
        Band(**{"width": 1.0, "restarts": 1, **wrong})  # type: ignore[arg-type]
