from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustgen.evaluation.plotting import STYLE
from robustgen.papers.langevin import Defense, Purification
from robustgen.papers.stochastic_security import PAPER
from robustgen.papers.stochastic_security.figures import FIGURES, distributions, robustness, samples
from robustgen.papers.stochastic_security.study import Dynamics, Measured


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse pictures and whole fonts: subsetting fonts takes most of the time."""
    monkeypatch.setitem(STYLE, "savefig.dpi", 50)
    monkeypatch.setitem(STYLE, "pdf.fonttype", 3)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def without(found: Measured, *gone: str) -> Measured:
    assert found.dynamics is not None
    kept = {name: values for name, values in found.dynamics.arrays.items() if not name.startswith(gone)}
    return replace(found, dynamics=Dynamics("part", kept))


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


def test_samples_along_training(right: Measured, tmp_path: Path) -> None:
    assert right.dynamics is not None
    samples.training(tmp_path / "f", right)
    rows = read(tmp_path / "f.csv")
    assert [(row["update"], row["phase"], row["samples"]) for row in rows[::5]] == [
        ("100", "adam", "short"),
        ("600", "sgd", "short"),
        ("500", "sgd", "long"),
    ]
    last = right.dynamics["long_samples"][-1]
    assert float(rows[-1]["mean"]) == pytest.approx(last.mean(), rel=1e-4)
    assert float(rows[-1]["outside"]) == pytest.approx(((last > 1) | (last < 0)).mean(), rel=1e-4)


def test_borderline_and_safe_images_follow_the_rule(right: Measured) -> None:
    assert right.ours is not None
    draws = np.zeros((4, 2, 3), dtype=np.float32)
    draws[:, :, 0] = [[1, 3], [9, 11], [4, 6], [0, 2]]  # margins 2, 10, 5, and 1 of a wrong image
    study = Purification("x", {"natural_draws": draws, "labels": np.array([0, 0, 0, 2])})
    assert distributions.examples(study) == {"borderline": 0, "safe": 2}
    assert distributions.examples(Purification("x", {**study.arrays, "natural_draws": draws[:, :1]})) == {}
    assert distributions.examples(Purification("x", {**study.arrays, "labels": np.full(4, 2)})) == {}


def test_more_draws_narrow_the_logits(right: Measured, tmp_path: Path) -> None:
    distributions.logits(tmp_path / "f", right)
    rows = read(tmp_path / "f.csv")
    wrong = {(row["image"], int(row["H"])): float(row["misclassified"]) for row in rows}
    assert {h for _, h in wrong} == {1, 2, 4, 8, 16}
    assert wrong["borderline", 1] > 0.3
    assert wrong["borderline", 1] > wrong["borderline", 16] > 0
    assert wrong["safe", 16] == 0

    def spread(count: int) -> float:
        bars = [row for row in rows if (row["image"], row["H"], row["logit"]) == ("safe", str(count), "true class")]
        filled = [row for row in bars if float(row["density"]) > 0]
        return float(filled[-1]["high"]) - float(filled[0]["low"])

    assert spread(2) > spread(4) > spread(16)
    bars = [row for row in rows if (row["image"], row["H"], row["logit"]) == ("safe", "4", "runner-up")]
    area = sum((float(row["high"]) - float(row["low"])) * float(row["density"]) for row in bars)
    assert area == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("draws", "shown"), [(1, [1]), (8, [1, 2, 4, 8]), (20, [1, 2, 4, 8, 16]), (150, [1, 4, 16, 32, 128])]
)
def test_replicates_are_powers_of_two(draws: int, shown: list[int]) -> None:
    assert distributions.replicates(draws) == shown


def test_realised_logits_are_means_of_draws() -> None:
    draws = np.random.default_rng(0).normal(size=(16, 3))
    (one, first), (many, last) = distributions.realisations(draws, [1, 16])
    assert (one, many) == (1, 16)
    assert all((row == draws).all(1).any() for row in first[:20])
    np.testing.assert_allclose(last.mean(0), draws.mean(0), atol=0.05)


def test_accuracy_against_langevin_steps(right: Measured, tmp_path: Path) -> None:
    robustness.by_langevin_steps(tmp_path / "f", right)
    value = {
        (row["ebm"], row["images"], row["langevin_steps"]): float(row["accuracy"]) for row in read(tmp_path / "f.csv")
    }
    assert value["convergent", "natural", "100"] == pytest.approx(0.9)
    assert value["convergent", "BPDA+EOT", "200"] == pytest.approx(0.52)
    assert value["non-convergent", "BPDA+EOT", "100"] == pytest.approx(0.1)
    assert len(value) == 14
    assert all("H_def 16" in row["method"] for row in read(tmp_path / "f.csv") if row["langevin_steps"] != "0")


def test_samples_stand_under_the_model_they_are_from(right: Measured) -> None:
    assert right.dynamics is not None
    ours, twin = robustness._long_run(right)
    assert ours is right.dynamics["steady_ours"]
    assert twin is None
    arrays = {**right.dynamics.arrays, "steady_twin": right.dynamics["steady_jem"]}
    _, twin = robustness._long_run(replace(right, dynamics=Dynamics("x", arrays)))
    assert twin is arrays["steady_twin"]
    assert robustness._long_run(without(right, "steady")) == []
    assert robustness._strip_title(right) == "after 1000 steps from training images"


def test_a_panel_without_its_study_leaves_the_other(right: Measured, tmp_path: Path) -> None:
    robustness.by_langevin_steps(tmp_path / "a", replace(without(right, "steady"), steps_twin=None))
    assert {row["ebm"] for row in read(tmp_path / "a.csv")} == {"convergent"}
    robustness.by_radius(tmp_path / "b", replace(right, l2=None, at_linf=None, at_l2=None))
    assert {row["norm"] for row in read(tmp_path / "b.csv")} == {"L∞"}
    robustness.by_attack(tmp_path / "c", replace(right, attack_steps=None))
    assert {row["against"] for row in read(tmp_path / "c.csv")} == {"H_adv", "H_def"}


def test_accuracy_against_the_radius_begins_with_the_natural_one(right: Measured, tmp_path: Path) -> None:
    robustness.by_radius(tmp_path / "f", right)
    rows = read(tmp_path / "f.csv")
    ours = {float(r["eps"]): float(r["accuracy"]) for r in rows if (r["norm"], r["defence"][:3]) == ("L∞", "EBM")}
    assert ours == pytest.approx({0: 0.9, 0.05: 0.6, 0.1: 0.5, 0.15: 0.4})
    l2 = {row["defence"] for row in rows if row["norm"] == "L2"}
    assert len(l2) == 3
    assert all(float(row["low"]) <= float(row["accuracy"]) <= float(row["high"]) for row in rows)


def test_accuracy_against_effort(right: Measured, tmp_path: Path, point: Callable[..., Defense]) -> None:
    study = point("long", [(100, "linf", 0.1, 4, 16, 1, 0), (100, "linf", 0.0, 4, 16, 1, 1)], n=4, steps=3)
    study.arrays["broken"][0] = [True, True, True, False]
    study.arrays["broken_step"][0] = [0, 2, 3, -1]
    study.arrays["broken_restart"][0] = [0, 0, 0, -1]
    robustness.by_attack(tmp_path / "f", replace(right, attack_steps=study))
    rows = read(tmp_path / "f.csv")
    curve = [float(row["accuracy"]) for row in rows if row["defence"] == "EBM defence, BPDA+EOT"]
    assert curve == [0.75, 0.75, 0.5, 0.25]
    control = [float(row["accuracy"]) for row in rows if row["defence"].endswith("(control)")]
    assert control == [1, 1, 1, 1]
    trained = [float(row["accuracy"]) for row in rows if row["defence"].startswith("adversarial")]
    assert trained[-1] == pytest.approx(0.3)
    replicates = {(row["against"], row["at"]): float(row["accuracy"]) for row in rows if row["against"][0] == "H"}
    assert replicates == pytest.approx(
        {
            ("H_adv", "1"): 0.7,
            ("H_adv", "2"): 0.52,
            ("H_adv", "4"): 0.5,
            ("H_def", "1"): 0.3,
            ("H_def", "4"): 0.45,
            ("H_def", "16"): 0.5,
        }
    )


@pytest.mark.parametrize(("noise", "panels"), [(400.0, 2), (-48.0, 1), (-500.0, 2)])
def test_noise_far_away_has_a_panel_of_its_own(right: Measured, noise: float, panels: int, tmp_path: Path) -> None:
    assert right.dynamics is not None
    arrays = {**right.dynamics.arrays, "energy_noise": right.dynamics["energy_noise"] - 400 + noise}
    distributions.energies(tmp_path / "f", replace(right, dynamics=Dynamics("x", arrays)))
    rows = read(tmp_path / "f.csv")
    first = {name: next(row for row in rows if row["images"] == name) for name in ("natural", "uniform noise")}
    assert (first["natural"]["energy_low"] == first["uniform noise"]["energy_low"]) == (panels == 1)
    assert len({row["images"] for row in rows}) == 4


def test_energies_without_noise_and_control(right: Measured, tmp_path: Path) -> None:
    distributions.energies(tmp_path / "f", without(right, "energy_noise", "energy_perturbed"))
    assert {row["images"] for row in read(tmp_path / "f.csv")} == {"natural", "adversarial"}


def test_exponents_with_and_without_samples(right: Measured, tmp_path: Path) -> None:
    assert right.dynamics is not None
    samples.chaos(tmp_path / "f", right)
    samples.chaos(tmp_path / "g", without(right, "eta_samples"))
    rows = read(tmp_path / "f.csv")
    assert rows == read(tmp_path / "g.csv")
    means = right.dynamics["lyapunov"].mean(1)
    for separation, expected in (("1", means), ("0.1", 0.5 * means - 0.001)):
        shown = [float(row["exponent"]) for row in rows if row["separation"] == f"separation {separation} τ√D"]
        assert shown == pytest.approx(expected, rel=1e-4)
    with Image.open(tmp_path / "f.png") as wide, Image.open(tmp_path / "g.png") as narrow:
        assert wide.width > 1.4 * narrow.width


def test_exponents_at_one_separation(right: Measured, tmp_path: Path) -> None:
    samples.chaos(tmp_path / "f", without(right, "lyapunov_"))
    rows = read(tmp_path / "f.csv")
    assert {row["separation"] for row in rows} == {""}
    assert len(rows) == 6


def test_distances_name_their_features(right: Measured, tmp_path: Path) -> None:
    distributions.distances(tmp_path / "f", right)
    rows = read(tmp_path / "f.csv")
    assert {row["features"] for row in rows} == {"the classifier's penultimate layer"}
    assert [(row["ebm"], row["fid"]) for row in rows if row["langevin_steps"] in ("1000", "")] == [
        ("convergent", "10"),
        ("non-convergent", "40"),
        ("data", "1"),
    ]


def test_running_times_stand_beside_the_papers(right: Measured, tmp_path: Path) -> None:
    samples.steady_state(tmp_path / "f", right)
    rows = {row["model"]: row for row in read(tmp_path / "f.csv")}
    assert rows["ours"]["seconds_1500_steps"] == "12"
    assert rows["ours"]["paper_seconds"] == "13"
    assert rows["ours"]["paper_parameters"] == rows["ours"]["parameters"] == "693569"
    assert (rows["JEM"]["ratio"], rows["JEM"]["paper_seconds"]) == ("20", "")
    assert (rows["JEM"]["paper_ratio_from"], rows["IGEBM"]["paper_ratio_to"]) == ("20", "30")
    assert right.dynamics is not None
    arrays = {**right.dynamics.arrays, "ms_per_step_ours_autograd": np.array(16.0)}
    samples.steady_state(tmp_path / "a", replace(right, dynamics=Dynamics("x", arrays)))
    both = {row["model"]: row for row in read(tmp_path / "a.csv")}
    assert both["JEM"]["ratio"] == "10"
    assert (both["ours, plain autograd"]["ms_per_step"], both["ours, plain autograd"]["parameters"]) == ("16", "693569")
    samples.steady_state(tmp_path / "g", without(right, "ms_per_step"))
    assert read(tmp_path / "g.csv") == []
    samples.steady_state(tmp_path / "h", without(right, "steady"))
    assert len(read(tmp_path / "h.csv")) == 3
