"""The renderer of Ju & Wagner 2020; its scale is made by tests/papers/e_abs."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustgen.errors import UserError
from robustgen.evaluation.plotting import STYLE
from robustgen.evaluation.rows import load_claims, load_coverage, load_rows
from robustgen.io import load_json, save_arrays, save_csv
from robustgen.papers.e_abs import PAPER
from robustgen.papers.e_abs import measured as m
from robustgen.papers.e_abs.loading import CURVE
from robustgen.papers.e_abs.study import GRID, PER_POINT, AttackStudy
from robustgen.papers.manifest import load_manifests, verify
from robustgen.stages.e_abs import (
    Ablation,
    Comparison,
    GradientFree,
    Options,
    Sensitivity,
    Sweeps,
    measured,
    run,
)

OUT = Path("results/quick/e-abs")
MODELS = ("cnn", "adv_linf", "adv_l2", "abs", "e_abs")
VARIANTS = ("abs", "a", "d", "v", "ad", "av", "dv", "adv")


def comparison(name: str, dataset: str = "digits16") -> Comparison:
    return Comparison(dataset=dataset, **{model: f"{name}-{model}" for model in MODELS})


NO_ROLES = ("dataset", "natural", "labels")  # what in a section names no study
SECTIONS: dict[str, Any] = {
    "mnist": comparison("mnist"),
    "fashion_mnist": comparison("fashion", "fashion-mnist"),
    "supertraffic": comparison("traffic", "supertraffic10"),
    "svhn": comparison("svhn"),
    "ablation": Ablation(dataset="digits16", **{name: f"ablation-{name}" for name in VARIANTS}),
    "curve": comparison("curve"),
    "sweeps": Sweeps(dataset="digits16", eot="eot", restarts="restarts", steps="steps"),
    "gradient_free": GradientFree(dataset="digits16", study="gradient-free"),
    "sensitivity": Sensitivity(
        dataset="digits16",
        studies=tuple(f"sensitivity-{k}" for k in range(5)),
        labels=("as everywhere", "cost: mean", "follow 0", "5 samples", "100 iterations"),
    ),
}


def options(root: Path, **changes: Any) -> Options:
    given = {"attacks": root / "attacks", "curves": root / "curves", **SECTIONS, "scale": "quick", "out": root / OUT}
    return Options(**{**given, **changes})


@pytest.fixture(scope="module", autouse=True)
def _small_files() -> Iterator[None]:
    """Coarse pictures and whole fonts: subsetting fonts takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STYLE, "savefig.dpi", 70)
        patch.setitem(STYLE, "pdf.fonttype", 3)
        yield


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """tests/papers/e_abs/conftest.py."""
    spec = importlib.util.spec_from_file_location("made_e_abs", Path(__file__).parents[1] / "papers/e_abs/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def studies(found: m.Measured) -> list[AttackStudy]:
    """Every study of a scale."""
    sections: list[Any] = [value for each in fields(found) if is_dataclass(value := getattr(found, each.name))]
    values = [getattr(section, each.name) for section in sections for each in fields(section)]
    flat = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
    return [each for each in flat if isinstance(each, AttackStudy)]


def write(found: m.Measured, root: Path) -> None:
    """The studies of `found` as the stage writes them, and a training curve for every autoencoder."""
    for each in studies(found):
        save_arrays(root / "attacks" / f"{each.name}.npz", each.arrays)
        if each.config["arch"] == "aae":
            save_csv(root / "curves" / f"{each.model}.csv", CURVE, [(0.5,), (0.875,), (0.75,)])


@pytest.fixture(scope="module")
def results(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all results of the scale in which the paper is right."""
    root = tmp_path_factory.mktemp("scale")
    write(made.make(made.World()), root)
    run(options(root))
    return root


def test_every_artifact_is_written(results: Path) -> None:
    for artifact in PAPER.artifacts:
        suffixes = (".csv", ".md") if artifact.kind == "table" else (".csv", ".png", ".pdf")
        assert all((results / OUT / f"{artifact.name}{suffix}").stat().st_size > 0 for suffix in suffixes)
        if artifact.kind == "figure":
            with Image.open(results / OUT / f"{artifact.name}.png") as image:
                assert min(image.size) > 90
            with (results / OUT / f"{artifact.name}.csv").open() as file:
                assert list(csv.DictReader(file)), artifact.name
        else:
            assert load_rows(results / OUT / f"{artifact.name}.csv")
    assert load_coverage(results / OUT / "coverage.csv")
    verify(results / "results/quick", PAPER.slug, load_manifests(results / "results/quick")[PAPER.slug])


def test_headline_agrees_with_tables_and_claims(results: Path) -> None:
    headline = load_json(results / OUT / "headline.json")
    cells = {(row.row, row.column): row.value for row in load_rows(results / OUT / "table4.csv")}
    assert headline["SVHN's recipe: E-ABS, All L2 %"] == cells["All L2", "E-ABS"] == 50
    assert headline["SVHN's recipe: E-ABS, Clean %"] == 95.5
    assert headline["MNIST's recipe: ABS, Clean %"] == 96
    assert headline["Ablation: ADV-ABS (E-ABS), Clean %"] == 90
    assert "MNIST's recipe: CNN, All L2 %" not in headline
    verdicts = [claim.verdict for claim in load_claims(results / OUT / "claims.csv")]
    counts = verdicts.count("holds"), verdicts.count("fails"), verdicts.count("not decided")
    names = ("claims that hold", "claims that fail", "claims not decided")
    assert tuple(headline[name] for name in names) == counts
    assert verdicts
    caption = (results / OUT / "claims.md").read_text().splitlines()[0]
    assert "not corrected for their number" in caption
    assert "“MNIST” is what the paper does on it, run on digits 16×16" in caption
    assert "“SuperTraffic-10”" not in caption  # run on itself


def test_a_scale_without_studies_still_writes_every_file(tmp_path: Path, results: Path) -> None:
    run(Options(attacks=tmp_path / "attacks", curves=tmp_path / "curves", scale="quick", out=tmp_path / OUT))
    assert sorted(p.name for p in (tmp_path / OUT).iterdir()) == sorted(p.name for p in (results / OUT).iterdir())
    assert {claim.verdict for claim in load_claims(tmp_path / OUT / "claims.csv")} <= {"not decided"}
    for artifact in PAPER.artifacts:
        if artifact.kind == "table":
            assert all(not row.value for row in load_rows(tmp_path / OUT / f"{artifact.name}.csv"))
    headline = load_json(tmp_path / OUT / "headline.json")
    assert set(headline) == {"claims that hold", "claims that fail", "claims not decided"}
    assert "run on" not in (tmp_path / OUT / "claims.md").read_text().splitlines()[0]


def test_studies_take_their_roles(results: Path) -> None:
    found = measured(options(results))
    for section, names in SECTIONS.items():
        there = getattr(found, section)
        for role, name in vars(names).items():
            value = getattr(there, role)
            if role in NO_ROLES:
                continue
            assert tuple(each.name for each in value) == name if isinstance(name, tuple) else value.name == name
    assert (found.mnist.dataset, found.supertraffic.dataset) == ("digits 16×16", "SuperTraffic-10")
    assert found.sensitivity.labels == SECTIONS["sensitivity"].labels
    assert found.mnist.e_abs is not None
    curve = found.curve_of(found.mnist.e_abs)
    assert curve is not None
    assert (curve.name, curve.kept("accuracy", best=True)) == ("mnist-e_abs", 0.875)
    assert found.mnist.cnn is not None
    assert found.curve_of(found.mnist.cnn) is None


def test_options_and_what_is_measured_have_the_same_roles() -> None:
    pairs = ((Comparison, m.Comparison), (Ablation, m.Ablation), (Sweeps, m.Sweeps), (GradientFree, m.GradientFree),
             (Sensitivity, m.Sensitivity))  # fmt: skip
    for given, found in pairs:
        assert [field.name for field in fields(given)] == [field.name for field in fields(found)]
    sections = {field.name for field in fields(m.Measured)} - {"scale", "curves"}
    assert (
        sections == {field.name for field in fields(Options)} - {"attacks", "curves", "scale", "out"} == set(SECTIONS)
    )


@pytest.mark.parametrize(
    ("section", "role"),
    [(section, role) for section, names in SECTIONS.items() for role in vars(names) if role not in NO_ROLES],
)
def test_a_study_that_is_not_there_is_named(section: str, role: str, results: Path) -> None:
    names = SECTIONS[section]
    missing: Any = ("nothing",) * len(names.studies) if role == "studies" else "nothing"
    with pytest.raises(UserError, match=r"array file not found: .*/nothing\.npz"):
        measured(options(results, **{section: replace(names, **{role: missing})}))
    option = section.replace("_", "-")
    with pytest.raises(UserError, match=rf"{section} names .*{role}.* but no data set; give --{option}.dataset"):
        measured(options(results, **{section: replace(names, dataset="")}))


def test_accuracy_without_attack_may_be_of_more_images(results: Path) -> None:
    attacked = measured(options(results)).fashion_mnist
    for model in MODELS:
        study = getattr(attacked, model)
        arrays = {name: values[:0] if name in (*GRID, *PER_POINT) else values for name, values in study.arrays.items()}
        arrays |= {name: study[name][:0] for name in ("shown_adversarial", "shown_predicted")}
        arrays |= {"indices": study["indices"] + 1000, "natural_correct": np.ones_like(study.natural)}
        save_arrays(results / "attacks/more" / f"{study.name}.npz", arrays)
    names = replace(SECTIONS["fashion_mnist"], natural="more")
    found = measured(options(results, fashion_mnist=names)).fashion_mnist
    assert list(found.correct("Clean")) == list(attacked.models)
    assert all(right.all() for right in found.correct("Clean").values())
    assert not any(study.natural.all() for study in found.models.values())
    (results / "attacks/more/fashion-abs.npz").unlink()
    with pytest.raises(UserError, match=r"array file not found: .*more/fashion-abs\.npz"):
        measured(options(results, fashion_mnist=names))


@pytest.mark.parametrize("labels", [(), ("one", "two"), ("one", "one", "two")])
def test_every_choice_needs_a_label_of_its_own(labels: tuple[str, ...], results: Path) -> None:
    with pytest.raises(UserError, match=r"5 studies and \d different labels; give --sensitivity.labels one for each"):
        measured(options(results, sensitivity=replace(SECTIONS["sensitivity"], labels=labels)))


def test_a_missing_training_curve_is_named(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training curve not found: .*/mnist-abs\.csv"):
        measured(options(results, curves=tmp_path))
