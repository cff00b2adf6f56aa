"""Claims about the lower bound of the distance of adversarial examples (Sec. 3.4, Appendix A)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import Estimate, mean_difference
from robustgen.papers.e_abs.claims.paired import instead, slug
from robustgen.papers.e_abs.measured import Bounded, Comparison, Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables.bounds import below, nearest
from robustgen.papers.e_abs.words import ABS, E_ABS, SVHN
from robustgen.papers.statements import READING, Statement

NONE = Condition("<", 1)
KEPT = 0.8  # of ABS's bound: our reading of a similar one


def claims(found: Measured) -> Iterator[Claim]:
    for each in found.bounded:
        if each.assumed and "l2" in each.study.norms:
            yield from _not_contradicted(each)
    for paper, section in found.comparisons.items():
        yield from _similar(paper, section)


def bounds(study: AttackStudy) -> np.ndarray:
    """ε* (N,), 0 where an image has none or is misclassified."""
    assert study.bound is not None
    return np.asarray(np.nan_to_num(study.bound, nan=0.0))


def _not_contradicted(each: Bounded) -> Iterator[Claim]:
    """Of exact inference alone: Eq. 7 says nothing of a variational one."""
    study, paper = each.study, each.paper or SVHN
    statement = Statement(
        name=f"{slug(each.paper or 'ablation')}-bound-of-{slug(each.name)}-stands",
        text=f"{paper}: no L2 attack finds an error of {each.name} nearer than ε*",
        source="Sec. 3.4, Eq. 7, App. A",
        quantity="test images with a bound above 0 for which an attack found a nearer error, their number",
        condition=NONE,
    )
    eps, found = bounds(study), nearest(study)
    bounded = eps > 0
    if not bounded.any():
        return
    count = float(below(study).sum())
    reached = bounded & (found > 0) & np.isfinite(found)
    ratio = f", the median of {np.median(found[reached] / eps[reached]):.3g} times its ε*" if reached.any() else ""
    note = (
        f"{instead(each.dataset, paper)}A count over the images at hand, each a possible counterexample: no interval. "
        "ε* is an estimate, too large where the distance d_k that optimisation finds is not the least; the model "
        f"predicts by {study.inference}. "
        f"Median ε* {np.median(eps[bounded]):.3g}; errors found for {reached.sum()} of them{ratio}. {_attacks(study)}"
    )
    yield statement.decided(Estimate(count, count, count, int(bounded.sum())), note)


def _attacks(study: AttackStudy) -> str:
    return "; ".join(dict.fromkeys(study.method(point).partition(";")[0] for point in study.matching(norm="l2")))


def _similar(paper: str, section: Comparison) -> Iterator[Claim]:
    statement = Statement(
        name=f"{slug(paper)}-bounds-as-of-abs",
        text=f"{paper}: E-ABS has similar certified robustness as ABS",
        source="Abstract, Sec. 1 and 3.4",
        quantity=f"mean over test images of ε* of E-ABS − {KEPT:g} times that of ABS, L2 length, pixel units",
    )
    models = section.models
    if any(name not in models or models[name].bound is None for name in (ABS, E_ABS)):
        return
    ours, theirs = bounds(models[E_ABS]), bounds(models[ABS])
    if len(ours) < 2 or not theirs.any():
        return
    shares = ", ".join(f"{name} {(eps > 0).mean():.1%}" for name, eps in ((E_ABS, ours), (ABS, theirs)))
    yield statement.decided(
        mean_difference(ours, KEPT * theirs),
        f"{READING} {instead(section.dataset, paper)}Mean ε* of E-ABS {ours.mean():.3g}, of ABS {theirs.mean():.3g}, "
        f"images without a bound counting as 0; share with one: {shares}. Estimates by exact inference.",
    )
