"""The renderer of Yoon, Hwang & Lee 2021; its scale is made by tests/papers/adp."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from robustgen.errors import UserError
from robustgen.evaluation.plotting import STYLE
from robustgen.evaluation.rows import load_claims, load_coverage, load_rows
from robustgen.io import load_json
from robustgen.papers.adp import PAPER
from robustgen.papers.adp.measured import Measured
from robustgen.papers.manifest import load_manifests, verify
from robustgen.stages.adp import Options, measured, run

OUT = Path("results/quick/adp")
STUDIES: dict[str, object] = {
    "attacks": ("main", "spsa", "gradient", "apgd"),
    "deterministic": ("quiet", "quiet-more"),
    "longer": "longer",
    "reevaluation": "reevaluation",
    "blind": "blind",
    "small": "small",
    "released": "released",
    "ml_langevin": "ml-langevin",
    "ml_deterministic": "ml",
    "dsm_langevin": "dsm-langevin",
    "dsm_deterministic": "dsm",
    "eot": "eot",
    "raw": "raw",
    "at": "at",
    "hill": "hill",
    "norms": "norms",
    "certified": "certified",
    "cohen": ("cohen-12", "cohen-25"),
    "corrupted": ("adp",),
    "corrupted_raw": "adp-raw",
    "corrupted_dct": "adp-dct",
    "corrupted_augmix": "adp-augmix",
    "corrupted_both": "adp-both",
    "corrupted_cohen": "adp-raw-cohen",
    "corrupted_at": "adp-raw-at",
}
FIELDS = {"at": "trained", "corrupted_at": "corrupted_trained", "norms": "scores"}  # where Measured calls it otherwise


def options(root: Path, out: Path = OUT, **changes: object) -> Options:
    folders = {name: root / name for name in ("defense", "scores", "certification", "corruptions", "purification")}
    given = {**folders, "dataset": "digits16", "scale": "quick", "out": root / out, **STUDIES, **changes}
    return Options(**given)  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def _small_files() -> Iterator[None]:
    """Coarse pictures and whole fonts: subsetting fonts takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STYLE, "savefig.dpi", 70)
        patch.setitem(STYLE, "pdf.fonttype", 3)
        yield


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """tests/papers/adp/conftest.py."""
    spec = importlib.util.spec_from_file_location("made_adp", Path(__file__).parents[1] / "papers/adp/conftest.py")
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
                assert min(image.size) > 200
            with (results / OUT / f"{artifact.name}.csv").open() as file:
                assert list(csv.DictReader(file))
        else:
            assert load_rows(results / OUT / f"{artifact.name}.csv")
    assert load_coverage(results / OUT / "coverage.csv")
    verify(results / "results/quick", PAPER.slug, load_manifests(results / "results/quick")[PAPER.slug])


def test_headline_agrees_with_tables_and_claims(results: Path) -> None:
    headline = load_json(results / OUT / "headline.json")
    cells = {(row.row, row.column): row.value for row in load_rows(results / OUT / "table3.csv")}
    assert headline["ADP under BPDA+EOT %"] == cells["ADP: BPDA+EOT", "Robust"] == 75
    assert headline["ADP under the worst of all attacks %"] == 74
    assert headline["ADP under blind PGD %"] == 85
    assert headline["accuracy without defence under PGD %"] == 0
    assert headline["adversarial training under PGD %"] == 40
    assert headline["false breaks at zero radius %"] == 0
    assert 76 < headline["ADP on common corruptions %"] < 78
    assert 0.99 < headline["AUC of the score norm"] < 1
    claims = load_claims(results / OUT / "claims.csv")
    undecided = [claim.id for claim in claims if claim.verdict == "not decided"]
    assert undecided == ["strongest-attack-leaves-the-papers-accuracy"]  # a number of CIFAR-10's
    assert headline["claims that hold"] == len(claims) - 1
    assert (headline["claims that fail"], headline["claims not decided"]) == (0, 1)
    assert "not corrected for their number" in (results / OUT / "claims.md").read_text().splitlines()[0]
    assert headline["ADP under APGD+EOT, as in the re-evaluation %"] == 74
    assert {row.scale for row in load_rows(results / OUT / "table1.csv")} == {"quick"}


def test_the_same_data_give_the_same_bytes(results: Path) -> None:
    run(options(results, Path("again/adp")))
    names = sorted(path.name for path in (results / OUT).iterdir())
    assert names == sorted(path.name for path in (results / "again/adp").iterdir())
    for name in names:
        assert (results / OUT / name).read_bytes() == (results / "again/adp" / name).read_bytes(), name


def test_a_scale_without_studies_still_writes_every_file(tmp_path: Path, results: Path) -> None:
    nothing = {role: () if isinstance(name, tuple) else "" for role, name in STUDIES.items()}
    run(options(tmp_path, **nothing))
    assert sorted(p.name for p in (tmp_path / OUT).iterdir()) == sorted(p.name for p in (results / OUT).iterdir())
    assert {claim.verdict for claim in load_claims(tmp_path / OUT / "claims.csv")} == {"not decided"}
    for artifact in PAPER.artifacts:
        if artifact.kind == "table":
            rows = load_rows(tmp_path / OUT / f"{artifact.name}.csv")
            assert rows
            assert all(row.value is None for row in rows)
    headline = load_json(tmp_path / OUT / "headline.json")
    assert set(headline) == {"claims that hold", "claims that fail", "claims not decided"}


def test_studies_take_their_roles(results: Path) -> None:
    found = measured(options(results, control="eot", others=("main",)))
    for role, names in STUDIES.items():
        value = getattr(found, FIELDS.get(role, role))
        if isinstance(names, tuple):
            assert tuple(study.name for study in value) == names
        else:
            assert value.name == names
    assert found.control_of is not None
    assert found.control_of.name == "eot"
    assert [(name, study.name) for name, study in found.others] == [("main", "main")]
    assert (found.dataset, found.short, found.eps) == ("digits 16×16", 10, 0.1)
    taken = {FIELDS.get(role, role) for role in STUDIES} | {"control_of", "others", "dataset", "scale", "short"}
    assert taken == {field.name for field in fields(Measured)}


@pytest.mark.parametrize("role", [*STUDIES, "control", "others"])
def test_a_study_that_is_not_there_is_named(role: str, results: Path) -> None:
    missing: object = ("nothing",) if isinstance(STUDIES.get(role, ()), tuple) and role != "control" else "nothing"
    with pytest.raises(UserError, match=r"array file not found: .*/nothing\.npz"):
        measured(options(results, **{role: missing}))
