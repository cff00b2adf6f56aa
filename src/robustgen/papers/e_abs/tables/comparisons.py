"""Tables 1-4: five models on four data sets under every attack, and McNemar's test of every pair of models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import proportion_difference
from robustgen.papers.e_abs.measured import Comparison, Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables.lines import clean_method, percent, recipe, table_of
from robustgen.papers.e_abs.words import (
    ATTACKS,
    CLEAN,
    E_ABS,
    FASHION,
    LEVEL,
    MNIST,
    MODELS,
    NORM_ORDER,
    NOT_SIGNIFICANT,
    PAPERS_ATTACKS,
    SVHN,
    TABLES,
    TRAFFIC,
    all_line,
    is_random,
    line,
    radius_words,
)
from robustgen.papers.studies import accuracy
from robustgen.papers.tables import Table

AGAIN = f"{CLEAN}, by another inference"
SMALL = "L2 PGD, small radius"  # footnote 3
ELSEWHERE = {  # numbers in footnote 3 and Sec. 7 that stand below a table: data set, line, column; and the line here
    TRAFFIC: {("GTSRB", f"Croce et al. 2018: {SMALL} (borrowed)", "Accuracy"): ""},
    SVHN: {
        (SVHN, "Guo et al. 2019: L∞ PGD (borrowed)", "Accuracy"): "",
        ("CIFAR-10", CLEAN, E_ABS): "Clean (not run here)",
    },
}
DIFFERENCE, P, HOLM, SIGNIFICANT = "difference", "p", "p, Holm", "significant"


def five_models(found: Measured, paper: str) -> list[Row]:
    """Natural accuracy and accuracy under every attack at the tables' radii, and what the paper sets beside it."""
    table, made = table_of(TABLES[paper], found.scale), found.tables[paper]
    rows = list(_clean(table, made, paper))
    for norm in NORM_ORDER:
        rows += _norm(table, made, paper, norm)
    rows += _small_radius(table, made, paper)
    for cell, name in ELSEWHERE.get(paper, {}).items():
        where = made.dataset if cell[0] == paper else ""
        rows += [replace(row, row=name or row.row) for row in table.alone(*cell, where or cell[0])]
    return rows


table1 = partial(five_models, paper=MNIST)
table2 = partial(five_models, paper=FASHION)
table3 = partial(five_models, paper=TRAFFIC)
table4 = partial(five_models, paper=SVHN)


def _clean(table: Table, made: Comparison, paper: str) -> Iterator[Row]:
    for model in MODELS:
        if (study := made.clean.get(model)) is None:
            yield from table.alone(paper, CLEAN, model, made.dataset or paper)
        else:
            yield table.row(made.dataset, CLEAN, model, accuracy(study.natural), clean_method(study), paper)
    for model, study in made.clean.items():
        if is_random(study.config):
            method = "the inference that looks for errors, on the same images"
            yield table.row(made.dataset, AGAIN, model, accuracy(study.control), method)


def _norm(table: Table, made: Comparison, paper: str, norm: str) -> Iterator[Row]:
    """The paper's attacks of a norm and all of them together, then ours and all of those."""
    for attack in PAPERS_ATTACKS[norm]:
        yield from _attack(table, made, paper, norm, attack)
    yield from _all(table, made, paper, norm, ours=False)
    ours = [attack for attack in ATTACKS if attack not in PAPERS_ATTACKS[norm]]
    there = [attack for attack in ours if made.attacked(line(norm, attack))]
    for attack in there:
        yield from _attack(table, made, paper, norm, attack)
    if there:
        yield from _all(table, made, paper, norm, ours=True)


def _attack(table: Table, made: Comparison, paper: str, norm: str, attack: str) -> Iterator[Row]:
    name = line(norm, attack)
    attacked = made.attacked(name)
    for model in MODELS:
        if model not in attacked:
            yield from table.alone(paper, name, model, made.dataset or paper)
        else:
            study, point = attacked[model]
            yield table.row(made.dataset, name, model, accuracy(study.robust(point)), study.method(point), paper)


def _all(table: Table, made: Comparison, paper: str, norm: str, *, ours: bool) -> Iterator[Row]:
    name, eps = all_line(norm, ours=ours), made.main_eps(norm)
    right = made.correct(name)
    for model in MODELS:
        if model not in right or eps is None:
            yield from table.alone(paper, name, model, made.dataset or paper)
        else:
            method = together(made.models[model], norm, eps, ours=ours)
            yield table.row(made.dataset, name, model, accuracy(right[model]), method, paper)


def together(study: AttackStudy, norm: str, eps: float, *, ours: bool) -> str:
    """Which attacks of a study an image must withstand to count, in words."""
    names = [attack for attack in study.attacks(norm, eps) if ours or attack in PAPERS_ATTACKS[norm]]
    return f"right under every one of: {', '.join(ATTACKS[attack] for attack in names)}; {radius_words(norm, eps)}"


def _small_radius(table: Table, made: Comparison, paper: str) -> Iterator[Row]:
    """L2 PGD of the radius of footnote 3, where the paper has a number for it."""
    if (paper, SMALL, E_ABS) not in table.known:
        return
    wanted = {"attack": "pgd", "norm": "l2", "eps": table.known[paper, SMALL, "radius"].value}
    for model in MODELS:
        study = made.models.get(model)
        if study is None or not study.has(**wanted):
            yield from table.alone(paper, SMALL, model, made.dataset or paper)
        else:
            point = study.point(**wanted)
            yield table.row(made.dataset, SMALL, model, accuracy(study.robust(point)), study.method(point), paper)


def significance(found: Measured) -> list[Row]:
    """McNemar's test of every pair of models, on natural images, under all attacks of a norm, and under each."""
    table = table_of("Tables 1–4, McNemar", found.scale)
    rows: list[Row] = []
    for paper, made in found.tables.items():
        joint = [CLEAN, *map(all_line, NORM_ORDER)]
        kinds = [kind for kind in joint if kind in made.kinds] + [kind for kind in made.kinds if kind not in joint]
        for kind in kinds:
            rows += _pairs(table, made, paper, kind)
        for norm in NORM_ORDER:
            rows += [] if all_line(norm) in kinds else _papers_verdicts(table, made, paper, norm)
    return rows


def pair_line(paper: str, kind: str, a: str, b: str) -> str:
    """The name of a line of McNemar's test."""
    return recipe(paper, f"{kind}, {a} − {b}")


def _pairs(table: Table, made: Comparison, paper: str, kind: str) -> Iterator[Row]:
    right, raw, adjusted = made.correct(kind), made.raw(kind), made.tested(kind)
    for (a, b), p in raw.items():
        name, method = pair_line(paper, kind, a, b), f"McNemar's exact test, Holm over {len(raw)} pairs, α {LEVEL:g}"
        estimate = percent(proportion_difference(right[a], right[b]))
        yield table.number(made.dataset, name, DIFFERENCE, estimate, "points", "on the images that all models saw")
        yield table.number(made.dataset, name, P, p, "", method)
        yield table.number(made.dataset, name, HOLM, adjusted[a, b], "", method)
        yield _verdict(table, made.dataset, paper, kind, (a, b), float(adjusted[a, b] < LEVEL), method)


def _verdict(
    table: Table, dataset: str, paper: str, kind: str, pair: tuple[str, str], ours: float | None, method: str
) -> Row:
    """Whether the difference of a pair is significant, 1 or 0, with the paper's answer where it gives one."""
    papers = says(paper, kind, pair)
    source = "" if papers is None else f"; the paper's answer: {paper}, caption of its table"
    return Row(
        paper=table.slug,
        item=table.item,
        row=pair_line(paper, kind, *pair),
        column=SIGNIFICANT,
        scale=table.scale,
        dataset=dataset or paper,
        n=None,
        value=ours,
        low=None,
        high=None,
        unit="",
        reference=None if papers is None else float(papers),
        method=f"{method}{source}",
    )


def says(paper: str, kind: str, pair: tuple[str, str]) -> bool | None:
    """Whether the paper finds a difference significant; None where it says nothing: of all but a norm's attacks."""
    norm = {all_line(norm): norm for norm in NORM_ORDER}.get(kind)
    return None if norm is None else pair not in NOT_SIGNIFICANT.get((paper, norm), ())


def _papers_verdicts(table: Table, made: Comparison, paper: str, norm: str) -> Iterator[Row]:
    """The paper's answers alone, for what was not run here."""
    for i, a in enumerate(MODELS):
        for b in MODELS[i + 1 :]:
            yield _verdict(table, made.dataset, paper, all_line(norm), (a, b), None, "not ours")
