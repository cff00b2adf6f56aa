"""The renderer of Yin, Kolouri & Rohde 2020; its scale is made by tests/papers/gat."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from robustgen.errors import UserError
from robustgen.evaluation.plotting import STYLE
from robustgen.evaluation.rows import load_claims, load_coverage, load_rows
from robustgen.io import load_json
from robustgen.papers.gat import PAPER
from robustgen.papers.gat import measured as m
from robustgen.papers.manifest import load_manifests, verify
from robustgen.stages.gat import Cifar, ImageNet, Mnist, Options, measured, run

OUT = Path("results/quick/gat")
MNIST = {
    "linf_small": "linf-small",
    "linf_large": "linf-large",
    "l2_small": "l2-small",
    "l2_large": "l2-large",
    "detection": "cnn",
    "distortion_small": "small",
    "distortion_large": "large",
    "synthesis": "cnn",
    "synthesis_softmax": "softmax",
}
CIFAR = {
    "large": "tuned",
    "small": "tuned-small",
    "l2": "tuned-l2",
    "coarse": "coarse",
    "detection": "tuned",
    "distortion": "tuned",
    "synthesis": "tuned",
    "synthesis_softmax": "softmax",
    "synthesis_natural": "natural",
    "synthesis_small": "tuned-small",
    "synthesis_wide": "wide",
}
IMAGENET: dict[str, Any] = {
    "probe": "dog",
    "synthesis": ("dog-002", "dog-005", "dog-01", "dog-01-far", "dog-03"),
    "synthesis_softmax": "softmax",
}
SECTIONS = {"mnist": (Mnist, MNIST), "cifar": (Cifar, CIFAR), "imagenet": (ImageNet, IMAGENET)}


def options(root: Path, out: Path = OUT, **changes: Any) -> Options:
    folders = {name: root / name for name in ("probes", "detection", "distortion", "synthesis", "density", "curves")}
    sections = {
        "mnist": Mnist(dataset="digits16", **MNIST),
        "cifar": Cifar(dataset="digits16", **CIFAR),
        "imagenet": ImageNet(dataset="restricted-imagenet", **IMAGENET),
    }
    given = {**folders, **sections, "densities": ("line", "plane"), "scale": "quick", "out": root / out, **changes}
    return Options(**given)


@pytest.fixture(scope="module", autouse=True)
def _small_files() -> Iterator[None]:
    """Coarse pictures and whole fonts: subsetting fonts takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STYLE, "savefig.dpi", 70)
        patch.setitem(STYLE, "pdf.fonttype", 3)
        yield


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """tests/papers/gat/conftest.py."""
    spec = importlib.util.spec_from_file_location("made_gat", Path(__file__).parents[1] / "papers/gat/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all results of the scale in which the paper is right."""
    root = tmp_path_factory.mktemp("scale")
    made.write(made.make(made.World()), root)
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
    covered = {line.item: line.status for line in load_coverage(results / OUT / "coverage.csv")}
    assert {covered[item] for item in ("Figure 15", "Figure 16", "Figure 18")} == {"reproduced"}
    verify(results / "results/quick", PAPER.slug, load_manifests(results / "results/quick")[PAPER.slug])


def test_headline_agrees_with_tables_and_claims(results: Path) -> None:
    headline = load_json(results / OUT / "headline.json")
    cells = {(row.row, row.column): row.value for row in load_rows(results / OUT / "table2.csv")}
    distortion = cells["generative detection, L∞ small", "mean L2 distortion"]
    assert headline["MNIST's recipe: mean L2 distortion"] == pytest.approx(distortion, abs=1e-4)
    assert headline["MNIST's recipe: AUC of d1 under a long attack"] == 0.99
    assert headline["MNIST's recipe: FPR of integrated detection under the worst attacks %"] == 51
    assert headline["CIFAR-10's recipe: FPR of generative detection under the worst attacks %"] == 21
    assert headline["CIFAR-10's recipe: standard accuracy, generative %"] == 100
    assert headline["MNIST's recipe: error of the softmax classifier under PGD %"] == 40
    assert headline["generated images recognised, detectors − softmax"] == 0.68
    assert headline["total variation to the density in one dimension"] == 0.11
    claims = load_claims(results / OUT / "claims.csv")
    verdicts = [claim.verdict for claim in claims]
    counted = {"claims that hold": "holds", "claims that fail": "fails", "claims not decided": "not decided"}
    assert {name: headline[name] for name in counted} == {name: verdicts.count(v) for name, v in counted.items()}
    assert "fails" not in verdicts
    caption = (results / OUT / "claims.md").read_text().splitlines()[0]
    assert "not corrected for their number" in caption
    assert "“MNIST” is what the paper does on it, run on digits 16×16" in caption
    assert {row.scale for row in load_rows(results / OUT / "table1.csv")} == {"quick"}


def test_a_scale_without_studies_still_writes_every_file(tmp_path: Path, results: Path) -> None:
    run(options(tmp_path, mnist=Mnist(), cifar=Cifar(), imagenet=ImageNet(), densities=()))
    assert sorted(p.name for p in (tmp_path / OUT).iterdir()) == sorted(p.name for p in (results / OUT).iterdir())
    assert {claim.verdict for claim in load_claims(tmp_path / OUT / "claims.csv")} == {"not decided"}
    for artifact in PAPER.artifacts:
        if artifact.kind == "table":
            rows = load_rows(tmp_path / OUT / f"{artifact.name}.csv")
            assert rows
            assert all(row.value is None for row in rows)
    headline = load_json(tmp_path / OUT / "headline.json")
    assert set(headline) == {"claims that hold", "claims that fail", "claims not decided"}
    assert "run on" not in (tmp_path / OUT / "claims.md").read_text().splitlines()[0]


def test_studies_take_their_roles(results: Path) -> None:
    found = measured(options(results))
    for section, (_, names) in SECTIONS.items():
        there = getattr(found, section)
        for role, name in names.items():
            value = getattr(there, role)
            assert tuple(each.name for each in value) == name if isinstance(name, tuple) else value.name == name
    assert (found.mnist.dataset, found.imagenet.dataset) == ("digits 16×16", "Restricted ImageNet")
    assert [study.name for study in found.densities] == ["line", "plane"]
    curves = found.cifar.small_curve, found.cifar.large_curve
    assert [curve and curve.name for curve in curves] == ["tuned-small", "tuned"]
    other = measured(options(results, cifar=Cifar(dataset="digits16", small_curve="tuned"))).cifar
    assert other.small_curve is not None
    assert (other.small_curve.name, other.large_curve, other.large) == ("tuned", None, None)


def test_options_and_what_is_measured_have_the_same_roles() -> None:
    pairs = ((Mnist, m.Mnist), (Cifar, m.Cifar), (ImageNet, m.ImageNet))
    for given, found in pairs:
        assert [field.name for field in fields(given)] == [field.name for field in fields(found)]


@pytest.mark.parametrize(
    ("section", "role"), [(section, role) for section, (_, names) in SECTIONS.items() for role in names]
)
def test_a_study_that_is_not_there_is_named(section: str, role: str, results: Path) -> None:
    kind, names = SECTIONS[section]
    missing: Any = ("nothing",) if isinstance(names[role], tuple) else "nothing"
    with pytest.raises(UserError, match=r"not found: .*/nothing\.(npz|csv)"):
        measured(options(results, **{section: kind(dataset="digits16", **{role: missing})}))
    with pytest.raises(UserError, match=rf"{section} names {role} but no data set; give --{section}.dataset"):
        measured(options(results, **{section: kind(**{role: names[role]})}))


@pytest.mark.parametrize(
    ("section", "role"),
    [(section, role) for section, (_, names) in SECTIONS.items() for role in names if "syn" in role],
)
def test_a_model_of_the_wrong_kind_is_refused(section: str, role: str, results: Path) -> None:
    softmax = role.endswith(("softmax", "natural"))
    name = "cnn" if softmax else "softmax"
    wrong: Any = (name,) if role == "synthesis" and section == "imagenet" else name
    changed = replace(getattr(options(results), section), **{role: wrong})
    with pytest.raises(UserError, match="detectors and not a softmax" if softmax else "softmax classifier and not det"):
        measured(options(results, **{section: changed}))


def test_a_missing_density_or_history_is_named(results: Path) -> None:
    with pytest.raises(UserError, match=r"array file not found: .*/nothing\.npz"):
        measured(options(results, densities=("nothing",)))
    cifar = replace(options(results).cifar, large_curve="nothing")
    with pytest.raises(UserError, match=r"training history not found: .*/nothing\.csv"):
        measured(options(results, cifar=cifar))
