"""What the papers' packages share: studies of the same images, statements, tables, results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robustgen.errors import UserError
from robustgen.evaluation.claims import Condition
from robustgen.evaluation.plotting import figure
from robustgen.evaluation.rows import Claim, Coverage, load_claims, load_rows
from robustgen.evaluation.statistics import Estimate
from robustgen.io import load_json, save_csv
from robustgen.papers.base import Artifact, Paper
from robustgen.papers.coverage import drawing, line, other_data_sets
from robustgen.papers.manifest import load_manifests
from robustgen.papers.reference import Number
from robustgen.papers.results import save_results
from robustgen.papers.statements import Statement
from robustgen.papers.studies import Grid, OfImages, Pointed, common
from robustgen.papers.tables import Table
from robustgen.papers.words import plural

STATEMENT = Statement(name="a", text="A", source="Sec. 1", quantity="q", condition=Condition(">", 0.5))
KNOWN = {
    ("CIFAR-10", "ours", "accuracy"): Number(70.0, "Table 2"),
    ("CIFAR-10", "theirs (borrowed)", "accuracy"): Number(60.0, "Table 2, borrowed"),
    ("CIFAR-10", "theirs (not run here)", "accuracy"): Number(50.0, "Table 3"),
}


def images(name: str, indices: list[int]) -> OfImages:
    return OfImages(name, {"indices": np.array(indices), "labels": np.array(indices) % 3})


def test_images_that_all_studies_hold_stand_in_one_order() -> None:
    studies = [images("a", [9, 2, 5, 7]), images("b", [5, 9, 1]), images("c", [7, 9, 5])]
    rows = common(studies)
    for study, chosen in zip(studies, rows, strict=True):
        assert study.indices[chosen].tolist() == [5, 9]
    assert [chosen.tolist() for chosen in common(studies[:1])] == [[1, 2, 3, 0]]


def test_studies_without_a_common_image_are_named() -> None:
    with pytest.raises(UserError, match="studies 'a' and 'b' and 'c' share no image"):
        common([images("a", [1, 2]), images("b", [2, 3]), images("c", [3, 4])])


def test_one_image_has_one_label() -> None:
    other = OfImages("b", {"indices": np.array([1]), "labels": np.array([0])})
    with pytest.raises(UserError, match="'a' and 'b' give one image different labels"):
        common([images("a", [1]), other])


def test_a_grid_without_words_is_unfinished() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Grid("x", {})  # type: ignore[abstract]


class Sized(Pointed):
    COLUMNS, ORDER, CALLED = ("eps", "steps"), ("steps",), ("the study", "point")


def test_points_are_found_by_their_options() -> None:
    study = Sized("s", {"eps": np.array([0.1, 0.2, 0.1]), "steps": np.array([5, 7, 9])})
    assert study.points == 3
    assert study.matching(eps=0.1 * (1 + 1e-8)) == [0, 2]
    assert study.point(eps=0.1) == 2  # of most steps
    assert study.values("steps", eps=0.1) == [5, 9]
    assert study.options(1) == {"eps": 0.2, "steps": 7}
    assert not study.has(eps=0.1, steps=7)
    with pytest.raises(
        UserError, match=r"the study 's' has no point with eps 0.1, steps 7 \(it has eps 0.1, 0.2; steps"
    ):
        study.point(eps=0.1, steps=7)


def test_a_statement_is_decided_by_an_interval_or_left_open() -> None:
    assert STATEMENT.decided(Estimate(0.7, 0.6, 0.8, 9), "note").verdict == "holds"
    assert STATEMENT.decided(Estimate(0.4, 0.3, 0.45, 9)).verdict == "fails"
    open_ = STATEMENT.missing("a study")
    assert (open_.verdict, open_.value, open_.condition) == ("not decided", None, "> 0.5")
    assert open_.note == "Not run at this scale: a study."


def test_rows_have_the_papers_number_beside_them() -> None:
    table = Table("some-paper", "Table 2", "quick", KNOWN)
    row = table.row("digits", "ours", "accuracy", Estimate(0.5, 0.4, 0.6, 10), "how", "CIFAR-10")
    assert (row.value, row.low, row.high, row.n, row.unit, row.reference) == (50, 40, 60, 10, "%", 70)
    assert row.method == "how; the paper's number: CIFAR-10, Table 2"
    plain = table.number("digits", "ours", "steps", 40, "", "how")
    assert (plain.value, plain.low, plain.n, plain.unit, plain.reference) == (40, None, None, "", None)
    borrowed = list(table.borrowed("CIFAR-10", "digits"))
    assert [(each.row, each.dataset, each.value) for each in borrowed] == [("theirs (borrowed)", "digits", None)]
    third = list(Table("some-paper", "Table 3", "quick", KNOWN).borrowed("CIFAR-10", "digits"))
    assert third == []  # a source must say more than the table: "Table 3, ..."
    assert list(table.alone("CIFAR-10", "nobody", "accuracy")) == []


def test_results_are_written_whole(tmp_path: Path) -> None:
    artifacts = (
        Artifact(name="table2", item="Table 2", kind="table", title="T", caption="C."),
        Artifact(name="figure1", item="Figure 1", kind="figure", title="F", caption="C."),
    )
    paper = Paper(slug="some-paper", title="T", authors="A", year=2020, venue="V", artifacts=artifacts)
    out = tmp_path / "quick/some-paper"

    def draw(path: Path, found: str) -> None:
        with figure(path, 2, 2):
            save_csv(f"{path}.csv", ["found"], [[found]])

    decided: list[Claim] = [STATEMENT.decided(Estimate(0.7, 0.6, 0.8, 9)), STATEMENT.missing("x")]
    decided[1] = Claim(**{**decided[1].__dict__, "id": "b"})
    save_results(
        out,
        paper,
        "what was found",
        tables={"table2": list(Table("some-paper", "Table 2", "quick", KNOWN).borrowed("CIFAR-10", "digits"))},
        figures={"figure1": draw},
        claims=decided,
        coverage=[Coverage(item="Table 2", what="w", status="reproduced", where="table2", note="")],
        headline={"number": 1.5},
    )
    names = {"table2.csv", "table2.md", "figure1.csv", "figure1.png", "figure1.pdf", "claims.csv", "claims.md",
             "coverage.csv", "headline.json"}  # fmt: skip
    assert {path.name for path in out.iterdir()} == names == set(load_manifests(tmp_path / "quick")["some-paper"])
    assert load_json(out / "headline.json") == {
        "number": 1.5,
        "claims that hold": 1,
        "claims that fail": 0,
        "claims not decided": 1,
    }
    assert (out / "figure1.csv").read_text() == "found\nwhat was found\n"
    assert (out / "table2.md").read_text().startswith("Table 2. T. C.\n")
    assert len(load_rows(out / "table2.csv")) == 1
    assert [claim.id for claim in load_claims(out / "claims.csv")] == ["a", "b"]


def test_a_number_that_is_not_the_papers_says_so() -> None:
    known = {**KNOWN, ("CIFAR-10", "later", "accuracy"): Number(30.0, "not the paper's: Croce et al. 2022")}
    table = Table("some-paper", "Table 2", "quick", known)
    methods = [row.method for line in ("ours", "later") for row in table.alone("CIFAR-10", line, "accuracy")]
    assert methods == [
        "not ours; the paper's number: CIFAR-10, Table 2",
        "not ours; the number beside: CIFAR-10, not the paper's: Croce et al. 2022",
    ]


def test_a_measured_claim_may_stay_undecided() -> None:
    claim = STATEMENT.shown(Estimate(0.7, 0.6, 0.8, 9), "of another data set")
    assert (claim.verdict, claim.value, claim.low, claim.note) == ("not decided", 0.7, 0.6, "of another data set")


def test_coverage_counts_parts_and_data_sets() -> None:
    for parts, dataset, status, note in (
        ({"a": True, "b": True}, "CIFAR-10", "reproduced", "on CIFAR-10"),
        ({"a": True, "b": False}, "CIFAR-10", "partly", "on CIFAR-10; without b"),
        ({"a": True}, "digits", "partly", "on digits; CIFAR-10 not at this scale"),
        ({"a": False, "b": False}, "digits", "not at this scale", ""),
    ):
        made = line("Table 1", "what", "table1", parts, dataset=dataset, shown="CIFAR-10")
        assert (made.status, made.note, made.where) == (status, note, "table1")
    assert other_data_sets("Table 3", "table3", [], ["SVHN"]).status == "not at this scale"
    assert other_data_sets("Table 3", "table3", ["SVHN"], []).status == "reproduced"
    assert drawing("Figure 1").status == "not reproducible"


def test_counts_in_words() -> None:
    assert [plural(count, "draw") for count in (0, 1, 2)] == ["0 draws", "1 draw", "2 draws"]
