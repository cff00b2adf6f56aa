"""Lower bounds ε* of the L2 distance to an error (Eq. 7), and whether an attack came nearer than that."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import mean
from robustgen.papers.e_abs.measured import Bounded, Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables.lines import nothing, recipe, share, table_of
from robustgen.papers.e_abs.words import ATTACKS, MNIST
from robustgen.papers.tables import Table
from robustgen.papers.words import plural

MEAN, BOUNDED, ABOVE = "mean ε*", "share with a bound", "share with ε* above the radius"
BROKEN, OUTSIDE = "attacks below the bound", "errors below ε*, outside its assumptions"
NEAREST = "median length of the nearest error"
ABLATION = "Ablation: "


def bounds(found: Measured) -> list[Row]:
    """ε* of every autoencoder of Tables 1-5 whose bound was computed."""
    table = table_of("Eq. 7", found.scale)
    rows = [row for each in found.bounded for row in (*_proven(table, each), *_attacked(table, each))]
    return rows or [nothing(table, MNIST)]


def _line(each: Bounded) -> str:
    return recipe(each.paper, each.name) if each.paper else f"{ABLATION}{each.name}"


def _proven(table: Table, each: Bounded) -> Iterator[Row]:
    bound, inference = each.study["bound"], each.study.config["inference"]
    method = (
        f"exact inference from {plural(inference['candidates'], 'candidate')}, {inference['iterations']} iterations"
    )
    proven = bound > 0
    if proven.sum() > 1:
        words = f"mean over the {int(proven.sum())} of {len(bound)} images with a bound; {method}"
        yield table.number(each.dataset, _line(each), MEAN, mean(bound[proven]), "", words)
    words = "right by exact inference, and ε* above 0"
    yield table.number(each.dataset, _line(each), BOUNDED, share(proven), "%", words)


def _attacked(table: Table, each: Bounded) -> Iterator[Row]:
    """ε* beside the radius of the tables, and beside the nearest errors of L2 attacks; nothing without such attacks."""
    study, bound = each.study, each.study["bound"]
    if "l2" not in study.norms:
        return
    eps = study.main_eps("l2")
    words = f"L2 eps {eps:g}; a certificate only as far as the optimisation found the minimum"
    yield table.number(each.dataset, _line(each), ABOVE, share(bound >= eps), "%", words)
    attacks = ", ".join(dict.fromkeys(ATTACKS[study.options(point)["attack"]] for point in study.matching(norm="l2")))
    words = f"images with an error nearer than ε*, by any of {attacks}; {judged(each)}"
    column = BROKEN if each.assumed else OUTSIDE
    yield table.number(each.dataset, _line(each), column, float(below(study).sum()), "", words)
    found = nearest(study)
    if np.isfinite(np.median(found)):
        words = f"median over all images, 0 where one is an error as it is, of the nearest that {attacks} found"
        yield table.number(each.dataset, _line(each), NEAREST, float(np.median(found)), "", words)


def judged(each: Bounded) -> str:
    """Whether the errors found are such as the bound speaks of, in words."""
    if each.assumed:
        return "errors are those of exact inference, of which the bound is"
    return "errors are those of variational inference, of which the bound says nothing: they do not refute it"


def nearest(study: AttackStudy) -> np.ndarray:
    """Length (N,) of the nearest confirmed error that any L2 attack of a study found; inf where none did."""
    return np.asarray(np.min([study.errors(point) for point in study.matching(norm="l2")], axis=0))


def below(study: AttackStudy) -> np.ndarray:
    """Which images (N,), right as they are, an L2 attack made an error by a change shorter than their ε*."""
    found = nearest(study)
    bound = np.zeros(len(found)) if study.bound is None else study.bound
    return np.asarray((found > 0) & (found < np.nan_to_num(bound)))
