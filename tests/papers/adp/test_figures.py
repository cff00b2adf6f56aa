from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustgen.evaluation.plotting import STYLE
from robustgen.evaluation.statistics import paired_auc
from robustgen.papers.adp import PAPER
from robustgen.papers.adp.figures import FIGURES, network, robustness
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import ScoreDefense, Scores


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse pictures and whole fonts: subsetting fonts takes most of the time."""
    monkeypatch.setitem(STYLE, "savefig.dpi", 50)
    monkeypatch.setitem(STYLE, "pdf.fonttype", 3)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_are_those_of_the_paper() -> None:
    assert list(FIGURES) == [artifact.name for artifact in PAPER.artifacts if artifact.kind == "figure"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_without_data_says_so(name: str, bare: Measured, tmp_path: Path) -> None:
    FIGURES[name](tmp_path / name, bare)
    assert read(tmp_path / f"{name}.csv") == []
    assert (tmp_path / f"{name}.csv").read_text().count(",") > 1  # its columns stand there all the same
    with Image.open(tmp_path / f"{name}.png") as image:
        assert np.asarray(image.convert("L")).min() < 200  # there is text
    assert (tmp_path / f"{name}.pdf").exists()


def test_accuracy_against_purification_steps(right: Measured, tmp_path: Path) -> None:
    robustness.by_steps(tmp_path / "f", right)
    rows = read(tmp_path / "f.csv")
    value = {(row["model"], row["updates"], int(row["purification_steps"])): float(row["accuracy"]) for row in rows}
    assert len(value) == 20
    assert value["DSM", "deterministic", 10] == pytest.approx(0.6)
    assert value["ML", "Langevin", 1000] == pytest.approx(0.5)
    assert value["ML", "deterministic", 0] == 0
    assert all(float(row["low"]) <= float(row["accuracy"]) <= float(row["high"]) for row in rows)
    assert {row["n"] for row in rows} == {"300"}
    robustness.by_steps(tmp_path / "g", replace(right, ml_langevin=None, dsm_langevin=None))
    assert {row["updates"] for row in read(tmp_path / "g.csv")} == {"deterministic"}


def test_histograms_of_norms_are_densities(right: Measured, tmp_path: Path) -> None:
    network.norms(tmp_path / "f", right)
    rows = read(tmp_path / "f.csv")
    names = {row["images"] for row in rows}
    assert names == {"natural", "adversarial", "natural after one step", "adversarial after one step"}
    for name in names:
        bars = [row for row in rows if row["images"] == name]
        area = sum((float(bar["norm_high"]) - float(bar["norm_low"])) * float(bar["density"]) for bar in bars)
        assert area == pytest.approx(1, abs=1e-3)


def test_areas_under_the_curve_stand_above_the_norms(right: Measured) -> None:
    assert right.scores is not None
    area = paired_auc(right.scores["norm_adversarial"], right.scores["norm_natural"])
    first, second = network._areas(right.scores).splitlines()
    assert first == (f"AUC, adversarial above natural: {area.value:.3f} [{area.low:.3f}, {area.high:.3f}], n = 300")
    assert second.startswith("AUC, after one step: ")


def test_certified_accuracy_falls_with_the_radius(right: Measured, tmp_path: Path) -> None:
    robustness.certificates(tmp_path / "f", right)
    rows = read(tmp_path / "f.csv")
    assert {(row["sigma"], row["classifier"], row["certificate"]) for row in rows} == {
        (sigma, *line)
        for sigma in ("0.12", "0.25")
        for line in (("adp", "point"), ("adp", "renyi"), ("adp", "certify"), ("cohen", "point"), ("cohen", "certify"))
    }
    curves: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["sigma"] == "0.12":
            curves.setdefault((row["classifier"], row["certificate"]), []).append(float(row["accuracy"]))
    for curve in curves.values():
        assert curve == sorted(curve, reverse=True)
        assert curve[-1] == 0
    assert curves["adp", "certify"][0] == pytest.approx(0.9)
    assert curves["cohen", "certify"][0] == pytest.approx(0.8)
    pairs = zip(curves["adp", "certify"], curves["adp", "point"], strict=True)
    assert all(bound <= estimate for bound, estimate in pairs)
    methods = {row["certificate"]: row["method"] for row in rows}
    assert methods["certify"] == "n0 100, n 100, 300 images, α 0.001"
    assert "α" not in methods["point"]


def test_certificates_of_one_side_alone(right: Measured, tmp_path: Path) -> None:
    robustness.certificates(tmp_path / "f", replace(right, cohen=()))
    assert {row["classifier"] for row in read(tmp_path / "f.csv")} == {"adp"}
    robustness.certificates(tmp_path / "g", replace(right, certified=None, cohen=right.cohen[:1]))
    assert {(row["classifier"], row["sigma"]) for row in read(tmp_path / "g.csv")} == {("cohen", "0.12")}


def test_accuracy_against_eot_draws(right: Measured, tmp_path: Path, study: Callable[..., ScoreDefense]) -> None:
    robustness.by_draws(tmp_path / "f", right)
    value = {int(row["draws"]): float(row["accuracy"]) for row in read(tmp_path / "f.csv")}
    assert value == pytest.approx({1: 0.69, 2: 0.68, 5: 0.65, 15: 0.55}, abs=0.002)
    two = study("two", [(attack, 10, 0.1, h, 0.9, 0.5) for attack in ("bpda", "apgd") for h in (1, 4)])
    robustness.by_draws(tmp_path / "g", replace(right, eot=two))
    assert {row["attack"] for row in read(tmp_path / "g.csv")} == {"bpda", "apgd"}
    other = study("other", [("bpda", 10, 0.2, 4, 0.9, 0.5)])
    robustness.by_draws(tmp_path / "h", replace(right, eot=other))  # of another radius than the tables'
    assert read(tmp_path / "h.csv") == []


def test_samples_with_their_statistics(right: Measured, tmp_path: Path) -> None:
    assert right.scores is not None
    network.samples(tmp_path / "f", right)
    rows = read(tmp_path / "f.csv")
    assert len(rows) == 36
    assert float(rows[3]["mean"]) == pytest.approx(right.scores["samples"][3].mean(), rel=1e-4)
    none = {**right.scores.arrays, "samples": np.empty((0, 1, 8, 8), np.float32)}
    network.samples(tmp_path / "g", replace(right, scores=Scores("x", none)))
    assert read(tmp_path / "g.csv") == []


def test_losses_of_the_noise_levels(right: Measured, tmp_path: Path) -> None:
    assert right.scores is not None
    network.levels(tmp_path / "f", right)
    rows = read(tmp_path / "f.csv")
    assert [float(row["sigma"]) for row in rows] == pytest.approx(right.scores["levels"], rel=1e-4)
    assert [float(row["loss"]) for row in rows] == pytest.approx(right.scores["level_loss"], rel=1e-4)
