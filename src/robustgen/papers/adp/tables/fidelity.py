"""What the released code does otherwise than the paper, and the step sizes that were tuned for σ = 0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import proportion_difference
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.tables.accuracy import both
from robustgen.papers.adp.tables.lines import NATURAL, ROBUST, table_of
from robustgen.papers.adp.words import SHOWN
from robustgen.papers.studies import accuracy, common
from robustgen.papers.tables import Table

PAPERS, RELEASED, DIFFERENCE = "The paper's choices", "The released code's choices", "Released − paper's"
CONTRAST, PROBE = "Contrast after T steps", "Contrast after T steps, grey probe"
STRETCH = 256 / 255  # of one way out of the released code's pixel grid
PROBES = {CONTRAST: "the test images", PROBE: "the test images at half their contrast, which nothing clips"}
ARRAYS = {  # (line, column): array of a scores file
    (PAPERS, CONTRAST): "drift_paper",
    (RELEASED, CONTRAST): "drift",
    (RELEASED, PROBE): "drift_grey",
}


def fidelity(found: Measured) -> list[Row]:
    """Both choices under one attack, what a score of 0 does to contrast, and the sweep of fixed step sizes."""
    table = table_of("Released code", found)
    rows: list[Row] = []
    for line, column in ARRAYS:
        rows += _contrast(table, found, line, column)
    made = {PAPERS: found.against("bpda"), RELEASED: found.under(found.released)}
    for line, attacked in made.items():
        rows += [] if attacked is None else both(table, found, line, attacked)
    if (first := made[PAPERS]) is not None and (second := made[RELEASED]) is not None:
        ours, theirs = common([first.study, second.study])
        pairs = {NATURAL: (second.natural, first.natural), ROBUST: (second.robust, first.robust)}
        for column, (released, papers) in pairs.items():
            estimate = proportion_difference(released[theirs], papers[ours])
            rows.append(table.row(found.dataset, DIFFERENCE, column, estimate, "on the images that both saw"))
    return [*rows, *_tuning(table, found)]


def _contrast(table: Table, found: Measured, line: str, column: str) -> Iterator[Row]:
    """Contrast after the run's T steps; beside that of the probe what the grid alone makes of so many steps."""
    data, array = found.scores, ARRAYS[line, column]
    if data is None or not data.has(array):
        yield from table.alone(SHOWN, line, column, found.dataset, "")
        return
    drift = data[array]
    steps = len(drift) - 1
    method = f"root mean square of x − 0.5 over {PROBES[column]}, relative to the start, after {steps} steps of score 0"
    row = table.number(found.dataset, line, column, float(drift[-1]), "", method, SHOWN)
    if (line, column) == (RELEASED, PROBE) and steps:
        beside = STRETCH ** (steps - 1)
        method += f"; the number beside: (256/255)^{steps - 1}, of a grid that is entered once and left {steps} times"
        row = replace(row, reference=beside, method=method)
    yield row


def _tuning(table: Table, found: Measured) -> Iterator[Row]:
    data = found.scores
    if data is None or not data.tuned:
        return
    sweep = zip(data["tuning_alpha"], data["tuning_natural"], data["tuning_adversarial"], strict=True)
    for step, natural, adversarial in sweep:
        words = ["σ 0"] + ([f"T {data.tuned_steps}"] if data.tuned_steps else [])
        words += ["validation images, PGD on the classifier alone"]
        words += ["the best of these steps, by the sum of both accuracies"] if step == data.best_step else []
        for column, right in ((NATURAL, natural), (ROBUST, adversarial)):
            line = f"Fixed step α = {step:g} at σ = 0"
            yield table.row(found.dataset, line, column, accuracy(right), ", ".join(words))
