from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from robustgen.errors import UserError
from robustgen.papers import base
from robustgen.papers.base import Artifact, Paper

TABLE = Artifact(name="table1", item="Table 1", kind="table", title="Detection", caption="Rates.")
PAPER = Paper(slug="some-paper", title="T", authors="A", year=2020, venue="V", artifacts=(TABLE,))


def test_artifacts_are_found_by_name() -> None:
    assert PAPER.artifact("table1") is TABLE
    with pytest.raises(KeyError):
        PAPER.artifact("table2")


@pytest.mark.parametrize("name", ["", "Table1", "a b", "a/b", "../a"])
def test_names_that_make_no_file_or_anchor_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        replace(TABLE, name=name)
    with pytest.raises(ValueError, match="lower-case"):
        replace(PAPER, slug=name)


def test_an_unknown_kind_and_a_name_used_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        replace(TABLE, kind="chart")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="named twice: table1"):
        replace(PAPER, artifacts=(TABLE, TABLE))


def test_the_registry_knows_each_paper_by_its_slug() -> None:
    found = base.papers()
    assert all(paper.slug == slug and paper.artifacts for slug, paper in found.items())


def test_an_unknown_paper_is_named_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "papers", lambda: {PAPER.slug: PAPER})
    assert base.paper("some-paper") is PAPER
    with pytest.raises(UserError, match="unknown paper 'other'; known: some-paper"):
        base.paper("other")


def test_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys; from robustgen.papers import papers; papers(); "
        "print(*{'torch', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
