"""Pictures in rows and columns, and titles wrapped around numbers."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robustgen.papers import tiles


def test_tiles_stand_in_rows_and_columns() -> None:
    pictures = np.stack([np.full((3, 1, 4, 4), value, np.float16) for value in (0.0, 0.5)])
    axes = Figure().subplots()
    tiles.tiles(axes, pictures, ["a", "b"], ["x", "y", "z"], framed=np.eye(2, 3, dtype=bool))
    (shown,) = axes.images
    array = np.asarray(shown.get_array())
    assert array.shape == (11, 18, 3)
    assert array[7:, :4].tolist() == np.full((4, 4, 3), 0.5).tolist()
    assert array[4:7].min() == 1  # the gap
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(frames) == 2
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_xlim()[0] < min(patch.get_x() for patch in frames)  # frames are not cut off
    low, high = sorted(axes.get_ylim())
    assert low < min(patch.get_y() for patch in frames)
    assert high > max(patch.get_y() + patch.get_height() for patch in frames)


def test_titles_are_wrapped_around_numbers_and_their_units() -> None:
    text = "PGD: L2 eps 0.25, 7 updates of 0.03; trained with L2 eps 0.5, 1 update of 0.1"
    for inches in (1.2, 1.6, 2.0, 9.0):
        lines = [line.replace(tiles.UNBROKEN, " ") for line in tiles.wrapped(text, inches).split("\n")]
        assert " ".join(lines) == text
        for words in ("eps 0.25", "7 updates of 0.03", "eps 0.5", "1 update of 0.1"):
            assert any(words in line for line in lines)
