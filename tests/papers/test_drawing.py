from __future__ import annotations

import numpy as np

from robustgen.papers import drawing


def test_mosaic_sets_images_in_rows_and_clips_them() -> None:
    images = np.stack([np.full((1, 4, 4), value) for value in (-1.0, 0.5, 2.0)])
    picture = drawing.mosaic(images, columns=2, rows=2)
    assert picture.shape == (9, 9, 3)
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[0, 5].tolist() == [0.5, 0.5, 0.5]
    assert picture[5, 0].tolist() == [1, 1, 1]
    assert picture[4].min() == picture[:, 4].min() == 1  # the gap
    colour = np.zeros((1, 3, 2, 2))
    colour[0, 0] = 1
    assert drawing.mosaic(colour, 1)[0, 0].tolist() == [1, 0, 0]


def test_ticks_of_a_logarithmic_axis_keep_apart() -> None:
    assert drawing.spread_out([0, 1, 2, 4, 100, 110, 120]) == [0, 1, 2, 4, 120]
    assert drawing.spread_out([5]) == [5]


def test_snapshots_are_thinned_evenly() -> None:
    assert drawing.thinned(3, 8) == [0, 1, 2]
    assert drawing.thinned(9, 3) == [0, 4, 8]
