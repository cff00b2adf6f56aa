from __future__ import annotations

from dataclasses import dataclass

import pytest
import tyro

from robustgen.options import Ratio


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
