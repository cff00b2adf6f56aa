from __future__ import annotations

import torch

from robustgen.training.passes import Passes


def test_passes_go_through_all_rows_before_they_repeat() -> None:
    rows = torch.tensor([3, 5, 8, 9, 11])
    taken = torch.cat([Passes(rows, 0, "x", 1).take(first, 4) for first in range(0, 20, 4)])  # in any order of calls
    passes = taken.view(4, 5)
    assert all(torch.equal(one.sort().values, rows) for one in passes)
    assert len({tuple(one.tolist()) for one in passes}) > 1
    assert torch.equal(Passes(rows, 0, "x", 1).take(0, 20), taken)  # a batch may be longer than a pass
    assert not torch.equal(Passes(rows, 0, "x", 2).take(0, 20), taken)
