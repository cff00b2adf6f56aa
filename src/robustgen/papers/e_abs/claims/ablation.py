"""Claims about the three extensions one by one and together (Table 5)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import proportion_difference
from robustgen.papers.e_abs.claims.paired import (
    CLEAN_MARGIN,
    ROBUST_MARGIN,
    deciding,
    inferences,
    instead,
    methods,
    paired,
    papers_words,
    singled_out,
)
from robustgen.papers.e_abs.claims.paired import slug as lowered
from robustgen.papers.e_abs.measured import Ablation, Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables.implemented import COLUMNS as COLUMNS_OF_RECIPES
from robustgen.papers.e_abs.tables.implemented import hyperparameters
from robustgen.papers.e_abs.words import ALL_THREE, CLEAN, NORM_ORDER, SVHN, UNDER_PGD, VARIANTS
from robustgen.papers.statements import POSITIVE, READING, SHARE, Statement
from robustgen.papers.words import NORMS

COLUMNS = {CLEAN: "", **{column: norm for norm, column in UNDER_PGD.items()}}  # of Table 5: the norm of each
WORDS = {"": "clean accuracy", **{norm: f"accuracy under {NORMS[norm]} PGD" for norm in NORM_ORDER}}
SINGLE = ("A-ABS", "D-ABS", "V-ABS")
EXTENSIONS = "Sec. 5, Table 5"
PAIRS = (  # first, second, text, condition: differences in clean accuracy
    ("AV-ABS", "ABS", "variational inference with adversarial autoencoders improves on ABS's accuracy", POSITIVE),
    ("DV-ABS", "ABS", "variational inference with the discriminative loss improves on ABS's accuracy", POSITIVE),
    ("AV-ABS", "A-ABS", "variational inference improves the accuracy of adversarial autoencoders", POSITIVE),
    ("DV-ABS", "D-ABS", "variational inference improves the accuracy with the discriminative loss", POSITIVE),
    (ALL_THREE, "AD-ABS", "variational inference improves the accuracy of both together", POSITIVE),
    ("V-ABS", "ABS", "variational inference alone gives no improvement", Condition("<", CLEAN_MARGIN)),
    ("A-ABS", "ABS", "exact inference undermines the accuracy of adversarial autoencoders", Condition("<", 0)),
    ("AD-ABS", "ABS", "exact inference undermines the accuracy of both together", Condition("<", 0)),
)  # fmt: skip


def claims(found: Measured) -> Iterator[Claim]:
    section = found.ablation
    for column in COLUMNS:
        right = correct(section, column)
        if set(right) == set(VARIANTS):
            yield _all_three(section, column, right)
        if {"ABS", *SINGLE} <= set(right):
            yield _no_single(section, column, right)
    right = correct(section, CLEAN)
    for first, second, text, condition in PAIRS:
        if first in right and second in right:
            yield _pair(section, (first, second), text, condition)


def correct(section: Ablation, column: str) -> dict[str, np.ndarray]:
    """Which images (N,) each variant has right in a column of Table 5; those that were not so attacked are left out."""
    if not COLUMNS[column]:
        return {name: study.natural for name, study in section.variants.items()}
    return {name: study.robust(point) for name, (study, point) in _attacked(section, COLUMNS[column]).items()}


def _attacked(section: Ablation, norm: str) -> dict[str, tuple[AttackStudy, int]]:
    """The variants under PGD of the norm's main radius, each with its grid point."""
    points = {name: study.main_point("pgd", norm) for name, study in section.variants.items()}
    return {name: (section.variants[name], point) for name, point in points.items() if point is not None}


def _all_three(section: Ablation, column: str, right: dict[str, np.ndarray]) -> Claim:
    words = WORDS[COLUMNS[column]]
    statement = Statement(
        name=f"ablation-all-three-needed-{lowered(column)}",
        text=f"{SVHN}: all three extensions are necessary: E-ABS has a better {words} than any other combination",
        source=EXTENSIONS,
        quantity=f"{words}, E-ABS − the combination's that decides, {SHARE}",
    )
    against = {name: proportion_difference(right[ALL_THREE], right[name]) for name in VARIANTS if name != ALL_THREE}
    name, estimate = deciding(against, statement.condition)
    numbers = singled_out(against) + papers_words((SVHN, ALL_THREE, column), (SVHN, name, column))
    return statement.decided(estimate, _note(section, column, right, name, numbers))


def _no_single(section: Ablation, column: str, right: dict[str, np.ndarray]) -> Claim:
    words = WORDS[COLUMNS[column]]
    statement = Statement(
        name=f"ablation-no-single-extension-{lowered(column)}",
        text=f"{SVHN}: no single extension significantly improves ABS's {words}",
        source=EXTENSIONS,
        quantity=f"{words}, ABS with the single extension that decides − ABS, {SHARE}",
        condition=Condition("<", ROBUST_MARGIN),
    )
    against = {name: proportion_difference(right[name], right["ABS"]) for name in SINGLE}
    name, estimate = deciding(against, statement.condition)
    numbers = singled_out(against) + papers_words((SVHN, name, column), (SVHN, "ABS", column))
    return statement.decided(estimate, f"{READING} {_note(section, column, right, name, numbers)}")


def _note(section: Ablation, column: str, right: dict[str, np.ndarray], name: str, numbers: str) -> str:
    singly = ", ".join(f"{each} {which.mean():.1%}" for each, which in right.items())
    words = f"{instead(section.dataset, SVHN)}The difference is of {name}. {singly}. {numbers}"
    return words + _recipes(section, list(right)) + _settings(section, column, list(right))


def _recipes(section: Ablation, names: list[str]) -> str:
    """In what the trainings of variants differ besides the extensions, in words; empty where in nothing."""
    recipes = [hyperparameters(study) for name in names if (study := section.variants[name]).training]
    own = [column for column in COLUMNS_OF_RECIPES if len({each.get(column) for each in recipes if column in each}) > 1]
    return f"Trained with recipes of their own, see Sec. 4.3's table: {', '.join(own)}. " if own else ""


def _settings(section: Ablation, column: str, names: list[str]) -> str:
    if COLUMNS[column]:
        attacked = _attacked(section, COLUMNS[column])
        return methods(attacked[name] for name in names)
    return inferences(section.variants[name] for name in names)


def _pair(section: Ablation, names: tuple[str, str], text: str, condition: Condition) -> Claim:
    right = correct(section, CLEAN)
    first, second = names
    shown = [name.partition(" ")[0] for name in names]
    statement = Statement(
        name=f"ablation-{lowered(shown[0])}-beside-{lowered(shown[1])}",
        text=f"{SVHN}: {text}",
        source=EXTENSIONS,
        quantity=f"clean accuracy, {first} − {second}, {SHARE}",
        condition=condition,
    )
    numbers = papers_words((SVHN, first, CLEAN), (SVHN, second, CLEAN))
    before = (f"{READING} " if condition.bound else "") + instead(section.dataset, SVHN)
    a, b = ((name, right[name]) for name in names)
    settings = numbers + _recipes(section, list(names)) + _settings(section, CLEAN, list(names))
    return paired(statement, a, b, settings, before)
