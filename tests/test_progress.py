from __future__ import annotations

import itertools
import re
import sys

import pytest

from robustgen import progress


def test_log_of_a_long_loop_tells_time_and_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = itertools.count(step=4)  # seconds a look at the clock
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    assert list(progress.progress(range(7), total=7, label="train", unit="image")) == list(range(7))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "train: 3/7 image, 12.0 s, 0.25 image/s",
        "train: 6/7 image, 24.0 s, 0.25 image/s",
        "train: 7/7 image, 28.0 s, 0.25 image/s",
    ]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)


def test_short_loop_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.progress("abc", total=3, label="short")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress.progress(range(3), total=3, label="train")) == [0, 1, 2]
    assert "train" in capsys.readouterr().err
