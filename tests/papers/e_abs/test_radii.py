"""Which grid point of PGD stands for a radius."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.radii import over_shared_radii, pgd_points, pgd_words
from robustgen.papers.e_abs.study import AttackStudy

Made = Callable[..., AttackStudy]


@pytest.fixture
def made(measured: Measured, altered: Made) -> Made:
    """A study of so many points of L∞ PGD with these columns."""

    def study(**columns: Any) -> AttackStudy:
        base = measured.curve.models["E-ABS"]
        count = len(columns["eps"])
        rows = {name: base.arrays[name][:count] for name in ("norm", "attack", "steps", "restarts", "draws", "robust")}
        return altered(base, **{**rows, **columns})

    return study


def test_radii_are_compared_at_the_strongest_settings_that_all_have(made: Made) -> None:
    study = made(eps=[0.1, 0.1, 0.05, 0.05], norm=["linf"] * 4, steps=[30, 20, 20, 10], restarts=[2, 1, 1, 1])
    assert pgd_points(study, "linf") == {0.05: 2, 0.1: 1}
    assert pgd_words((study, point) for point in pgd_points(study, "linf").values()) == (
        "20 steps, 1 random start, 5 EOT samples"
    )
    assert pgd_points(study, "l2") == {}


def test_without_common_settings_each_radius_has_its_strongest(made: Made) -> None:
    study = made(eps=[0.1, 0.1, 0.05, 0.0], norm=["linf"] * 4, steps=[30, 40, 20, 20])
    points = pgd_points(study, "linf")
    assert points == {0.05: 2, 0.1: 1}
    assert pgd_words((study, point) for point in points.values()).startswith("20 or 40 steps")


def test_models_share_radii_up_to_their_last_digits(made: Made) -> None:
    one = made(eps=[0.1, 0.2, 0.3], norm=["linf"] * 3)
    two = made(eps=[0.3 * (1 + 1e-9), 0.1], norm=["linf"] * 2)
    assert over_shared_radii({"one": one, "two": two}, "linf") == {
        "one": {0.1: 0, 0.3: 2},
        "two": {0.1: 1, 0.3: 0},
    }
    assert over_shared_radii({}, "linf") == {}


def test_models_that_draw_nothing_have_no_samples(measured: Measured) -> None:
    cnn = measured.curve.models["CNN"]
    assert pgd_words([(cnn, int(np.flatnonzero(cnn.arrays["norm"] == "l2")[0]))]) == "80 steps, 5 random starts"
