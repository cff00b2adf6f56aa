"""Table 4: accuracy on corrupted images, over all corruptions and by group."""

from __future__ import annotations

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import bounded_mean
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import GROUPS, Corruptions, first_row
from robustgen.papers.adp.tables.lines import ACCURACY, ADP, RAW, SMALL, TRAINED, ZERO, table_of
from robustgen.papers.adp.words import SHOWN


def table4(found: Measured) -> list[Row]:
    """Accuracy on corrupted images, over all corruptions and by group."""
    table = table_of("Table 4", found)
    rows: list[Row] = []
    for line, made in corruption_lines(found).items():
        for column, group in ((ACCURACY, None), *((name.capitalize(), name) for name in GROUPS)):
            if made is None:
                rows += table.alone(SHOWN, line, column, found.dataset)
            else:
                estimate = bounded_mean(made.shares(group))
                rows.append(table.row(found.dataset, line, column, estimate, made.method, SHOWN))
    return [*rows, *table.borrowed(SHOWN, found.dataset)]


def corruption_lines(found: Measured) -> dict[str, Corruptions | None]:
    """The lines of Table 4, None where the scale does without."""
    usual, small = found.noise_levels()
    return {
        RAW: first_row([found.corrupted_raw], 0),
        ADP: found.corruptions(usual),
        f"{ADP}, detection": found.corruptions(usual, detection=True),
        SMALL: found.corruptions(small),
        ZERO: found.corruptions(0.0),
        f"{ZERO}, DCT": first_row([found.corrupted_dct], 0),
        f"{ZERO}, AugMix": first_row([found.corrupted_augmix], 0),
        f"{ZERO}, DCT and AugMix": first_row([found.corrupted_both], 0),
        "Training with Gaussian noise (Cohen et al. 2019)": first_row([found.corrupted_cohen], 0),
        TRAINED: first_row([found.corrupted_trained], 0),
    }
