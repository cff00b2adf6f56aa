"""How far each item of the paper is reproduced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from robustgen.evaluation.rows import Coverage
from robustgen.papers.e_abs import PAPER
from robustgen.papers.e_abs.coverage import coverage
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy


def lines(found: Measured) -> dict[tuple[str, str], Coverage]:
    return {(line.item, line.what): line for line in coverage(found)}


def first(found: Measured) -> dict[str, Coverage]:
    """The first line of every item."""
    return {line.item: line for line in reversed(coverage(found))}


def test_coverage_has_a_line_per_item(measured: Measured, bare: Measured) -> None:
    found = lines(measured)
    assert found.keys() == lines(bare).keys()
    items = {item for item, _ in found}
    assert {f"Table {number}" for number in range(1, 10)} | {f"Figure {number}" for number in range(1, 6)} <= items
    assert {line.where for line in found.values()} <= {artifact.name for artifact in PAPER.artifacts} | {""}
    note = found["Table 1", "five models under all attacks"].note
    assert "on digits 16×16; MNIST not at this scale" in note
    assert "1000 test images (n 400)" in note
    assert "random starts" not in note
    assert "L2 PGD of 20 random starts (here 5)" in found["Table 4", "five models under all attacks"].note
    assert "without 10 random starts, 15 random starts" in found["Table 7", "random starts"].note
    assert "100 steps, 500 steps" in found["Table 8", "steps"].note
    assert "200 test images" not in found["Table 8", "steps"].note
    assert "Boundary attack of 100000 steps (here 10000)" in found["Sec. 5", "gradient-free attacks"].note
    assert "(18 of 38 numbers agree)" in found["Table 9", "network for MNIST"].note
    assert found["Figure 4", "adversarial examples"].status == "partly"


def test_coverage_of_nothing(bare: Measured) -> None:
    statuses = {line.item: line.status for line in coverage(bare)}
    assert {item for item, status in statuses.items() if status != "not at this scale"} == {"Figure 1", "Figure 2"}


def test_more_images_on_the_papers_data_reproduce_it(build: Callable[..., Measured]) -> None:
    found = build(n=1000, dataset="SVHN", restarts=dict.fromkeys((5, 10, 15, 20, 50), 0.57),
                  steps=dict.fromkeys((10, 30, 50, 100, 200, 500), 0.57))  # fmt: skip
    status = {item: line.status for item, line in first(found).items()}
    reproduced = {"Table 2", "Table 5", "Table 6", "Table 7", "Table 8", "Figure 3", "Figure 5", "Sec. 3.4"}
    assert {item for item, value in status.items() if value == "reproduced"} == reproduced
    note = first(found)["Table 4"].note
    assert note == (
        "on SVHN; without L∞ PGD of radius 0.031373 (here 0.1), L∞ PGD of 20 random starts (here 5), "
        "L∞ DeepFool of radius 0.031373 (here 0.1), L∞ noise of radius 0.031373 (here 0.1), "
        "L2 PGD of 20 random starts (here 5)"
    )
    tests = [line for line in coverage(found) if line.what == "McNemar's test"]
    assert [line.item for line in tests if line.status == "reproduced"] == ["Table 2"]
    assert tests[-1].note == "on SVHN; without attacks set as the paper's"


def test_mcnemars_tests_are_of_what_the_table_has(build: Callable[..., Measured]) -> None:
    notes = {line.item: line.note for line in coverage(build(n=200)) if line.what == "McNemar's test"}
    assert notes["Table 2"] == "on Fashion-MNIST; without 1000 test images (n 200)"


def test_a_table_is_whole_with_the_papers_settings(
    measured: Measured, build: Callable[..., Measured], altered: Callable[..., AttackStudy]
) -> None:
    fashion = build(n=1000).fashion_mnist  # radii 0.1 and 1.5, 5 starts: the paper's
    found = replace(measured, fashion_mnist=fashion)
    assert first(found)["Table 2"].status == "reproduced"
    without = first(replace(found, fashion_mnist=replace(fashion, cnn=None)))["Table 2"]
    assert (without.status, without.note) == ("partly", "on Fashion-MNIST; without CNN")
    e_abs = fashion.e_abs
    assert e_abs is not None
    fewer = altered(e_abs, steps=np.where(e_abs.arrays["attack"] == "pgd", 40, 100))
    weaker = first(replace(found, fashion_mnist=replace(fashion, e_abs=fewer)))["Table 2"]
    assert "without L∞ PGD of 80 steps (here 40), L2 PGD of 80 steps (here 40)" in weaker.note
    searches = altered(e_abs, {"details": {**e_abs.config["details"], "searches": 4}})
    shorter = first(replace(found, fashion_mnist=replace(fashion, e_abs=searches)))["Table 2"]
    assert shorter.note == "on Fashion-MNIST; without L2 CW of 5 binary searches (here 4)"
