"""Tables, coverage and the paper's own numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from robustgen.errors import UserError
from robustgen.evaluation.rows import Row, load_rows, markdown, save_rows
from robustgen.evaluation.statistics import proportion
from robustgen.papers.langevin import Defense
from robustgen.papers.reference import reference
from robustgen.papers.stochastic_security import PAPER
from robustgen.papers.stochastic_security.coverage import coverage
from robustgen.papers.stochastic_security.study import Measured
from robustgen.papers.stochastic_security.tables import table1, table2, table3

KNOWN = reference("robustgen.papers.stochastic_security")
Cells = dict[tuple[str, str, str], Row]


def cells(rows: list[Row]) -> Cells:
    return {(row.dataset, row.row, row.column): row for row in rows}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("CIFAR-10", "Ours", "base classifier, natural"), 95.30),
        (("CIFAR-10", "Ours", "short run, adversarial"), 0.01),
        (("CIFAR-10", "Ours", "long run, adversarial"), 78.91),
        (("CIFAR-10", "IGEBM", "long run, natural"), 48.7),
        (("CIFAR-10", "JEM", "short run, adversarial"), 12.55),
        (("CIFAR-10", "EBM defence: BPDA+EOT", "adversarial"), 54.90),
        (("CIFAR-10", "Zhang et al. 2019: PGD (borrowed)", "adversarial"), 56.43),
        (("CIFAR-10", "Srinivasan et al. 2019: PGD (borrowed)", "adversarial"), 0.48),
        (("SVHN", "EBM defence: BPDA+EOT", "adversarial"), 67.55),
        (("CIFAR-100", "Balaji et al. 2019: adversarial training (borrowed)", "natural"), 59.58),
        (("CIFAR-10", "Ours", "1500 Langevin steps, 100 images"), 13),
    ],
)
def test_numbers_of_the_paper(key: tuple[str, str, str], value: float) -> None:
    assert KNOWN[key].value == value
    assert KNOWN[key].source


def test_every_borrowed_number_says_from_whom() -> None:
    for (_, row, _), number in KNOWN.items():
        assert ("(borrowed)" in row) == ("borrowed by the paper from" in number.source)


def test_every_accuracy_of_the_paper_has_a_cell(right: Measured, bare: Measured) -> None:
    accuracies = {key for key, number in KNOWN.items() if number.source.startswith("Table") and key[0] == "CIFAR-10"}
    elsewhere = {key for key, number in KNOWN.items() if number.source.startswith("Table")} - accuracies
    rows = [*table1(right), *table2(right)]
    assert {key[1:] for key in accuracies} <= {(row.row, row.column) for row in rows}
    assert elsewhere == {(row.dataset, row.row, row.column) for row in table3(bare)}


def test_table1_holds_exact_shares(right: Measured) -> None:
    table = cells(table1(right))
    shares = {
        ("Ours", "base classifier", 1.0, 0.0),
        ("Ours", "short run", 0.98, 0.02),
        ("Ours", "long run", 0.9, 0.7),
        ("Ours, non-convergent EBM", "long run", 0.4, 0.2),
        ("IGEBM", "long run", 0.6, 0.4),
        ("JEM", "base classifier", 0.9, 0.1),
    }
    for line, run, natural, adversarial in shares:
        for column, share in (("natural", natural), ("adversarial", adversarial)):
            row = table["digits 16×16", line, f"{run}, {column}"]
            exact = proportion(round(400 * share), 400)
            assert (row.value, row.low, row.high) == pytest.approx((100 * share, 100 * exact.low, 100 * exact.high))
            assert row.n == 400
    ours = table["digits 16×16", "Ours", "long run, adversarial"]
    assert ours.reference == 78.91
    assert ours.method.endswith("; the paper's number: CIFAR-10, Table 1 (K = 1500)")
    assert table["digits 16×16", "Ours, non-convergent EBM", "long run, natural"].reference is None
    assert len(table) == 24


def test_a_model_that_was_not_run_shows_the_papers_numbers_alone(right: Measured) -> None:
    rows = [row for row in table1(replace(right, jem=None, twin=None)) if row.value is None]
    assert {(row.row, row.dataset, row.n) for row in rows} == {("JEM", "digits 16×16", None)}
    assert [row.reference for row in rows] == [92.82, 9.29, 90.93, 12.55, 75.5, 23.8]


def test_a_purification_without_the_base_classifier_is_refused(right: Measured) -> None:
    with pytest.raises(UserError, match="add 7 to the steps of its purify run"):
        table1(replace(right, short=7))


def test_table2_tells_attacks_and_controls_apart(right: Measured) -> None:
    table = cells(table2(right))
    value = {(line, column): row.value for (_, line, column), row in table.items()}
    assert value["EBM defence: BPDA+EOT", "natural"] == pytest.approx(90)
    assert value["EBM defence: BPDA+EOT", "adversarial"] == pytest.approx(50)
    assert value["EBM defence: BPDA+EOT at zero radius", "false breaks"] == 0
    assert value["Adversarial training (L∞): PGD", "adversarial"] == pytest.approx(30)
    assert value["EBM defence: PGD blind to it", "adversarial"] == pytest.approx(70)
    assert value["No defence: PGD", "adversarial"] == 0
    assert value["EBM defence of 10 Langevin steps: full gradient", "adversarial"] == pytest.approx(10)
    assert value["EBM defence of 10 Langevin steps: BPDA+EOT", "adversarial"] == pytest.approx(2)
    assert ("Adversarial training (L2): PGD", "natural") not in value  # not attacked at the L∞ radius
    borrowed = {row.row for row in table.values() if row.value is None}
    assert len(borrowed) == 6
    assert all("(borrowed)" in line for line in borrowed)
    own = table["digits 16×16", "Adversarial training (L∞): PGD", "adversarial"]
    assert own.reference is None  # the paper's 45.8 is borrowed and has its own line
    assert "PGD, L∞ eps 0.1, step 0.025, 20 updates" in own.method


def test_false_breaks_are_counted_among_the_images_that_were_right(build: Callable[..., Measured]) -> None:
    row = cells(table2(build(false_breaks=0.1)))["digits 16×16", "EBM defence: BPDA+EOT at zero radius", "false breaks"]
    assert row.n == 360
    assert row.value == pytest.approx(10)
    assert "share of the images that are right without attack" in row.method


def test_false_breaks_come_from_the_radii_where_table2_has_none(right: Measured, point: Callable[..., Defense]) -> None:
    control = point("linf", [(100, "linf", 0.0, 4, 16, 0.9, 0.45)])
    for main in (None, point("main", [(100, "linf", 0.1, 4, 16, 0.9, 0.5)])):
        row = cells(table2(replace(right, main=main, linf=control)))[
            "digits 16×16", "EBM defence: BPDA+EOT at zero radius", "false breaks"
        ]
        assert (row.n, row.value) == (18, pytest.approx(50))


def test_table2_without_studies_is_the_papers(bare: Measured) -> None:
    rows = table2(bare)
    assert all(row.value is None for row in rows)
    assert {row.reference for row in rows if row.row == "EBM defence: BPDA+EOT"} == {84.12, 54.9}


def test_table3_puts_other_data_sets_beside_the_papers(right: Measured, point: Callable[..., Defense]) -> None:
    ours = point("svhn", [(100, "linf", 0.1, 4, 16, 0.8, 0.6)])
    trained = point("svhn-at", [(0, "linf", 0.1, 1, 1, 0.9, 0.4)])
    table = cells(table3(replace(right, others=(("SVHN", ours, trained), ("MNIST", ours, trained)))))
    for dataset, reference_value in (("SVHN", 67.55), ("MNIST", None)):
        row = table[dataset, "EBM defence: BPDA+EOT", "adversarial"]
        assert (row.value, row.n, row.reference) == (pytest.approx(60), 20, reference_value)
        assert table[dataset, "Adversarial training (L∞): PGD", "natural"].value == pytest.approx(90)
    assert table["CIFAR-100", "EBM defence: BPDA+EOT", "natural"].value is None
    borrowed = table["CIFAR-100", "Balaji et al. 2019: adversarial training (borrowed)", "adversarial"]
    assert (borrowed.value, borrowed.reference) == (None, 25.47)
    assert not any("borrowed" in line for dataset, line, _ in table if dataset != "CIFAR-100")


def test_tables_survive_their_files_and_print_dashes(right: Measured, tmp_path: Path) -> None:
    for number, rows in enumerate((table1(right), table2(right), table3(right))):
        save_rows(tmp_path / f"{number}.csv", rows)
        loaded = load_rows(tmp_path / f"{number}.csv")
        assert [(row.row, row.column, row.reference) for row in loaded] == [
            (row.row, row.column, row.reference) for row in rows
        ]
        for read, row in zip(loaded, rows, strict=True):
            assert read.value == (None if row.value is None else pytest.approx(row.value, rel=1e-5))
    text = markdown(table2(right), "Table 2")
    assert "| Yang et al. 2019: BPDA+EOT (borrowed) | – | 94.00 | – | 15.00 | – |" in text


def test_coverage_names_every_item(right: Measured, bare: Measured) -> None:
    here, elsewhere, nothing = coverage(right), coverage(replace(right, dataset="CIFAR-10")), coverage(bare)
    assert {artifact.name for artifact in PAPER.artifacts} == {line.where for line in here if line.where}
    assert {line.item: line.status for line in here} == {
        "Table 3": "not at this scale",
        "Figure 1": "not reproducible",
        **{line.item: "partly" for line in here if line.item not in ("Table 3", "Figure 1")},
    }
    assert "CIFAR-10 not at this scale" in here[0].note
    assert {line.item for line in elsewhere if line.status == "partly"} == {"Figure 5"}  # without semi-supervised
    assert {line.status for line in nothing} == {"not at this scale", "not reproducible"}


@pytest.mark.parametrize(
    ("item", "gone", "missing"),
    [
        ("Table 1", "jem", "JEM"),
        ("Table 2", "at_linf", "adversarial training"),
        ("Figure 4", "steps_twin", "non-convergent EBM"),
        ("Figure 5", "l2", "L2 attacks"),
        ("Figure 6", "draws", "H_adv and H_def"),
    ],
)
def test_coverage_says_what_is_missing(right: Measured, item: str, gone: str, missing: str) -> None:
    part = replace(right, dataset="CIFAR-10", **{gone: None})
    line = next(line for line in coverage(part) if line.item == item)
    assert line.status == "partly"
    assert f"without {missing}" in line.note


def test_coverage_of_table3(right: Measured, point: Callable[..., Defense]) -> None:
    study = point("x", [(100, "linf", 0.1, 4, 16, 0.8, 0.6)])
    one = replace(right, others=(("SVHN", study, study),))
    both = replace(right, others=(("SVHN", study, study), ("CIFAR-100", study, study)))
    lines = [next(line for line in coverage(found) if line.item == "Table 3") for found in (one, both)]
    assert [(line.status, line.note) for line in lines] == [
        ("partly", "on SVHN; CIFAR-100 not run"),
        ("reproduced", "on SVHN, CIFAR-100"),
    ]
