"""Figures 4, 6, 7, 13 to 16, 18 to 21: images and densities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from robustgen.errors import UserError
from robustgen.papers.gat.figures import densities, generated, images, shared
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import Synthesis
from robustgen.papers.tiles import UNBROKEN

Rows = list[dict[str, str]]


def test_targeted_perturbations_of_every_pair_of_classes(table: Callable[[str], Rows]) -> None:
    rows = table("figure4")
    assert len(rows) == 2 * 4 * 8
    assert {row["model"] for row in rows} == {"detectors", "softmax"}
    assert [float(row["l2_distance"]) for row in rows] == pytest.approx([0.5] * 64, abs=0.002)  # of the L∞ setting
    assert all(row["settings"].startswith("L∞ eps 0.15, ") for row in rows)
    like = [row["judged"] == row["target"] for row in rows if row["model"] == "softmax"]
    assert np.mean(like) == 0.25


def test_the_share_of_look_alikes_is_of_other_classes_images(whole: Measured) -> None:
    study = whole.mnist.synthesis_softmax
    assert study is not None
    shown = images._targeted_title("softmax", study, 0).replace(UNBROKEN, " ")
    assert "takes it for the class: 25 % [10, 47] of other classes' images" in shown  # 6 of 24


def test_one_of_two_models_is_enough(
    without: Callable[..., Measured], tmp_path: Path, read: Callable[[Path], Rows]
) -> None:
    images.mnist(tmp_path / "f", without("mnist", synthesis=None))
    assert {row["model"] for row in read(tmp_path / "f.csv")} == {"softmax"}
    generated.beside_softmax(tmp_path / "g", without("cifar", synthesis=None))
    assert {row["model"] for row in read(tmp_path / "g.csv")} == {generated.SOFTMAX}
    generated.noise(tmp_path / "h", without("cifar", synthesis_softmax=None))
    assert {row["model"] for row in read(tmp_path / "h.csv")} == {"detectors"}


def test_changes_of_one_length_are_of_the_l2_setting(table: Callable[[str], Rows]) -> None:
    rows = table("figure13")
    assert [row["model"] for row in rows[::8]] == [
        "natural classifier",
        "detectors, small radius",
        "detectors, large radius",
    ]
    assert {row["target"] for row in rows} == {"0"}
    assert [float(row["l2_distance"]) for row in rows] == pytest.approx([3.0] * 24, abs=0.01)


def test_changes_of_different_images_are_not_compared(
    without: Callable[..., Measured], made: Callable[..., Synthesis], tmp_path: Path
) -> None:
    other = made("tuned-small", per_class=1)
    with pytest.raises(UserError, match=r"'natural' and 'tuned-small' differ in images; make both"):
        images.same_length(tmp_path / "f", without("cifar", synthesis_small=other))


def test_models_that_were_not_run_are_named(without: Callable[..., Measured], whole: Measured) -> None:
    study = whole.cifar.synthesis
    assert study is not None
    shown = images._moved_title({"detectors, large radius": study}, 0, ["natural classifier"])
    assert shown.endswith("not run at this scale: natural classifier")


def test_settings_of_a_norm_are_the_last_of_it(made: Callable[..., Synthesis]) -> None:
    study = made("x")
    assert (images.setting_of(study, "linf"), images.setting_of(study, "l2")) == (0, 1)
    only = Synthesis("y", {**study.arrays, "shift_norm": np.array(["linf", "linf"])})
    assert images.setting_of(only, "l2") == 1


def test_generated_images_and_what_they_look_like(
    whole: Measured, table: Callable[[str], Rows], tmp_path: Path, read: Callable[[Path], Rows]
) -> None:
    rows = table("figure7")
    assert len(rows) == 2 * 4 * 6
    share = {
        name: np.mean([row["judged"] == row["target"] for row in rows if row["model"] == name])
        for name in ("detectors", generated.SOFTMAX)
    }
    assert share == {"detectors": 1, generated.SOFTMAX: pytest.approx(2 / 6)}
    assert {row["model"] for row in table("figure14")} == {"detectors of Figures 6 and 7 stand in"}
    assert whole.cifar.synthesis is not None
    wide = replace(whole, cifar=replace(whole.cifar, synthesis_wide=whole.cifar.synthesis))
    generated.widest(tmp_path / "h", wide)
    assert {row["model"] for row in read(tmp_path / "h.csv")} == {"detectors"}


def test_dogs_of_one_class_from_models_of_one_and_of_many(table: Callable[[str], Rows]) -> None:
    rows = table("figure15")
    assert [row["model"] for row in rows[-12::6]] == ["detector dog-002", "detector dog-03"]
    assert {row["target"] for row in rows} == {"0"}  # softmax has others besides
    assert len(table("figure18")) == 6
    assert len(table("figure16")) == 8


def test_noise_with_its_logits(table: Callable[[str], Rows]) -> None:
    rows = table("figure19")
    assert len(rows) == 2 * 4 * 3
    assert [(row["updates"], float(row["logit"])) for row in rows[:3]] == [("0", -5), ("50", 2), ("100", 9)]
    assert all(0.2 < float(row["sd"]) < 0.4 for row in rows)


@pytest.mark.parametrize("name", ["figure4", "figure6", "figure7", "figure13", "figure14", "figure15", "figure16",
                                  "figure18", "figure19"])  # fmt: skip
def test_models_say_what_they_were_trained_against(name: str, table: Callable[[str], Rows]) -> None:
    trained = {row["model"]: row["settings"] for row in table(name)}
    for model, words in trained.items():
        rule = "Adam on δ, " if "detector" in model else ""  # a classifier's adversary has one rule alone
        assert f"trained with L∞ eps 0.1, {rule}10 updates of 0.025" in words


def test_titles_say_so_too(whole: Measured) -> None:
    study = whole.mnist.synthesis
    assert study is not None
    assert "trained with L∞ eps 0.1" in images._targeted_title("detectors", study, 0).replace(UNBROKEN, " ")


@pytest.mark.parametrize(
    ("n", "ticks"), [(300, ["0", "1", "10", "100"]), (80, ["0", "2", "5", "10", "20", "50", "100"])]
)
def test_the_axis_of_rare_events_has_a_place_for_none(n: int, ticks: list[str]) -> None:
    axes = Figure().subplots()
    shared.rare_axis(axes, n, "FPR")
    assert axes.get_xlim()[0] < 0
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ticks


def test_densities_on_a_line(table: Callable[[str], Rows]) -> None:
    rows = table("figure20")
    assert len(rows) == 2 * 2 * 21
    gat = [row for row in rows if (row["training"], row["seed"]) == ("gat", "0")]
    assert sum(float(row["estimate"]) for row in gat) / 21 == pytest.approx(1, abs=1e-3)
    for row in gat:
        assert float(row["estimate"]) == pytest.approx(float(row["target"]), rel=1e-3)
    assert {row["estimate"] for row in rows if row["training"] == "natural"} == {"1"}


def test_densities_in_the_plane(table: Callable[[str], Rows]) -> None:
    rows = table("figure21")
    assert [(row["problem"], row["training"], row["total_variation"]) for row in rows] == [
        (problem, *kind) for problem in ("ring", "spirals") for kind in (("gat", "0.01"), ("natural", "0.5"))
    ]
    assert float(rows[0]["positives_above_half"]) > 0.9 > float(rows[0]["negatives_above_half"])
    assert rows[0]["settings"].startswith("eps 0.3")
    assert "eps" not in rows[1]["settings"]  # ordinary training has no adversary


def test_values_at_points_are_those_of_their_cells() -> None:
    axis = np.array([0.25, 0.75])
    points = np.array([[0.1, 0.9], [0.6, 0.2], [2.0, 2.0]])
    assert densities.at(np.array([[0, 1], [2, 3]]), axis, points).tolist() == [1, 2, 3]
    assert densities.sigmoid(np.array([-1e4, 0, 1e4])).tolist() == [0, 0.5, 1]
