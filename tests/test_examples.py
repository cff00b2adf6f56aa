"""Every example runs as its docstring says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_own_model_prints_accuracy_and_detection_under_each_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "own_model.py"), run_name="__main__")
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[1:]}
    accuracy = {name: float(words[1]) for name, words in lines.items()}
    assert accuracy["none"] > 90
    assert accuracy["PGD"] < 20
    assert accuracy["HE-PGD"] < 20
    assert float(lines["none"][-1]) == 0.5  # natural images against themselves
