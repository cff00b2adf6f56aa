"""Tables 2 and 4, and the rates behind Figures 3 and 5 at one threshold: distortion, detection, classification."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import mean
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import Detection, Distortion, share
from robustgen.papers.gat.tables.lines import (
    ACCEPTED,
    DISTORTION,
    ERROR,
    LINF_LARGE,
    LINF_SMALL,
    REACHED,
    SOFTMAX,
    STANDARD,
    WORST,
    table_of,
)
from robustgen.papers.gat.words import ATTACKS, CIFAR, MNIST, SHARE, WAYS
from robustgen.papers.tables import Table

RADII = ("trained radius", "larger radius")
STATE_OF_THE_ART = "Carlini & Wagner 2017 (borrowed)"
CIFAR_STATE_OF_THE_ART = "state of the art (borrowed)"
MULTI = {"integrated": "multi-integrated", "generative": "multi-generative"}


def table2(found: Measured) -> list[Row]:
    """Mean L2 distortion of the detectors trained from scratch."""
    table, mnist = table_of("Table 2", found.scale), found.mnist
    rows = list(_borrowed(table, MNIST, STATE_OF_THE_ART, mnist.dataset))
    for role, study in ((LINF_SMALL, mnist.distortion_small), (LINF_LARGE, mnist.distortion_large)):
        rows += _distortion(table, mnist.dataset, MNIST, role, study)
    return rows


def table4(found: Measured) -> list[Row]:
    """The same of the fine-tuned ones."""
    table, cifar = table_of("Table 4", found.scale), found.cifar
    rows = list(_borrowed(table, CIFAR, CIFAR_STATE_OF_THE_ART, cifar.dataset))
    return [*rows, *_distortion(table, cifar.dataset, CIFAR, LINF_LARGE, cifar.distortion)]


def _borrowed(table: Table, shown: str, line: str, dataset: str) -> Iterator[Row]:
    yield from table.alone(shown, line, DISTORTION, dataset or shown, "")


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
    """Error of every way under every attack at the threshold that accepts 95 % of the validation images."""
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


def _absent(table: Table, shown: str, dataset: str) -> Iterator[Row]:
    """The paper's and Tramèr et al.'s numbers alone."""
    yield from table.alone(shown, natural_line(shown, SOFTMAX), STANDARD, dataset or shown)
    for radius in RADII:
        yield from table.alone(shown, line_of(shown, radius, SOFTMAX, "PGD"), ERROR, dataset or shown)
        for way in WAYS:
            line = line_of(shown, radius, way, ATTACKS[MULTI[way]].name)
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
        threshold, line = study.threshold(way), natural_line(shown, way)
        method = f"threshold {threshold:.4g} accepts {SHARE:.0%} of {study.validated} validation images"
        right, (_, logit) = study.right(way), study.natural(way)
        yield table.row(dataset, line, ACCEPTED, share(logit >= threshold), method, shown)
        yield table.row(dataset, line, STANDARD, share(right >= threshold), method, shown)
        yield table.row(dataset, line, ERROR, share((logit >= threshold) & ~np.isfinite(right)), method, shown)
        for radius, eps in zip(RADII, study.radii, strict=False):
            yield from _attacked(table, shown, dataset, study, way, radius, eps)
    if (correct := study.rival_right) is not None:
        yield table.row(dataset, natural_line(shown, SOFTMAX), STANDARD, share(correct), "accepts every image", shown)
    for radius, eps in zip(RADII, study.radii, strict=False):
        if (wrong := study.rival_wrong(eps)) is not None:
            method = f"wrong as it is, or under PGD of cross-entropy or of the CW margin, {study.settings(eps)}"
            yield table.row(dataset, line_of(shown, radius, SOFTMAX, "PGD"), ERROR, share(wrong), method, shown)


def _attacked(
    table: Table, shown: str, dataset: str, study: Detection, way: str, radius: str, eps: float
) -> Iterator[Row]:
    settings = f"{study.settings(eps)}; threshold {study.threshold(way):.4g}"
    for attack in study.attacks(eps):
        kind = ATTACKS[attack]
        if attack in MULTI.values() and attack != MULTI[way]:
            continue  # made for the other way; it counts among the worst
        passing = share(study.passing(way, eps, attack))
        yield table.row(dataset, line_of(shown, radius, way, kind.name), ERROR, passing, settings, shown)
    words = f"image by image over every attack made, whichever way it was made for; {settings}"
    passing = share(study.passing(way, eps, None))
    yield table.row(dataset, line_of(shown, radius, way, WORST), ERROR, passing, words, shown)
