"""Tables 2 and 4, and the rates behind Figures 3 and 5 at one threshold: distortion, detection, classification."""

from __future__ import annotations

from collections.abc import Iterator

from robustgen.evaluation.detection import accuracy, false_positive_rate, true_positive_rate
from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import mean
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import Detection, Distortion, share
from robustgen.papers.gat.tables.lines import ACCEPTED, DISTORTION, ERROR, REACHED, STANDARD, table_of
from robustgen.papers.gat.words import (
    ATTACKS,
    BUDGETED,
    CIFAR,
    LINF_LARGE,
    LINF_SMALL,
    MNIST,
    MULTI,
    SHARE,
    SOFTMAX,
    STATE_OF_THE_ART,
    WAYS,
    WORST,
)
from robustgen.papers.tables import Table

RADII = ("trained radius", "larger radius")


def table2(found: Measured) -> list[Row]:
    """Mean L2 distortion of the detectors trained from scratch."""
    table, mnist = table_of("Table 2", found.scale), found.mnist
    rows = list(_borrowed(table, MNIST, mnist.dataset))
    for role, study in ((LINF_SMALL, mnist.distortion_small), (LINF_LARGE, mnist.distortion_large)):
        rows += _distortion(table, mnist.dataset, MNIST, role, study)
    return rows


def table4(found: Measured) -> list[Row]:
    """The same of the fine-tuned ones."""
    table, cifar = table_of("Table 4", found.scale), found.cifar
    rows = list(_borrowed(table, CIFAR, cifar.dataset))
    return [*rows, *_distortion(table, cifar.dataset, CIFAR, LINF_LARGE, cifar.distortion)]


def _borrowed(table: Table, shown: str, dataset: str) -> Iterator[Row]:
    yield from table.alone(shown, STATE_OF_THE_ART[shown], DISTORTION, dataset or shown, "")


def _distortion(table: Table, dataset: str, shown: str, role: str, study: Distortion | None) -> Iterator[Row]:
    line = f"generative detection, {role}"
    if study is None:
        yield from table.alone(shown, line, DISTORTION, dataset or shown, "")
        yield from table.alone(shown, line, REACHED, dataset or shown)
        return
    reached = study.distance[study.reached]
    method = f"{study.method}; mean over the {len(reached)} of {len(study.distance)} images that became false positives"
    if len(reached) > 1:
        yield table.number(dataset, line, DISTORTION, mean(reached), "", method, shown)
    elif len(reached):
        yield table.number(dataset, line, DISTORTION, float(reached[0]), "", method, shown)
    yield table.row(dataset, line, REACHED, share(study.reached), study.method, shown)


def detection(found: Measured) -> list[Row]:
    """Error of every way under every attack at the threshold that accepts 95 % of the validation images, and under
    the multi-targeted attacks at that of Tramèr et al. 2020.
    """
    table = table_of("Figures 3 and 5", found.scale)
    sections = (
        (MNIST, found.mnist.dataset, found.mnist.detection),
        (CIFAR, found.cifar.dataset, found.cifar.detection),
    )
    rows: list[Row] = []
    for shown, dataset, study in sections:
        rows += _absent(table, shown, dataset) if study is None else _rates(table, shown, dataset, study)
    return rows


def line_of(shown: str, radius: str, way: str, attack: str) -> str:
    """The name of a line of this table."""
    return f"{shown}'s recipe: {way}, {radius}, {attack}"


def natural_line(shown: str, way: str) -> str:
    """The name of a line of natural images."""
    return f"{shown}'s recipe: {way}, natural images"


def budgeted(line: str) -> str:
    """The name of the same line at the threshold of Tramèr et al. 2020."""
    return f"{line}, {BUDGETED}"


def _absent(table: Table, shown: str, dataset: str) -> Iterator[Row]:
    """The paper's and Tramèr et al.'s numbers alone."""
    yield from table.alone(shown, natural_line(shown, SOFTMAX), STANDARD, dataset or shown)
    for radius in RADII:
        yield from table.alone(shown, line_of(shown, radius, SOFTMAX, "PGD"), ERROR, dataset or shown)
        for way in WAYS:
            line = budgeted(line_of(shown, radius, way, ATTACKS[MULTI[way]]))
            yield from table.alone(shown, line, ERROR, dataset or shown)


def _rates(table: Table, shown: str, dataset: str, study: Detection) -> Iterator[Row]:
    seen: set[str] = set()
    for row in _all_rates(table, shown, dataset, study):
        seen.add(row.row)
        yield row
    for row in _absent(table, shown, dataset):
        if row.row not in seen:
            yield row


def _all_rates(table: Table, shown: str, dataset: str, study: Detection) -> Iterator[Row]:
    for way in WAYS:
        line, checked = natural_line(shown, way), f"{study.validated} validation images"
        accepting, costing = study.threshold(way), study.budget_threshold(way)
        method = f"threshold {accepting:.4g} accepts {SHARE:.0%} of {checked}"
        yield from _natural(table, shown, dataset, study, way, accepting, line, method)
        method = f"threshold {costing:.4g}, the largest with at most {BUDGETED} on {checked}"
        yield from _natural(table, shown, dataset, study, way, costing, budgeted(line), method)
        for radius, eps in zip(RADII, study.radii, strict=False):
            yield from _attacked(table, shown, dataset, study, way, radius, eps)
    line = natural_line(shown, SOFTMAX)
    yield table.row(dataset, line, STANDARD, share(study.rival_right), "accepts every image", shown)
    for radius, eps in zip(RADII, study.radii, strict=False):
        method = f"wrong as it is, or under PGD of cross-entropy or of the CW margin, {study.settings(eps)}"
        wrong = share(study.rival_wrong(eps))
        yield table.row(dataset, line_of(shown, radius, SOFTMAX, "PGD"), ERROR, wrong, method, shown)


def _natural(
    table: Table, shown: str, dataset: str, study: Detection, way: str, threshold: float, line: str, method: str
) -> Iterator[Row]:
    predicted, logit = study.natural(way)
    shares = {
        ACCEPTED: true_positive_rate(logit, threshold),
        STANDARD: accuracy(predicted, logit, study.labels, threshold),
        ERROR: false_positive_rate(predicted, logit, study.labels, threshold),
    }
    for column, estimate in shares.items():
        yield table.row(dataset, line, column, estimate, method, shown)


def _attacked(
    table: Table, shown: str, dataset: str, study: Detection, way: str, radius: str, eps: float
) -> Iterator[Row]:
    fitted = f"threshold {study.threshold(way):.4g}"
    points = study.at(eps)
    for attack, point in points.items():
        if attack in MULTI.values() and attack != MULTI[way]:
            continue  # made for the other way; it counts among the worst
        line, method = line_of(shown, radius, way, ATTACKS[attack]), study.method(point)
        predicted, logit = study.attacked(way, point)
        passing = false_positive_rate(predicted, logit, study.labels, study.threshold(way))
        yield table.row(dataset, line, ERROR, passing, f"{method}; {fitted}", shown)
        if attack == MULTI[way]:
            costing = study.budget_threshold(way)
            passing = false_positive_rate(predicted, logit, study.labels, costing)
            yield table.row(dataset, budgeted(line), ERROR, passing, f"{method}; threshold {costing:.4g}", shown)
    how = "; ".join(dict.fromkeys(study.method(point) for point in points.values()))
    words = f"image by image over every attack made, whichever way it was made for; {how}; {fitted}"
    passing = share(study.passing(way, eps, None))
    yield table.row(dataset, line_of(shown, radius, way, WORST), ERROR, passing, words, shown)
