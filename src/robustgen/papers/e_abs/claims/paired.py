"""What the claims share: two outcomes of the same images, the paper's two numbers beside, and names for ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from robustgen.evaluation.claims import Condition, verdict
from robustgen.evaluation.rows import Claim, Verdict
from robustgen.evaluation.statistics import Estimate, mcnemar, proportion_difference
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.reference import reference
from robustgen.papers.statements import Statement

PAPERS = reference("robustgen.papers.e_abs")
CLEAN_MARGIN = 0.05  # our reading of comparable clean accuracies; of 100 images that never differ the interval is ±0.03
ROBUST_MARGIN = 0.05  # our reading of comparable accuracies under attack
STABLE_MARGIN = 0.05  # our reading of settings of an attack that are enough
RANK: tuple[Verdict, ...] = ("fails", "not decided", "holds")
Right = tuple[str, np.ndarray]  # whose, and which images (N,) are right


def slug(name: str) -> str:
    """A name as part of an id: lower case, L∞ as linf, words joined by hyphens."""
    return name.lower().replace("∞", "inf").replace(" ", "-")


def instead(dataset: str, paper: str) -> str:
    """Which data set stands in for the paper's; empty where it is the paper's own."""
    return "" if dataset == paper else f"On {dataset} in place of {paper}. "


def paired(statement: Statement, first: Right, second: Right, settings: str, before: str = "") -> Claim:
    """The claim that the accuracy of the first minus that of the second decides, with McNemar's exact p-value."""
    (a, right), (b, other) = first, second
    words = f"{a} {right.mean():.1%}, {b} {other.mean():.1%} of {len(right)} images, McNemar p = "
    return statement.decided(
        proportion_difference(right, other), f"{before}{words}{mcnemar(right, other):.2g}. {settings}"
    )


def deciding(against: Mapping[str, Estimate], condition: Condition) -> tuple[str, Estimate]:
    """Of estimates that have all to meet a condition the one that decides: one that fails before an undecided one, of
    two alike the one whose interval goes farther the wrong way.
    """

    def order(pair: tuple[str, Estimate]) -> tuple[int, float]:
        estimate = pair[1]
        return RANK.index(verdict(estimate, condition)), estimate.low if condition.relation == ">" else -estimate.high

    return min(against.items(), key=order)


def singled_out(against: Mapping[str, Estimate]) -> str:
    """That a claim is decided by one of several estimates, in words."""
    return f"The one of {len(against)} that decides; its interval is not widened for their number. "


def papers_words(first: tuple[str, str, str], second: tuple[str, str, str], condition: Condition | None = None) -> str:
    """The paper's two numbers (data set, row, column) beside ours, and whether their difference misses a condition;
    empty where it gives them not both.
    """
    if first not in PAPERS or second not in PAPERS:
        return ""
    a, b = PAPERS[first], PAPERS[second]
    difference = (a.value - b.value) / 100
    missed = condition is not None and verdict(Estimate(difference, difference, difference, 1), condition) == "fails"
    return f"The paper's: {a.value:g} and {b.value:g} %, {a.source}{', which miss it too' if missed else ''}. "


def inferences(studies: Iterable[AttackStudy]) -> str:
    """How models predict, in words, each once; classifiers need none."""
    words = "; ".join(dict.fromkeys(filter(None, (study.inference for study in studies))))
    return words[:1].upper() + words[1:]


def methods(attacked: Iterable[tuple[AttackStudy, int]]) -> str:
    """The settings of attacks in words, each once."""
    return "; ".join(dict.fromkeys(study.method(point) for study, point in attacked))
