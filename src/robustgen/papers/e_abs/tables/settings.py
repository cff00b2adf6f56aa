"""Sec. 4.2, 3.3 and App. B: attacks and inference as they were set here, beside the paper's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robustgen.evaluation.rows import Row
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables import sweeps
from robustgen.papers.e_abs.tables.implemented import model_of
from robustgen.papers.e_abs.tables.lines import shown, table_of
from robustgen.papers.e_abs.words import (
    ABS,
    E_ABS,
    GRADIENT_FREE,
    LEVEL,
    NORM_ORDER,
    PAPERS_ATTACKS,
    STARTED,
    SVHN,
    is_random,
    line,
)
from robustgen.papers.tables import Table

RADIUS, STEPS, STARTS, RUNS, BINARY = "radius", "steps", "random starts", "EOT runs", "binary searches"
ATTACK = (RADIUS, STEPS, STARTS, RUNS, BINARY)  # columns of attacks
IMAGES, TEST, ALPHA = "test images", "McNemar's test", "α"
CANDIDATES, ENCODER, SAMPLES, ITERATIONS = (
    "random candidates",
    "candidates of the encoder",
    "samples of the expectation",
    "iterations",
)
INFERENCE = (CANDIDATES, ENCODER, SAMPLES, ITERATIONS)


def attacks(found: Measured) -> list[Row]:
    """Every attack on E-ABS in Tables 1-4, its inference and ABS's, and the attacks of Sec. 5 and App. B."""
    table = table_of("Sec. 4.2", found.scale)
    rows: list[Row] = []
    for paper, made in found.tables.items():
        study = made.models.get(E_ABS)
        for norm in NORM_ORDER:
            for attack in PAPERS_ATTACKS[norm]:
                name, point = line(norm, attack), None if study is None else study.main_point(attack, norm)
                rows += _line(table, made.dataset, paper, name, ATTACK, settings(study, point))
        count = {IMAGES: float(len(study.labels))} if study is not None else {}
        rows += _line(table, made.dataset, paper, "all attacks", (IMAGES,), count)
        rows += _line(table, made.dataset, paper, TEST, (ALPHA,), {ALPHA: LEVEL} if len(made.models) > 1 else {})
        for model in (ABS, E_ABS):
            dataset, each = model_of(found, paper, model)
            values = {} if each is None else inference(each.config)
            rows += _line(table, dataset, paper, f"inference: {model}", INFERENCE, values)
    return [*rows, *_free(table, found), *_sweeps(table, found)]


def settings(study: AttackStudy | None, point: int | None) -> dict[str, float]:
    """The settings of a grid point, by column."""
    if study is None or point is None:
        return {}
    options = study.options(point)
    found = {RADIUS: float(options["eps"]), STEPS: float(options["steps"])}
    found |= {STARTS: float(options["restarts"])} if options["attack"] in STARTED else {}
    found |= {RUNS: float(options["draws"])} if is_random(study.config) and options["attack"] != "noise" else {}
    return found | ({BINARY: float(study.config["details"]["searches"])} if options["attack"] == "cw" else {})


def inference(config: Mapping[str, Any]) -> dict[str, float]:
    """How analysis by synthesis infers latents, by column."""
    options = config["inference"]
    found = {CANDIDATES: float(options["candidates"]), ENCODER: float(options["encoder"])}
    found |= {ITERATIONS: float(options["iterations"])}
    return found | ({SAMPLES: float(options["draws"])} if options["variational"] else {})


def _free(table: Table, found: Measured) -> Iterator[Row]:
    section = found.gradient_free
    for attack, (name, norm) in GRADIENT_FREE.items():
        there = section.study is not None and section.study.has(attack=attack, norm=norm)
        point = section.study.point(attack=attack, norm=norm) if section.study is not None and there else None
        yield from _line(table, section.dataset, SVHN, name, ATTACK, settings(section.study, point))


def _sweeps(table: Table, found: Measured) -> Iterator[Row]:
    """What the sweeps of App. B keep fixed; the option that they vary is left out."""
    section, kinds = found.sweeps, {RUNS: sweeps.OF_EOT, STARTS: sweeps.OF_STARTS, STEPS: sweeps.OF_STEPS}
    for option, sweep in kinds.items():
        study = sweep.study(section)
        point = None if study is None else next(iter(sweep.points(study).values()), None)
        fixed = {column: value for column, value in settings(study, point).items() if column != option}
        fixed |= {IMAGES: float(len(study.labels))} if study is not None else {}
        columns = tuple(column for column in (*ATTACK, IMAGES) if column != option)
        yield from _line(table, section.dataset, SVHN, f"sweep of {option}", columns, fixed)


def _line(
    table: Table, dataset: str, paper: str, name: str, columns: tuple[str, ...], values: Mapping[str, float]
) -> Iterator[Row]:
    for column in columns:
        yield from shown(table, dataset, paper, name, column, values.get(column), "", "as it was set")
