"""The made scale with pictures of digits, and its figures, drawn once."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.evaluation.plotting import STYLE
from robustgen.papers.e_abs.figures import FIGURES
from robustgen.papers.e_abs.measured import Comparison, Measured
from robustgen.papers.e_abs.study import AttackStudy

DOTS = 100  # an inch; as the layout is computed with, so that text is as large as it reckoned
CLASSES, SHOWN = 10, 12  # more shown than a figure has room for
Altered = Callable[..., AttackStudy]
Rows = list[dict[str, str]]


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse pictures and whole fonts: subsetting fonts takes most of the time."""
    monkeypatch.setitem(STYLE, "savefig.dpi", DOTS)
    monkeypatch.setitem(STYLE, "pdf.fonttype", 3)


def pictured(altered: Altered, study: AttackStudy, channels: int, size: int, unit: float) -> AttackStudy:
    """The study with twelve images shown, every third of them broken by a change of length 1 at most, and an example
    of each of ten classes whose losses are least for its own, of the first class for the second.
    """
    random = np.random.default_rng(0)
    n, shape = len(study.labels), (channels, size, size)
    images = random.uniform(0.3, 0.7, (SHOWN, *shape)).astype(np.float32)
    moved = random.choice([-1.0, 1.0], (study.points, SHOWN, *shape)) / np.sqrt(np.prod(shape))
    labels = np.arange(n) % CLASSES
    robust = study.arrays["robust"].copy()
    robust[:, :SHOWN] = np.arange(SHOWN) % 3 > 0
    predicted = np.where(robust[:, :SHOWN], labels[:SHOWN], (labels[:SHOWN] + 1) % CLASSES)
    losses = unit * (5 + random.random((CLASSES, CLASSES)) - 4 * np.eye(CLASSES))
    losses[0, 1] = 0.5 * unit
    arrays = {
        "labels": labels,
        "robust": robust,
        "shown": np.arange(SHOWN),
        "shown_images": images,
        "shown_adversarial": (images + moved).astype(np.float32),
        "shown_predicted": predicted,
    }
    if study.has_examples:
        arrays |= {
            "example_rows": np.arange(CLASSES),
            "example_images": random.random((CLASSES, *shape)).astype(np.float32),
            "example_reconstructions": random.random((CLASSES, CLASSES, *shape)).astype(np.float32),
            "example_losses": losses.astype(np.float32),
        }
    return altered(study, **arrays)


def with_pictures(altered: Altered, section: Comparison, channels: int, size: int, unit: float = 1.0) -> Comparison:
    roles = ("cnn", "adv_linf", "adv_l2", "abs", "e_abs")
    studies: dict[str, Any] = {role: pictured(altered, getattr(section, role), channels, size, unit) for role in roles}
    return replace(section, **studies)


@pytest.fixture(scope="session")
def whole(measured: Measured, altered: Altered) -> Measured:
    """A scale that has everything: grey digits of 16×16, coloured images of 32×32 with a mean for their loss."""
    return replace(
        measured,
        mnist=with_pictures(altered, measured.mnist, 1, 16),
        svhn=with_pictures(altered, replace(measured.svhn, dataset="SVHN"), 3, 32, unit=0.003),
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture
def drawn(whole: Measured, folder: Path) -> Callable[[str], Path]:
    """Draws a figure of the made scale, once, and tells its path without the suffix."""

    def draw(name: str) -> Path:
        if not (folder / f"{name}.csv").exists():
            FIGURES[name](folder / name, whole)
        return folder / name

    return draw


@pytest.fixture
def table(drawn: Callable[[str], Path]) -> Callable[[str], Rows]:
    """The rows of such a figure's CSV."""
    return lambda name: rows_of(Path(f"{drawn(name)}.csv"))


@pytest.fixture
def redrawn(tmp_path: Path) -> Callable[[str, Measured], Rows]:
    """Draws a figure of another scale, and tells the rows of its CSV."""

    def draw(name: str, found: Measured) -> Rows:
        FIGURES[name](tmp_path / name, found)
        return rows_of(tmp_path / f"{name}.csv")

    return draw


def rows_of(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
