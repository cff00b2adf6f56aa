from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from robustgen.attacks.synthesis import ATTACKS
from robustgen.errors import UserError
from robustgen.stages.synthesis_points import Found, Point

ENTRY = {"attack": "pgd", "norm": "linf", "eps": 0.2, "restarts": 3, "draws": 5}
POINT = Point.of(ENTRY)
SEARCH = Point.of({**ENTRY, "attack": "deepfool"})
RIGHT = np.array([True, True, True, False])
SHOWN = np.array([0, 2, 3])
IMAGES = np.zeros((3, 1, 2, 2), np.float32)


def found(restarts: int = 3) -> Found:
    return Found(RIGHT, SHOWN, IMAGES, restarts)


def take(made: Found, restart: int, *outcomes: tuple[int, float, float, bool], judged: bool | None = None) -> None:
    """Row, distance, seen and chosen of images, the pixels of those that are shown as large as the distance.

    What is chosen is broken, or all are as `judged`.
    """
    rows, distance, seen, chosen = (np.array(each) for each in zip(*outcomes, strict=True))
    broken = chosen if judged is None else np.full_like(chosen, judged)
    pixels = np.tile(distance[np.isin(rows, SHOWN), None, None, None], (1, 1, 2, 2))
    kinds = {"distance": distance, "seen": seen, "chosen": chosen, "broken": broken, "adversarial": pixels}
    made.take(restart, rows, kinds)


def test_points_that_differ_in_what_a_run_ignores_share_it() -> None:
    assert replace(POINT, restarts=7).run == POINT.run
    assert replace(POINT, eps=0.3).run != POINT.run
    assert replace(SEARCH, eps=0.3).run == SEARCH.run
    others = [replace(SEARCH, **change) for change in ({"norm": "l2"}, {"steps": 3}, {"draws": 1})]  # type: ignore[arg-type]
    assert len({str(point.run) for point in (POINT, replace(POINT, eps=0.3), SEARCH, *others)}) == 6


def test_what_is_left_out_is_resolved() -> None:
    assert POINT.steps == ATTACKS["pgd"].steps
    assert Point.of({**ENTRY, "steps": 7}).steps == 7
    assert POINT.used(random=True) == POINT
    assert POINT.used(random=False) == replace(POINT, draws=1)
    assert SEARCH.used(random=True) == replace(SEARCH, restarts=1)
    assert [POINT.starts, SEARCH.starts, replace(POINT, eps=0.0).starts] == [3, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": "fgsm"}, "unknown attack 'fgsm'"),
        ({"attack": "cw"}, "cw is an attack in l2, not linf"),
        ({"eps": -1.0}, "eps >= 0 and restarts >= 1, not -1 and 3"),
        ({"eps": math.nan}, "eps >= 0 and restarts >= 1, not nan and 3"),
        ({"restarts": 0}, "eps >= 0 and restarts >= 1, not 0.2 and 0"),
    ],
)
def test_what_is_no_point(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Point.of({**ENTRY, **change})


def test_restarts_go_on_with_what_stands() -> None:
    made = found()
    assert made.standing(0).tolist() == [0, 1, 2]
    take(made, 0, (0, 0.1, 0.1, False), (1, 0.2, math.inf, True))
    take(made, 0, (2, 0.15, math.inf, False))
    assert made.standing(1).tolist() == [0, 2]
    take(made, 1, (0, 0.2, math.inf, False), (2, 0.05, 0.05, True))
    assert made.standing(2).tolist() == [0]
    take(made, 2, (0, 0.12, 0.12, True))
    judged = [made.at(replace(POINT, restarts=count)) for count in (1, 2, 3)]
    assert [each["robust"].tolist() for each in judged] == [
        [True, False, True, False],
        [True, False, False, False],
        [False] * 4,
    ]
    assert [each["seen"].tolist() for each in judged] == [
        [True, False, False, True],
        [True, False, True, True],
        [True, False, True, True],
    ]
    for each, distance in zip(judged, ([0.1, 0.2, 0.15, 0], [0.1, 0.2, 0.05, 0], [0.12, 0.2, 0.05, 0]), strict=True):
        np.testing.assert_allclose(each["distance"], distance)
        assert each["distance"].dtype == np.float32
        np.testing.assert_allclose(each["shown_adversarial"][:, 0, 0, 0], np.array(distance)[SHOWN])


def test_search_is_judged_by_its_distance() -> None:
    made = found(1)
    take(made, 0, (0, 0.3, 0.1, True), (1, math.inf, 0.4, False), (2, math.inf, math.inf, False))
    for eps, robust, seen in ((0.05, [1, 1, 1, 0], [0, 0, 0, 1]), (0.2, [1, 1, 1, 0], [1, 0, 0, 1])):
        judged = made.at(replace(SEARCH, eps=eps))
        assert judged["robust"].tolist() == robust
        assert judged["seen"].tolist() == seen
    wide = made.at(replace(SEARCH, eps=0.5))
    assert wide["robust"].tolist() == [False, True, True, False]
    assert wide["seen"].tolist() == [True, True, False, True]
    np.testing.assert_allclose(wide["distance"], [0.3, math.inf, math.inf, 0])


def test_an_image_is_judged_once_however_many_restarts_found_an_error() -> None:
    made = found()
    take(made, 0, (0, 0.1, 0.1, True), (1, 0.2, math.inf, False), judged=False)
    take(made, 1, (1, 0.2, 0.2, True), judged=False)
    take(made, 0, (2, 0.15, math.inf, False), judged=True)  # by chance
    take(made, 1, (2, 0.15, math.inf, False), judged=False)
    judged = made.at(POINT)
    assert judged["chosen"].tolist() == [True, True, False, True]
    assert judged["robust"].tolist() == [True, True, False, False]
    assert made.standing(2).tolist() == [2]
