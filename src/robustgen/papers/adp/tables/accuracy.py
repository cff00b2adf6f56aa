"""Tables 2 and 3 and Sec. 5.1.5: accuracies on natural images and under attack, in percent, beside the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustgen.evaluation.rows import Row
from robustgen.papers.adp.measured import Measured, Worst
from robustgen.papers.adp.study import ScoreDefense
from robustgen.papers.adp.tables.lines import (
    ADP,
    BPDA,
    CONTROL,
    FALSE_BREAKS,
    HILL,
    LONGER,
    NATURAL,
    RAW,
    REEVALUATION,
    ROBUST,
    SMALL,
    STANDARD,
    TRAINED_PGD,
    UNDER,
    WORST,
    WORST_BUT_SPSA,
    ZERO,
    table_of,
)
from robustgen.papers.adp.words import ELSEWHERE, SHOWN
from robustgen.papers.studies import Attacked, accuracy
from robustgen.papers.tables import Table


def table2(found: Measured) -> list[Row]:
    """Accuracy on natural images and under PGD on the classifier, which knows nothing of the purification."""
    table = table_of("Table 2", found)
    rows: list[Row] = []
    lines = (
        (RAW, found.under(found.raw)),
        (SMALL, found.under(found.small, "classifier")),
        (ADP, found.against("classifier")),
    )
    for line, made in lines:
        rows += both(table, found, line, made, (STANDARD, ROBUST))
    if found.hill is not None:
        steps = found.hill.drawn_steps
        for column, attacked in ((STANDARD, False), (ROBUST, True)):
            right = found.hill.correct(steps, attacked=attacked)
            method = found.hill.method(steps, attacked=attacked)
            rows.append(table.row(found.dataset, HILL, column, accuracy(right), method, SHOWN))
    else:
        for column in (STANDARD, ROBUST):
            rows += table.alone(SHOWN, HILL, column, found.dataset)
    return [*rows, *table.borrowed(SHOWN, found.dataset)]


def both(
    table: Table,
    found: Measured,
    line: str,
    made: Attacked | None,
    columns: Sequence[str] = (NATURAL, ROBUST),
    remark: str = "",
) -> Iterator[Row]:
    """Natural and robust accuracy of a line, or the paper's numbers alone; the `remark` follows the method."""
    if made is None:
        for column in columns:
            yield from table.alone(SHOWN, line, column, found.dataset)
        return
    for column, right in zip(columns, (made.natural, made.robust), strict=True):
        yield table.row(found.dataset, line, column, accuracy(right), made.method + remark, SHOWN)


def table3(found: Measured) -> list[Row]:
    """Adaptive attacks on ADP, its ablation without noise, and adversarial training."""
    table = table_of("Table 3", found)
    rows: list[Row] = []
    for attack, name in UNDER.items():
        rows += both(table, found, f"{ADP}: {name}", found.against(attack))
        if attack == "bpda":
            rows += both(table, found, LONGER, found.under(found.longer))
    rows += both(table, found, REEVALUATION, found.under(found.reevaluation, "apgd"))
    rows += _worst(table, found)
    rows += table.false_breaks(found.dataset, CONTROL, FALSE_BREAKS, found.control)
    for attack, name in UNDER.items():
        made = found.against(attack, noise=False)
        tuned = "" if made is None else found.step_words(made.study)
        line = f"{ZERO}: {name.removesuffix('+EOT')}"
        rows += both(table, found, line, made, remark=f"; {tuned}" if tuned else "")
    rows += both(table, found, TRAINED_PGD, found.under(found.trained))
    return [*rows, *table.borrowed(SHOWN, found.dataset)]


def _worst(table: Table, found: Measured) -> Iterator[Row]:
    every, widest = found.worst(), found.widest
    lines = ((WORST, every), (WORST_BUT_SPSA, None if widest is every or _same(widest, every) else widest))
    for line, worst in lines:
        if worst is not None:
            named = ", ".join(worst.names)
            methods = {
                NATURAL: f"right in the runs of every one of these attacks, each by draws of its own: {named}",
                ROBUST: f"an image counts as right where it withstands every one of: {named}",
            }
            for column, right in ((NATURAL, worst.natural), (ROBUST, worst.robust)):
                yield table.row(found.dataset, line, column, accuracy(right), methods[column])


def _same(a: Worst | None, b: Worst | None) -> bool:
    return a is None or b is None or a.names == b.names


def extra(found: Measured) -> list[Row]:
    """Sec. 5.1.5: ADP under BPDA+EOT on other data sets, each at the radius of its own study."""
    table = table_of("Sec. 5.1.5", found)
    rows: list[Row] = []
    here = found.elsewhere
    for dataset in (*here, *(name for name in ELSEWHERE if name not in here)):
        if (study := here.get(dataset)) is None:
            rows += table.alone(dataset, BPDA, ROBUST)
        else:
            made = other(study)
            for column, right in ((NATURAL, made.natural), (ROBUST, made.robust)):
                rows.append(table.row(dataset, BPDA, column, accuracy(right), made.method))
        rows += table.borrowed(dataset, dataset)
    return rows


def other(study: ScoreDefense) -> Attacked:
    """BPDA of the largest radius of a data set's study."""
    radius = study.values("eps", attack="bpda", norm="linf")
    return Attacked(study, study.point(attack="bpda", norm="linf", **({"eps": radius[-1]} if radius else {})))
