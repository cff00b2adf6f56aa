"""Figures 3 to 5, McNemar's matrices, reconstructions, and bounds beside the nearest errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from robustgen.evaluation.statistics import holm, mcnemar, proportion
from robustgen.papers.e_abs import PAPER
from robustgen.papers.e_abs.figures import FIGURES, curves, distances, examples, matrices, reconstructions
from robustgen.papers.e_abs.measured import Bounded, Comparison, Measured
from robustgen.papers.e_abs.study import AttackStudy

DOTS = 100  # an inch
Rows = list[dict[str, str]]
Altered = Callable[..., AttackStudy]
Table = Callable[[str], Rows]
Redrawn = Callable[[str, Measured], Rows]


def in_linf(study: AttackStudy) -> np.ndarray:
    return study.arrays["norm"] == "linf"


def test_figures_are_those_of_the_paper() -> None:
    assert list(FIGURES) == [artifact.name for artifact in PAPER.artifacts if artifact.kind == "figure"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_without_data_says_so(name: str, bare: Measured, tmp_path: Path, redrawn: Redrawn) -> None:
    assert redrawn(name, bare) == []
    assert (tmp_path / f"{name}.csv").read_text().count(",") > 1  # its columns stand there all the same
    with Image.open(tmp_path / f"{name}.png") as image:
        assert np.asarray(image.convert("L")).min() < 200  # there is text
    assert (tmp_path / f"{name}.pdf").exists()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_everything_fits_its_page(name: str, drawn: Callable[[str], Path], table: Table) -> None:
    path = drawn(name)
    assert table(name)
    assert Path(f"{path}.pdf").stat().st_size > 1000
    with Image.open(f"{path}.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[1] <= 11 * DOTS
    assert min(pixels[0].min(), pixels[:, 0].min(), pixels[:, -1].min(), pixels[-1].min()) > 200  # nothing is cut off


@pytest.mark.parametrize("name", ["figure3", "figure4"])
def test_a_figure_is_the_same_twice(name: str, whole: Measured, drawn: Callable[[str], Path], tmp_path: Path) -> None:
    FIGURES[name](tmp_path / name, whole)
    for suffix in (".png", ".pdf", ".csv"):
        assert Path(f"{drawn(name)}{suffix}").read_bytes() == (tmp_path / f"{name}{suffix}").read_bytes()


def test_curves_begin_at_natural_images_and_have_exact_bands(whole: Measured, table: Table) -> None:
    rows = table("figure3")
    assert len(rows) == 2 * 5 * 5
    for name, study in whole.curve.models.items():
        for norm, radii in (("linf", (0.05, 0.1, 0.2, 0.5)), ("l2", (0.5, 1.5, 3.0, 6.0))):
            mine = [row for row in rows if (row["model"], row["norm"]) == (name, norm)]
            assert [float(row["eps"]) for row in mine] == [0, *radii]
            points = [study.point(attack="pgd", norm=norm, eps=eps) for eps in radii]
            for row, right in zip(mine, [study.natural, *map(study.robust, points)], strict=True):
                expected = proportion(int(right.sum()), len(right))
                found = [float(row[end]) for end in ("accuracy", "low", "high")]
                assert found == pytest.approx([expected.value, expected.low, expected.high], rel=1e-4)
                assert row["n"] == "400"
            assert mine[0]["method"] == "natural images"
            assert mine[-1]["method"] == study.method(points[-1])


def test_a_curve_of_one_norm_and_few_models(
    whole: Measured, only: Callable[..., AttackStudy], redrawn: Redrawn
) -> None:
    few = Comparison(dataset="digits", abs=only(whole.curve.abs, in_linf), e_abs=only(whole.curve.e_abs, in_linf))
    rows = redrawn("figure3", replace(whole, curve=few))
    assert {(row["norm"], row["model"]) for row in rows} == {("linf", "ABS"), ("linf", "E-ABS")}


def test_a_title_tells_the_settings_of_every_radius(whole: Measured, altered: Altered) -> None:
    """Of other radii, too, than the strongest attack's."""
    cnn, axes = whole.curve.models["CNN"], Figure().subplots()
    other = altered(cnn, steps=np.where(cnn.arrays["eps"] == 0.05, 40, 80))
    curves._panel(axes, "digits", "linf", {**whole.curve.models, "CNN": other})
    assert axes.get_title().endswith("n = 400\n40 or 80 steps, 5 random starts, 5 EOT samples")


def test_ticks_leave_each_other_room() -> None:
    axes = Figure().subplots()
    curves._radius_axis(axes, "linf", [0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 32 / 255])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "4/255", "8/255", "32/255"]


def test_adversarial_examples_are_the_first_that_were_right(whole: Measured, table: Table) -> None:
    for name, section in (("figure4", whole.mnist), ("figure5", whole.svhn)):
        study = section.e_abs
        assert study is not None
        rows = table(name)
        assert [int(row["index"]) for row in rows] == study.indices[:10].tolist()
        assert [row["error"] for row in rows] == ["1" if k % 3 == 0 else "0" for k in range(10)]
        for row in rows:
            assert (row["predicted"] != row["label"]) == (row["error"] == "1")
            assert float(row["l2_length"]) == pytest.approx(1, rel=1e-3)
            assert row["method"] == study.method(study.point(attack="pgd", norm="l2", eps=1.5))
            assert row["dataset"] == section.dataset


def test_changes_are_enlarged_alike_and_as_far_as_they_fit() -> None:
    change = np.array([[0.1, -0.2], [0.0, 0.05]])
    assert examples.enlargement(change) == pytest.approx(2.5)
    assert examples.enlargement(0.1 * change) == pytest.approx(25)
    assert examples.enlargement(4 * change) == pytest.approx(0.62)
    assert examples.enlargement(0 * change) == 1
    for scale in np.linspace(0.01, 5, 50):
        largest = examples.enlargement(scale * change) * scale * 0.2
        assert 0.4 < largest <= 0.5 + 1e-6


def test_pgd_of_another_radius_is_not_shown(whole: Measured, altered: Altered, redrawn: Redrawn) -> None:
    study = whole.mnist.e_abs
    assert study is not None
    other = altered(study, eps=np.where(study.arrays["attack"] == "pgd", study.arrays["eps"], 0.7))
    assert redrawn("figure4", replace(whole, mnist=replace(whole.mnist, e_abs=other)))
    moved = np.where(study.arrays["attack"] == "pgd", "cw", study.arrays["attack"])
    assert redrawn("figure4", replace(whole, mnist=replace(whole.mnist, e_abs=altered(other, attack=moved)))) == []


def test_no_image_shown_no_picture(whole: Measured, altered: Altered, redrawn: Redrawn) -> None:
    study = whole.mnist.e_abs
    assert study is not None
    none = altered(study, shown=np.zeros(0, np.int64))
    assert redrawn("figure4", replace(whole, mnist=replace(whole.mnist, e_abs=none))) == []


def test_every_decoder_shows_its_loss(whole: Measured, table: Table) -> None:
    rows = table("reconstructions")
    assert len(rows) == 2 * 2 * 10 * 10
    assert {(row["dataset"], row["model"]) for row in rows} == {
        (dataset, model) for dataset in ("digits 16×16", "SVHN") for model in ("E-ABS", "ABS")
    }
    study = whole.svhn.abs
    assert study is not None
    mine = [row for row in rows if (row["dataset"], row["model"]) == ("SVHN", "ABS")]
    for row in mine:
        image, decoder = int(row["index"]) - int(study.indices[0]), int(row["decoder"])
        assert float(row["loss"]) == pytest.approx(study["example_losses"][image, decoder], rel=1e-4)
        apart = study["example_reconstructions"][image, decoder].astype(float) - study["example_images"][image]
        assert float(row["l2_distance"]) == pytest.approx(np.linalg.norm(apart), rel=1e-4)
    least = {row["label"]: row["decoder"] for row in mine if row["least"] == "1"}
    assert least == {**{str(k): str(k) for k in range(10)}, "0": "1"}


def test_reconstructions_of_one_model_alone(whole: Measured, redrawn: Redrawn) -> None:
    section = replace(whole.mnist, abs=None)
    rows = redrawn("reconstructions", replace(whole, mnist=section, svhn=Comparison()))
    assert {(row["dataset"], row["model"]) for row in rows} == {("digits 16×16", "E-ABS")}


def test_losses_are_short() -> None:
    assert [reconstructions.short(value) for value in (0.123, 7.5, 42.42, 345.6)] == ["0.12", "7.50", "42.4", "346"]
    for middle, factor in ((12.0, 1), (1.0, 1), (0.03, 100), (0.5, 10), (0.0, 1)):
        assert reconstructions.unit(np.array([middle])) == factor


def test_matrices_hold_the_tests_of_every_pair(whole: Measured, table: Table) -> None:
    rows = table("mcnemar-matrices")
    assert len(rows) == 4 * 3 * 10
    right = whole.mnist.correct("All L2")
    mine = [row for row in rows if (row["dataset"], row["attacks"]) == ("digits 16×16", "All L2")]
    raw = [mcnemar(right[row["first"]], right[row["second"]]) for row in mine]
    assert [float(row["p"]) for row in mine] == pytest.approx(raw, rel=1e-4)
    assert [float(row["p_holm"]) for row in mine] == pytest.approx(holm(raw).tolist(), rel=1e-4)
    for row in mine:
        first, second = (right[row[name]] for name in ("first", "second"))
        assert float(row["difference"]) == pytest.approx(first.mean() - second.mean())
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
        assert (row["significant"] == "1") == (float(row["p_holm"]) < 0.01)
    natural = [row for row in rows if (row["dataset"], row["attacks"]) == ("digits 16×16", "Clean")]
    assert {row["significant"] for row in natural} == {"0", "1"}


def test_matrices_of_few_models_and_one_norm(
    whole: Measured, only: Callable[..., AttackStudy], redrawn: Redrawn
) -> None:
    pair = Comparison(dataset="few", abs=only(whole.mnist.abs, in_linf), e_abs=only(whole.mnist.e_abs, in_linf))
    single = Comparison(dataset="one", e_abs=whole.svhn.e_abs)
    found = Measured(scale="quick", mnist=pair, svhn=single)
    rows = redrawn("mcnemar-matrices", found)
    assert [(row["dataset"], row["attacks"]) for row in rows] == [("few", "Clean"), ("few", "All L∞")]
    assert redrawn("mcnemar-matrices", Measured(scale="quick", svhn=single)) == []


def test_p_values_are_short_and_marked() -> None:
    assert [matrices.short(p) for p in (1.0, 0.04, 0.005, 2e-5, 1e-9)] == ["1.00", "0.04", "5e−3", "2e−5", "<1e−6"]
    a, b = np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool)
    assert matrices._cell(a, b, 0.5, place=1) == ("0.50", "black")
    assert matrices._cell(a, b, 1e-5, place=1) == ("1e−5", "white")
    assert matrices._cell(a, a, None, place=0)[0] == "75.0"
    assert matrices._cell(b, a, None, place=-1)[0] == "−50.0"


def test_significant_cells_alone_are_framed(whole: Measured) -> None:
    axes = Figure().subplots()
    matrices._matrix(axes, whole.mnist, "Clean")
    significant = [p for p in whole.mnist.tested("Clean").values() if p < matrices.LEVEL]
    assert 0 < len(axes.patches) == len(significant) < math.comb(5, 2)


def nearer(altered: Altered, study: AttackStudy | None) -> AttackStudy:
    """The first image's nearest error is below its bound, found by CW; the second has none, the third is one itself."""
    assert study is not None
    assert study.bound is not None
    point, distance = study.point(attack="cw", norm="l2"), study.arrays["distance"].copy()
    natural, robust = study.natural.copy(), study.arrays["robust"].copy()
    distance[point, 0] = study.bound[0] / 2
    distance[:, 1] = np.inf
    robust[:, 1] = True
    natural[2] = robust[:, 2] = False
    return altered(study, distance=distance, natural_correct=natural, robust=robust)


def test_dots_below_the_diagonal_are_told(measured: Measured, altered: Altered, redrawn: Redrawn) -> None:
    section = replace(measured.mnist, e_abs=nearer(altered, measured.mnist.e_abs))
    rows = redrawn("bound-distances", Measured(scale="quick", mnist=section))
    assert [row["model"] for row in rows] == ["ABS"] * 400 + ["E-ABS"] * 400
    first, second, third, *others = (row for row in rows if row["model"] == "E-ABS")
    assert (first["below"], first["by"]) == ("1", "CW")
    assert float(first["nearest"]) == pytest.approx(float(first["bound"]) / 2, rel=1e-4)
    assert (second["nearest"], second["by"], second["below"]) == ("", "", "0")
    assert (third["nearest"], third["by"], third["below"]) == ("", "", "0")
    assert {row["below"] for row in others} == {"0"}
    assert [row["bound"] for row in others if row["reason"] == "misclassified"] == [""] * 4
    assert {float(row["bound"]) for row in others if row["reason"] == "too near another class"} == {0}


@pytest.mark.parametrize(
    ("role", "label", "title"),
    [
        ("abs", "below the bound", "exact inference: 1 below it"),
        (
            "e_abs",
            "below ε*, of variational inference",
            "variational, outside the assumptions: 1 image below",
        ),
    ],
)
def test_every_image_with_a_bound_is_drawn_once(
    role: str, label: str, title: str, measured: Measured, altered: Altered
) -> None:
    study, axes = nearer(altered, getattr(measured.mnist, role)), Figure().subplots()
    distances._panel(axes, Bounded("MNIST", "digits", "any", study))
    assert study.bound is not None
    drawn = {line.get_label(): len(line.get_xdata()) for line in axes.get_lines()}
    assert drawn[label] == 1
    assert drawn["none found, at the top"] >= 1
    dots = sum(count for name, count in drawn.items() if name != "radius of the tables")
    assert dots == (np.nan_to_num(study.bound) > 0).sum() - 1  # without the one that is an error itself
    assert title in axes.get_title()


def test_bounds_of_the_ablation_stand_beside_their_data_set(measured: Measured) -> None:
    lines = [[(each.dataset, each.name) for each in line] for line in distances.by_line(measured)]
    assert [len(line) for line in lines] == [2, 2, 2, 3]
    assert lines[-1][-1] == ("digits 16×16", "AD-ABS")
    alone = distances.by_line(replace(measured, ablation=replace(measured.ablation, dataset="others")))
    assert [(each.dataset, each.name) for each in alone[-1]] == [("others", "AD-ABS")]


def test_bounds_of_one_model_alone(measured: Measured, redrawn: Redrawn) -> None:
    rows = redrawn("bound-distances", Measured(scale="quick", mnist=replace(measured.mnist, abs=None)))
    assert {row["model"] for row in rows} == {"E-ABS"}
