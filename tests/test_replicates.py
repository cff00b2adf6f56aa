from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robustgen.errors import UserError
from robustgen.replicates import Parts, check_finite, check_logits, joined, rewinding
from robustgen.seeding import ImageStreams


def test_parts_are_halved_until_they_fit_and_stay_so() -> None:
    tried: list[int] = []

    def double(rows: slice) -> Tensor:
        part = torch.arange(11)[rows]
        tried.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return 2 * part

    parts = Parts("doubling", "take fewer")
    assert parts.hold(11)
    assert joined(parts.run(double, 11)).tolist() == list(range(0, 22, 2))
    assert tried == [11, 5, 2, 2, 2, 2, 2, 1]
    assert not parts.hold(3)
    tried.clear()
    parts.run(double, 11)
    assert tried == [2, 2, 2, 2, 2, 1]


def test_no_memory_for_one_row_says_what_to_do() -> None:
    def fail(rows: slice) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(UserError, match=r"^out of memory doubling; take fewer$"):
        Parts("doubling", "take fewer").run(fail, 5)


def test_streams_are_set_back_only_where_memory_ran_out() -> None:
    streams, expected = ImageStreams(0, range(3)), ImageStreams(0, range(3)).normal((4,))

    @rewinding(streams)
    def fail() -> None:
        streams.normal((2,))
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        fail()
    with rewinding(streams):
        torch.testing.assert_close(streams.normal((4,)), expected)
    assert not torch.equal(streams.normal((4,)), expected)


def test_logits_must_be_finite() -> None:
    logits = torch.zeros(3, 2, 4)
    check_logits(logits)
    logits[1, 0, 2] = torch.nan
    message = "^the defence's logits are NaN or infinite for 1 of 3 images: its purification diverged; lower its step"
    with pytest.raises(UserError, match=message):
        check_logits(logits)


def test_values_that_are_not_finite_are_counted_by_image() -> None:
    values = torch.zeros(4, 2, 3)
    check_finite(values, "scores", "; mend them")
    values[0], values[3, 1, 2] = torch.inf, torch.nan
    with pytest.raises(UserError, match=r"^the scores are NaN or infinite for 2 of 4 images; mend them$"):
        check_finite(values, "scores", "; mend them")
