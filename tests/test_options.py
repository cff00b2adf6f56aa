from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import tyro

from robustgen.options import ADDED, Ratio, recorded


@dataclass(frozen=True)
class Options:
    eps: Ratio = 8 / 255


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.25", 0.25), ("0", 0.0), ("1e-3", 1e-3), ("3", 3.0)]
)
def test_fractions_are_exact(text: str, value: float) -> None:
    assert tyro.cli(Options, args=["--eps", text]).eps == value


@pytest.mark.parametrize("text", ["8/0", "nan", "inf", "x", "1/2/3", "8/", "1.5/x"])
def test_what_is_no_number_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tyro.cli(Options, args=["--eps", text])
    assert caught.value.code == 2
    assert "--eps" in capsys.readouterr().err


def test_help_shows_how_to_write_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(Options, args=["--help"])
    assert "FLOAT|A/B" in capsys.readouterr().out


@dataclass(frozen=True)
class Inner:
    steps: int = 3
    norm: str = field(default="linf", metadata=ADDED)


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    milestones: tuple[int, ...] = (1, 2)
    seed: int | None = None
    gamma: float = field(default=0.1, metadata=ADDED)


def test_added_options_leave_no_trace_at_their_default() -> None:
    assert recorded(Outer()) == {"inner": {"steps": 3}, "milestones": (1, 2), "seed": None}
    changed = recorded(Outer(Inner(norm="l2"), gamma=0.2))
    assert changed == {"inner": {"steps": 3, "norm": "l2"}, "milestones": (1, 2), "seed": None, "gamma": 0.2}


def test_added_options_have_help_like_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert tyro.cli(Outer, args=["--gamma", "0.5", "--inner.norm", "l2"]) == Outer(Inner(norm="l2"), gamma=0.5)
    with pytest.raises(SystemExit):
        tyro.cli(Outer, args=["--help"])
    assert "(default: 0.1)" in capsys.readouterr().out
