"""Rows that hold a number of the paper's and none of ours, as the page shows them."""

from __future__ import annotations

import re
from pathlib import Path


def test_a_number_of_the_papers_alone_stands_beside_a_dash(page: Path) -> None:
    line = next(row for row in page.read_text().split("<tr>") if "LID (borrowed)" in row)
    cells = re.findall(r"<td class=\"([^\"]*)\">([^<]*)</td>", line)
    assert cells[:3] == [("n first", "–"), ("ci", ""), ("n ref", "98.38")]


def test_data_that_were_not_run_are_not_listed_as_run(page: Path) -> None:
    text = page.read_text()
    listed = re.search(r"<dt>Data</dt><dd>([^<]*)</dd>", text)
    assert listed is not None
    assert listed[1] == "digits, 32×32; digits, 8×8 (control)"
    assert "<span>CIFAR-10</span>" in text  # its lines are there all the same
