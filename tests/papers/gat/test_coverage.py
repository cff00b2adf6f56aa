"""How far each item of the paper is reproduced."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from robustgen.papers.gat import PAPER
from robustgen.papers.gat.coverage import coverage
from robustgen.papers.gat.measured import Cifar, Measured


def test_coverage_has_a_line_per_item(right: Measured, bare: Measured) -> None:
    found = {line.item: line for line in coverage(right)}
    assert found.keys() == {line.item for line in coverage(bare)}
    assert {f"Table {number}" for number in range(1, 19)} <= found.keys()
    assert {f"Figure {number}" for number in range(1, 22)} <= found.keys()
    artifacts = {artifact.name for artifact in PAPER.artifacts} | {""}
    assert {line.where for line in found.values()} <= artifacts
    assert found["Figure 17"].status == "not reproducible"
    assert "without 16 pairs" not in found["Table 8"].note
    assert "all 10000 test images (n 400)" in found["Table 8"].note
    assert "CIFAR-10 not at this scale" in found["Table 3"].note
    assert "5 settings (here 2)" in found["Table 3"].note
    assert "2 data sets" not in found["Figure 20"].note
    for words in ("50000 updates (here 500)", "batches of 1000 (here 64)", "4 data sets (here 2)"):
        assert words in found["Figure 21"].note
    assert "batches of 500 (here 64)" in found["Figure 20"].note


def test_coverage_of_nothing(bare: Measured) -> None:
    statuses = {line.item: line.status for line in coverage(bare)}
    ever = {"Figure 1", "Figure 2", "Figure 17", "Appendix E"}
    assert {item for item, status in statuses.items() if status != "not at this scale"} == ever


def test_the_papers_own_scale_is_reproduced(build: Callable[..., Measured]) -> None:
    settings = {"n": 10000, "dataset": "MNIST", "cifar_dataset": "CIFAR-10", "updates": 50000, "batch": 1000}
    found = {line.item: line.status for line in coverage(build(**settings, lengths=6))}
    tables = {1, 2, 4, 5, 6, 7, 8, 9, 12, 13, 14, 17, 18}
    figures = {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20}
    complete = {f"Table {number}" for number in tables} | {f"Figure {number}" for number in figures}
    assert {item for item, status in found.items() if status == "reproduced"} == complete
    partly = {
        "Table 3",
        "Table 10",
        "Table 11",
        "Table 15",
        "Table 16",
    }  # the made data have 4 classes, Table 3 2 lines
    assert {item for item, status in found.items() if status == "partly"} == {*partly, "Figure 21", "Appendix E"}


def test_dogs_are_counted(build: Callable[..., Measured]) -> None:
    found = build(lengths=6)
    cut = replace(found, imagenet=replace(found.imagenet, synthesis=found.imagenet.synthesis[:2]))
    lines = {line.item: line for line in coverage(cut)}
    assert (lines["Figure 15"].status, lines["Figure 18"].status) == ("partly", "reproduced")
    assert "5 panels of detectors (here 2)" in lines["Figure 15"].note
    none = {line.item: line for line in coverage(replace(found, imagenet=replace(found.imagenet, synthesis=())))}
    assert {none[item].status for item in ("Figure 16", "Figure 18")} == {"not at this scale"}


def test_coverage_of_searches_is_of_both_data_sets(build: Callable[..., Measured]) -> None:
    found = build(n=10000, dataset="MNIST", cifar_dataset="CIFAR-10")
    tuned = found.cifar.distortion
    assert tuned is not None
    without = replace(found, cifar=replace(found.cifar, distortion=None))
    search = {**tuned.config["search"], "depth": 21, "steps": 99}
    config = np.array(json.dumps({**tuned.config, "search": search}))
    shallow = replace(tuned, arrays={**tuned.arrays, "config": config})
    alone = replace(without, cifar=Cifar())
    for changed, words in (
        (without, "CIFAR-10's L∞ large"),
        (alone, "on MNIST; MNIST and CIFAR-10 not at this scale"),
        (
            replace(found, cifar=replace(found.cifar, distortion=shallow)),
            "20 bisections of 100 updates (here 21 of 99)",
        ),
    ):
        line = {line.item: line for line in coverage(changed)}["Table 6"]
        assert line.status == "partly"
        assert words in line.note


def test_coverage_asks_for_all_of_table_17(build: Callable[..., Measured]) -> None:
    found = build(n=10000, cifar_dataset="CIFAR-10")
    coarse = found.cifar.coarse
    assert coarse is not None
    other = np.where(coarse.arrays["steps"] == 40, 41, coarse.arrays["steps"])
    changed = replace(coarse, arrays={**coarse.arrays, "steps": other})
    line = {line.item: line for line in coverage(replace(found, cifar=replace(found.cifar, coarse=changed)))}[
        "Table 17"
    ]
    assert line.status == "partly"
    assert "without coarse training steps under d1, attack 2" in line.note
