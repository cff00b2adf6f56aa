"""Figures 3, 5, 8 to 12: curves, logits and histories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustgen.evaluation.statistics import proportion
from robustgen.papers.gat import PAPER
from robustgen.papers.gat.figures import FIGURES, detection, histories, logits
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import Detection, Synthesis

DOTS = 100  # an inch
EPS = 0.1  # the trained radius
Rows = list[dict[str, str]]


def test_figures_are_those_of_the_paper() -> None:
    assert list(FIGURES) == [artifact.name for artifact in PAPER.artifacts if artifact.kind == "figure"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_without_data_says_so(name: str, bare: Measured, tmp_path: Path, read: Callable[[Path], Rows]) -> None:
    FIGURES[name](tmp_path / name, bare)
    assert read(tmp_path / f"{name}.csv") == []
    assert (tmp_path / f"{name}.csv").read_text().count(",") > 1  # its columns stand there all the same
    with Image.open(tmp_path / f"{name}.png") as image:
        assert np.asarray(image.convert("L")).min() < 200  # there is text
    assert (tmp_path / f"{name}.pdf").exists()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_everything_fits_its_page(
    name: str, drawn: Callable[[str], Path], table: Callable[[str], Rows]
) -> None:
    path = drawn(name)
    assert table(name)
    assert Path(f"{path}.pdf").stat().st_size > 1000
    with Image.open(f"{path}.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[1] <= 11 * DOTS
    assert min(pixels[0].min(), pixels[:, 0].min(), pixels[:, -1].min(), pixels[-1].min()) > 200  # nothing is cut off


def test_curves_of_detection(table: Callable[[str], Rows]) -> None:
    rows = table("figure3")
    lines = {(row["panel"], row["detection"], row["attack"], row["eps"]) for row in rows}
    assert ("detection", "integrated", "classifier", "0.1") in lines
    assert ("detection", "generative", "multi-generative", "0.1") in lines
    assert not any(attack in ("ce", "cw") for _, _, attack, _ in lines)
    assert {(eps, way) for panel, way, attack, eps in lines if panel == "classification" and attack == "worst"} == {
        (eps, way) for eps in ("0.1", "0.2") for way in ("integrated", "generative", "softmax")
    }
    for line in lines:
        curve = [
            r for r in rows if r["drawn"] == "curve" and (r["panel"], r["detection"], r["attack"], r["eps"]) == line
        ]
        for column in ("natural", "attacked"):
            values = [float(row[column]) for row in curve]
            assert values == sorted(values)  # thresholds fall
        assert all(float(row["low"]) <= float(row["attacked"]) <= float(row["high"]) for row in curve)
    blind = [float(row["attacked"]) for row in rows if row["attack"] == "classifier" and float(row["natural"]) < 1]
    assert blind
    assert max(blind) == 0  # it hugs the axis


def test_points_stand_where_the_studys_thresholds_are(whole: Measured, table: Callable[[str], Rows]) -> None:
    study = whole.mnist.detection
    assert study is not None
    points = [row for row in table("figure3") if row["drawn"] == "point" and row["detection"] != "softmax"]
    assert len(points) == 7 + 2 * 4
    for row in points:
        way, eps = row["detection"], float(row["eps"])
        passed = study.passing(way, eps, None if row["attack"] == "worst" else row["attack"])
        expected = proportion(int(passed.sum()), len(passed))
        found = [float(row[end]) for end in ("attacked", "low", "high")]
        assert found == pytest.approx([expected.value, expected.low, expected.high], rel=1e-4)


def test_the_softmax_rival_is_a_cross(table: Callable[[str], Rows]) -> None:
    crosses = [row for row in table("figure3") if row["detection"] == "softmax"]
    assert [(row["eps"], row["natural"], row["attacked"]) for row in crosses] == [
        ("0.1", "0.95", "0.25"),
        ("0.2", "0.95", "0.5"),
    ]


def test_curves_of_losses_are_of_generative_detection(table: Callable[[str], Rows]) -> None:
    rows = table("figure8")
    assert {(row["detection"], row["attack"]) for row in rows} == {("generative", a) for a in ("detector", "ce", "cw")}
    assert {row["panel"] for row in rows} == {"detection", "classification"}
    assert {row["eps"] for row in rows} == {"0.1"}


def test_every_curve_tells_the_steps_of_its_attacks(
    whole: Measured, without: Callable[..., Measured], tmp_path: Path, read: Callable[[Path], Rows]
) -> None:
    study = whole.mnist.detection
    assert study is not None
    multi = np.char.startswith(study.arrays["attack"], "multi")
    own = {"steps": np.where(multi, 250, 100), "alpha": np.where(multi, 0.004, 0.01)}
    detection.mnist(tmp_path / "f", without("mnist", detection=Detection("own", {**study.arrays, **own})))
    told = {row["attack"]: row["settings"] for row in read(tmp_path / "f.csv") if row["detection"] != "softmax"}
    assert "100 updates of 0.01," in told["combined17"]
    assert "250 updates" not in told["combined17"]
    assert "250 updates of 0.004, best of 1 random start, seed 0, towards every wrong class" in told["multi-generative"]
    assert "100 updates of 0.01," in told["worst"]
    assert "; L∞ eps 0.2, Adam on δ, 250 updates of 0.004," in told["worst"]
    curves = detection._attacks(study, EPS)
    assert detection._settings(study, EPS, curves) == study.settings(EPS)
    title = detection._settings(Detection("own", {**study.arrays, **own}), EPS, curves)
    assert title == f"{study.settings(EPS)}; multi-targeted: 250 updates of 0.004"


def test_attacks_that_were_not_made_are_left_out(
    whole: Measured, without: Callable[..., Measured], tmp_path: Path, read: Callable[[Path], Rows]
) -> None:
    study = whole.mnist.detection
    assert study is not None
    kept = np.flatnonzero(study.arrays["attack"] == "detector")
    names = ("attack", "norm", "eps", "steps", "alpha", "classifier_logits", "detector_logits")
    few = Detection("few", {**study.arrays, **{name: study.arrays[name][kept] for name in names}})
    found = without("mnist", detection=few)
    detection.mnist(tmp_path / "f", found)
    attacks = {row["attack"] for row in read(tmp_path / "f.csv")}
    assert attacks == {"detector", "worst"}
    detection.mnist_losses(tmp_path / "g", found)
    assert {row["attack"] for row in read(tmp_path / "g.csv")} == {"detector"}


def test_shares_that_reach_a_threshold() -> None:
    values = np.array([3.0, -np.inf, 1.0, 2.0])
    assert detection.falling(values, np.array([4, 3, 1.5, -9])).tolist() == [0, 0.25, 0.5, 0.75]
    thresholds = detection.levels(np.array([1.0, 2.0, -np.inf]), np.array([7.0, -np.inf]))
    assert thresholds.tolist() == [8, 2, 1, -1]
    assert np.isfinite(detection.levels(np.full(3, -np.inf), np.full(3, -np.inf))).all()


def test_histograms_hold_the_images_of_the_class(whole: Measured, table: Callable[[str], Rows]) -> None:
    study = whole.mnist.synthesis
    assert study is not None
    rows = table("figure9")
    counts: dict[tuple[str, ...], int] = {}
    for row in rows:
        key = (row["model"], row["class"], row["images"])
        counts[key] = counts.get(key, 0) + int(row["count"])
        assert counts[key] <= int(row["n"])
    assert counts["detectors", "0", "natural"] == (study.labels == 0).sum() == 10
    assert counts["detectors", "0", "perturbed"] == 6  # two images of each of the three other classes
    assert counts["softmax", "all", "perturbed"] == 24
    own = logits.made_logits(study, "shifted", 1)
    assert own.tolist() == study["shifted_logits"][0, 1, [0, 1, 4, 5, 6, 7], 1].tolist()
    assert len(logits.made_logits(study, "generated", None)) == 24


def test_one_model_alone_and_no_natural_images(
    without: Callable[..., Measured],
    made: Callable[..., Synthesis],
    tmp_path: Path,
    read: Callable[[Path], Rows],
) -> None:
    logits.generated(tmp_path / "f", without("cifar", synthesis_softmax=None))
    assert {row["model"] for row in read(tmp_path / "f.csv")} == {"detectors"}
    study = made("bare")
    arrays = {**study.arrays, "natural": study["natural"][:0], "labels": study.labels[:0]}
    lone = without("cifar", synthesis=Synthesis("bare", arrays), synthesis_softmax=None)
    logits.generated(tmp_path / "g", lone)
    assert read(tmp_path / "g.csv") == []


def test_histories_of_all_detectors_are_kept(
    table: Callable[[str], Rows], without: Callable[..., Measured], tmp_path: Path, read: Callable[[Path], Rows]
) -> None:
    rows = table("figure12")
    assert len(rows) == 2 * 2 * 4 * 5
    wanted = ("large radius", "0", "validation, attacked", "400")
    (last,) = [row for row in rows if (row["model"], row["detector"], row["images"], row["update"]) == wanted]
    assert float(last["auc"]) == pytest.approx(0.92)
    assert {row["settings"] for row in rows} == {"tuned-small", "tuned-large"}  # their banks were not attacked
    histories.training(tmp_path / "g", without("cifar", small_curve=None))
    assert {row["model"] for row in read(tmp_path / "g.csv")} == {"large radius"}


def test_histories_and_logits_say_what_was_trained_against(
    right: Measured, table: Callable[[str], Rows], tmp_path: Path, read: Callable[[Path], Rows]
) -> None:
    histories.training(tmp_path / "f", right)
    assert all(row["settings"].startswith("trained with L∞ eps") for row in read(tmp_path / "f.csv"))
    for name in ("figure9", "figure11"):
        assert all("; trained with L∞ eps 0.1" in row["settings"] for row in table(name))
