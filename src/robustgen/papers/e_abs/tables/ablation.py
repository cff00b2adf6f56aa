"""Table 5: the three extensions one by one; attacks without gradients; and choices that the paper leaves open."""

from __future__ import annotations

from collections.abc import Iterator

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import proportion_difference
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables.lines import clean_method, nothing, percent, table_of, under_pgd
from robustgen.papers.e_abs.words import CLEAN, E_ABS, GRADIENT_FREE, SVHN, UNDER_PGD, VARIANTS, all_line, line
from robustgen.papers.studies import accuracy
from robustgen.papers.tables import Table

MINUS_PGD = "points above PGD"  # column


def table5(found: Measured) -> list[Row]:
    """Every combination of the three extensions, on natural images and under PGD."""
    table, section = table_of("Table 5", found.scale), found.ablation
    rows: list[Row] = []
    for variant in VARIANTS:
        if variant in section.variants:
            rows += under_pgd(table, section.dataset, SVHN, variant, section.variants[variant])
        else:
            for column in (CLEAN, *UNDER_PGD.values()):
                rows += table.alone(SVHN, variant, column, section.dataset or SVHN)
    return rows


def gradient_free(found: Measured) -> list[Row]:
    """E-ABS under attacks without gradients, beside gradient-based attacks on the same images."""
    table, section = table_of("Sec. 5, gradient-free attacks", found.scale), found.gradient_free
    study, dataset = section.study, section.dataset
    rows: list[Row] = []
    if study is not None:
        rows.append(table.row(dataset, CLEAN, E_ABS, accuracy(study.natural), clean_method(study), SVHN))
    for attack, (name, norm) in GRADIENT_FREE.items():
        if study is None or not study.has(attack=attack, norm=norm):
            rows += table.alone(SVHN, name, E_ABS, dataset or SVHN)
        else:
            rows += _beside_gradients(table, dataset, study, attack)
    return rows


def _beside_gradients(table: Table, dataset: str, study: AttackStudy, attack: str) -> Iterator[Row]:
    """An attack without gradients, PGD and all gradient-based attacks of its radius."""
    name, norm = GRADIENT_FREE[attack]
    point = study.point(attack=attack, norm=norm)
    eps, right = study.options(point)["eps"], study.robust(point)
    yield table.row(dataset, name, E_ABS, accuracy(right), study.method(point), SVHN)
    wanted = {"attack": "pgd", "norm": norm, "eps": eps}
    if study.has(**wanted):
        pgd = study.point(**wanted)
        difference = percent(proportion_difference(right, study.robust(pgd)))
        yield table.number(dataset, name, MINUS_PGD, difference, "points", "on the same images")
        # the paper's PGD beside is that of its Table 4, of other runs
        yield table.row(dataset, line(norm, "pgd"), E_ABS, accuracy(study.robust(pgd)), study.method(pgd), SVHN)
    if study.counted(norm, eps):
        method = "right under every gradient-based attack and noise of this study"
        yield table.row(dataset, all_line(norm), E_ABS, accuracy(study.worst(norm, eps)), method, SVHN)


def sensitivity(found: Measured) -> list[Row]:
    """E-ABS by choices that the paper leaves open; the first is the one taken."""
    table, section = table_of("Choices left open", found.scale), found.sensitivity
    rows: list[Row] = []
    for label, study in section.choices.items():
        rows += under_pgd(table, section.dataset, "", label, study)
    return rows or [nothing(table, SVHN)]
