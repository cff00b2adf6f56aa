from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from robustgen.errors import UserError
from robustgen.evaluation.rows import load_claims, load_coverage, load_rows
from robustgen.io import load_json, save_arrays
from robustgen.papers.langevin import Defense
from robustgen.papers.manifest import load_manifests, verify
from robustgen.papers.stochastic_security import PAPER
from robustgen.papers.stochastic_security.study import Measured
from robustgen.stages.stochastic_security import Options, headline, measured, run

STUDIES = {
    "ours": "convergent",
    "twin": "non-convergent",
    "igebm": "igebm",
    "jem": "jem",
    "main": "main",
    "steps_ours": "steps",
    "steps_twin": "twin",
    "linf": "linf",
    "l2": "l2",
    "at_linf": "at",
    "at_l2": "at-l2",
    "attack_steps": "long",
    "draws": "draws",
    "full_gradient": "full",
    "sampling": "dynamics",
}


def options(root: Path, out: str = "results/quick/stochastic-security", **changes: object) -> Options:
    given: dict[str, object] = {
        "purification": root / "purification",
        "defense": root / "defense",
        "dynamics": root / "dynamics",
        "dataset": "digits16",
        "short": 10,
        "long": 100,
        "scale": "quick",
        "out": root / out,
        **STUDIES,
        **changes,
    }
    return Options(**given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def results(right: Measured, tmp_path_factory: pytest.TempPathFactory, write_scale: Callable[..., None]) -> Path:
    """The folder of all results of the scale in which the paper is right."""
    root = tmp_path_factory.mktemp("scale")
    write_scale(right, root)
    run(options(root))
    return root


def test_every_artifact_is_written(results: Path) -> None:
    out = results / "results/quick/stochastic-security"
    for artifact in PAPER.artifacts:
        suffixes = (".csv", ".md") if artifact.kind == "table" else (".csv", ".png", ".pdf")
        assert all((out / f"{artifact.name}{suffix}").stat().st_size > 0 for suffix in suffixes)
        if artifact.kind == "figure":
            with Image.open(out / f"{artifact.name}.png") as image:
                assert min(image.size) > 200
            with (out / f"{artifact.name}.csv").open() as file:
                assert list(csv.DictReader(file))
    assert load_coverage(out / "coverage.csv")
    verify(results / "results/quick", PAPER.slug, load_manifests(results / "results/quick")[PAPER.slug])


def test_headline_agrees_with_tables_and_claims(results: Path) -> None:
    out = results / "results/quick/stochastic-security"
    headline = load_json(out / "headline.json")
    cells = {(row.row, row.column): row.value for row in load_rows(out / "table2.csv")}
    assert headline["EBM defence under BPDA+EOT %"] == cells["EBM defence: BPDA+EOT", "adversarial"] == 50
    assert headline["false breaks at zero radius %"] == 0
    assert headline["adversarial training under PGD %"] == 30
    assert headline["ms per Langevin step, 100 images"] == 8
    counts = {verdict: headline[f"claims {name}"] for verdict, name in
              (("holds", "that hold"), ("fails", "that fail"), ("not decided", "not decided"))}  # fmt: skip
    claims = load_claims(out / "claims.csv")
    assert counts == {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in counts}
    assert {row.scale for row in load_rows(out / "table1.csv")} == {"quick"}


def test_the_same_data_give_the_same_bytes(results: Path) -> None:
    run(options(results, "again/stochastic-security"))
    first, again = results / "results/quick/stochastic-security", results / "again/stochastic-security"
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_a_scale_without_studies_still_writes_every_file(tmp_path: Path, results: Path) -> None:
    run(options(tmp_path, **dict.fromkeys(STUDIES, "")))
    out = Path("results/quick/stochastic-security")
    assert sorted(p.name for p in (tmp_path / out).iterdir()) == sorted(p.name for p in (results / out).iterdir())
    assert load_claims(tmp_path / out / "claims.csv") == []
    for table in ("table1", "table2", "table3"):
        assert all(row.value is None for row in load_rows(tmp_path / out / f"{table}.csv"))
    assert set(load_json(tmp_path / out / "headline.json")) == {
        "claims that hold",
        "claims that fail",
        "claims not decided",
    }


@pytest.mark.parametrize("role", STUDIES)
def test_a_study_that_is_not_there_is_named(role: str, results: Path) -> None:
    with pytest.raises(UserError, match=r"array file not found: .*/nothing\.npz"):
        measured(options(results, **{role: "nothing"}))


def test_studies_take_their_roles(results: Path) -> None:
    found = measured(options(results))
    for role, name in STUDIES.items():
        assert getattr(found, "dynamics" if role == "sampling" else role).name == name
    assert (found.dataset, found.short, found.long, found.eps) == ("digits 16×16", 10, 100, 0.1)


def test_other_data_sets_come_with_adversarial_training(tmp_path: Path, point: Callable[..., Defense]) -> None:
    study = point("x", [(100, "linf", 0.1, 4, 16, 0.8, 0.6)])
    save_arrays(tmp_path / "defense/svhn.npz", study.arrays)
    nothing = dict.fromkeys(STUDIES, "")
    with pytest.raises(UserError, match=r"svhn-at\.npz"):
        measured(options(tmp_path, **nothing, others=("svhn",)))
    save_arrays(tmp_path / "defense/svhn-at.npz", study.arrays)
    found = measured(options(tmp_path, **nothing, others=("svhn",)))
    assert [(name, ours.name, trained.name) for name, ours, trained in found.others] == [("SVHN", "svhn", "svhn-at")]


def test_headline_leaves_out_what_was_not_measured(right: Measured) -> None:
    found = replace(right, dynamics=None)
    assert headline(found, {"table2": []}) == {}
