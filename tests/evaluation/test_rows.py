from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from robustgen.errors import UserError
from robustgen.evaluation.rows import (
    Claim,
    Coverage,
    Row,
    claims_markdown,
    decimals,
    interval,
    load_claims,
    load_coverage,
    load_rows,
    markdown,
    number,
    pivot,
    save_claims,
    save_coverage,
    save_rows,
)

ROW = Row(
    paper="robust-generative",
    item="Table 1",
    row="PGD",
    column="DR",
    scale="quick",
    dataset="digits32",
    n=397,
    value=97.5,
    low=95.25,
    high=98.75,
    unit="%",
    reference=98.38,
    method="PGD, 40 steps",
)
CLAIM = Claim(
    id="lower-energy",
    statement="Attacked images have a lower |E|, or so",
    source="Sec. 4.1",
    quantity="difference",
    condition="< 0",
    value=-7.4,
    low=-8.0,
    high=-7.0,
    n=397,
    verdict="holds",
    note="",
)


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [
        ROW,
        replace(ROW, column="AUC", unit="", value=0.9876, low=None, high=None, reference=None, n=None),
        replace(ROW, row='a "quoted", comma', method="two\nlines; ε = 8/255"),
    ]
    save_rows(tmp_path / "deep/table1.csv", rows)
    assert load_rows(tmp_path / "deep/table1.csv") == rows


def test_claims_and_coverage_survive_the_file(tmp_path: Path) -> None:
    claims = [CLAIM, replace(CLAIM, id="open", value=None, low=None, high=None, n=None, verdict="not decided")]
    save_claims(tmp_path / "claims.csv", claims)
    assert load_claims(tmp_path / "claims.csv") == claims
    coverage = [Coverage(item="Table 1", what="detection", status="not at this scale", where="", note="")]
    save_coverage(tmp_path / "coverage.csv", coverage)
    assert load_coverage(tmp_path / "coverage.csv") == coverage


@pytest.mark.parametrize("field", ["value", "low", "high", "reference"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_value_that_is_not_finite_is_refused_and_nothing_written(tmp_path: Path, field: str, bad: float) -> None:
    with pytest.raises(UserError, match=rf"PGD / DR.*: {field} is -?(nan|inf)"):
        save_rows(tmp_path / "table1.csv", [ROW, replace(ROW, row="PGD / DR", **{field: bad})])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [None, "97.5"])
def test_a_value_that_is_no_number_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(UserError, match="value is"):
        save_rows(tmp_path / "table1.csv", [replace(ROW, value=value)])  # type: ignore[arg-type]


BORROWED = replace(ROW, row="LID (borrowed)", n=None, value=None, low=None, high=None, method="not ours")


def test_a_row_may_hold_the_papers_number_alone(tmp_path: Path) -> None:
    save_rows(tmp_path / "table1.csv", [ROW, BORROWED])
    assert load_rows(tmp_path / "table1.csv") == [ROW, BORROWED]
    text = markdown([ROW, BORROWED], "Table 1")
    assert "| LID (borrowed) | – | 98.38 |" in text
    assert "- PGD: n = 397\n" not in text  # n is said of all the cells that have one
    assert "- LID (borrowed): not ours\n" in text
    (column,) = pivot([BORROWED]).columns
    assert (column.has_interval, column.has_reference, column.decimals) == (False, True, 2)


@pytest.mark.parametrize("change", [{"reference": None}, {"n": 397}])
def test_a_row_that_lacks_a_value_it_should_have_is_refused(tmp_path: Path, change: dict[str, None]) -> None:
    with pytest.raises(UserError, match=r"LID \(borrowed\).*: value is missing; only a row that holds the paper's"):
        save_rows(tmp_path / "table1.csv", [replace(BORROWED, **change)])
    save_rows(tmp_path / "table1.csv", [replace(BORROWED, reference=98.38)])
    path = tmp_path / "table1.csv"
    path.write_text(path.read_text().replace(",98.38,", ",,"))
    with pytest.raises(UserError, match="line 2: value is '', not a number"):
        load_rows(path)


@pytest.mark.parametrize(("low", "high"), [(99.0, 98.0), (None, 98.0), (95.0, None)])
def test_half_an_interval_or_a_reversed_one_is_refused(tmp_path: Path, low: float | None, high: float | None) -> None:
    with pytest.raises(UserError, match="is no interval"):
        save_rows(tmp_path / "table1.csv", [replace(ROW, low=low, high=high)])


def test_two_rows_for_one_cell_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"two entries for .*PGD / DR"):
        save_rows(tmp_path / "table1.csv", [ROW, replace(ROW, value=1.0, low=None, high=None)])
    save_rows(tmp_path / "table1.csv", [ROW, replace(ROW, dataset="mnist")])


def test_an_unknown_verdict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="verdict is 'maybe'; one of holds, fails, not decided"):
        save_claims(tmp_path / "claims.csv", [replace(CLAIM, verdict="maybe")])  # type: ignore[arg-type]


def test_a_missing_table_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"table not found: .*table1\.csv; make it with `snakemake .*table1\.csv`"):
        load_rows(tmp_path / "table1.csv")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("value,", "valeu,", "columns are .*valeu.*; expected .*value"),
        (",97.5,", ",ninety,", "line 2: value is 'ninety', not a number"),
        (",97.5,", ",nan,", "line 2: value is nan, not a finite number"),
        (",97.5,", ",,", "line 2: value is '', not a number"),
        (",397,", ",397.5,", "line 2: n is '397.5', not a number"),
        (",98.38,", ",", "line 2 has 12 cells instead of 13"),
        ('"PGD, 40 steps"', '"PGD, 40 steps', "unexpected end of data"),
        ("PGD", "\udcff", "can't decode"),
    ],
)
def test_a_malformed_table_is_named_with_its_fault(tmp_path: Path, old: str, new: str, fault: str) -> None:
    path = tmp_path / "table1.csv"
    save_rows(path, [ROW])
    path.write_bytes(path.read_text().replace(old, new, 1).encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=rf"table1\.csv is not a readable table \(.*{fault}.*make it again"):
        load_rows(path)


def test_an_empty_file_and_a_bad_verdict_are_named(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    path.write_text("")
    with pytest.raises(UserError, match="columns are none"):
        load_claims(path)
    save_claims(path, [CLAIM])
    path.write_text(path.read_text().replace("holds", "may hold"))
    with pytest.raises(UserError, match="line 2: verdict is 'may hold', not one of holds, fails"):
        load_claims(path)


def test_pivot_puts_each_row_in_its_cell() -> None:
    rows = [
        ROW,
        replace(ROW, row="APGD", dataset="mnist"),
        replace(ROW, row="FGSM"),
        replace(ROW, row="FGSM", column="AUC", unit="", value=0.987, low=None, high=None, reference=None),
    ]
    table = pivot(rows)
    assert [(line.dataset, line.label) for line in table.lines] == [
        ("digits32", "PGD"),
        ("digits32", "FGSM"),
        ("mnist", "APGD"),
    ]
    assert [line.cells for line in table.lines] == [(rows[0], None), (rows[2], rows[3]), (rows[1], None)]
    assert [column.heading for column in table.columns] == ["DR (%)", "AUC"]
    assert [(column.has_interval, column.has_reference) for column in table.columns] == [(True, True), (False, False)]


def test_pivot_says_method_and_n_once_where_they_are_shared() -> None:
    table = pivot([ROW, replace(ROW, column="FPR"), replace(ROW, row="APGD", method="APGD", n=100)])
    assert table.methods == ((("PGD",), "PGD, 40 steps"), (("APGD",), "APGD"))
    assert table.counts == ((("PGD",), "n = 397"), (("APGD",), "n = 100"))
    assert pivot([ROW, replace(ROW, row="FGSM")]).methods == (((), "PGD, 40 steps"),)
    by_column = pivot([replace(ROW, row=row, column=column, n=len(column)) for row in "ab" for column in ("DR", "AUC")])
    assert by_column.counts == ((("DR",), "n = 2"), (("AUC",), "n = 3"))
    apgd = replace(ROW, row="APGD")
    mixed = pivot([ROW, replace(ROW, column="FPR", n=9), apgd, replace(apgd, column="FPR")])
    assert mixed.counts == ((("PGD, DR", "APGD"), "n = 397"), (("PGD, FPR",), "n = 9"))


def test_markdown_has_ours_the_interval_and_the_papers_value_side_by_side() -> None:
    text = markdown([ROW, replace(ROW, row="|E|", value=-3.0, low=-4.0, high=-2.0, reference=None)], "Table 1: DR")
    lines = text.splitlines()
    assert lines[0] == "Table 1: DR"
    assert lines[2] == "|  | DR (%), ours | paper |"
    assert lines[4] == "| PGD | 97.50 [95.25, 98.75] | 98.38 |"
    assert lines[5] == r"| \|E\| | −3.00 [−4.00, −2.00] | – |"
    assert {"- dataset: digits32", "- n = 397", "- PGD, 40 steps"} <= set(lines)
    several = markdown([ROW, replace(ROW, dataset="mnist", column="AUC", unit="")], "both")
    assert "| mnist | PGD | – | – | 97.50 [95.25, 98.75] | 98.38 |" in several


def test_claims_markdown_names_every_verdict() -> None:
    failing = replace(CLAIM, id="other", verdict="fails", value=None, low=None, high=None, n=None)
    text = claims_markdown([CLAIM, failing], "Claims")
    assert "| holds | difference | −7.400 [−8.000, −7.000] | < 0 | 397 |" in text
    assert "| fails | difference | – | < 0 | – |" in text
    assert r"a lower \|E\|, or so" in text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 2, "–"),
        (0.0, 2, "0.00"),
        (-0.0, 2, "0.00"),
        (-1.5, 1, "−1.5"),
        (0.0004, 2, "0.0004"),
        (1234.5, 0, "1234"),
    ],
)
def test_number(value: float | None, digits: int, text: str) -> None:
    assert number(value, digits) == text


@example(0.005859375)
@given(st.floats(min_value=1e-9, max_value=1e9))
def test_decimals_keep_three_digits_below_a_thousandth_else_four_decimals(value: float) -> None:
    rounding = 5.1e-5 if value >= 1e-3 else 0
    assert float(number(value, decimals([value]))) == pytest.approx(value, rel=0.006, abs=rounding)
    assert decimals([value], "%") == 2


def test_interval_is_empty_without_ends() -> None:
    assert interval(None, None) == ""
    assert interval(-0.5, 1.0, 1) == "[−0.5, 1.0]"


def test_counts_have_no_decimals() -> None:
    rows = [
        replace(ROW, column="updates", unit="", value=float(k), low=None, high=None, reference=40) for k in (15, 20)
    ]
    rows = [replace(row, row=f"attack {k}") for k, row in enumerate(rows)]
    assert "| attack 1 | 20 | 40 |" in markdown(rows, "Table")
