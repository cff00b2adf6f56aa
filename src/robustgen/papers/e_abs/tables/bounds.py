"""Lower bounds ε* of the L2 distance to an error (Eq. 7), and whether an attack came nearer than that."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import mean
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.tables.lines import nothing, recipe, share, table_of
from robustgen.papers.e_abs.words import ATTACKS, MNIST, is_random
from robustgen.papers.tables import Table
from robustgen.papers.words import plural

MEAN, BOUNDED, ABOVE = "mean ε*", "share with a bound", "share with ε* above the radius"
BROKEN, NEAREST = "attacks below the bound", "median length of the nearest error"


def bounds(found: Measured) -> list[Row]:
    """ε* of every autoencoder of Tables 1-4 whose bound was computed."""
    table = table_of("Eq. 7", found.scale)
    rows: list[Row] = []
    for paper, made in found.comparisons.items():
        for model, study in made.models.items():
            if (bound := study.bound) is not None:
                rows += _bound(table, made.dataset, recipe(paper, model), study, bound)
    return rows or [nothing(table, MNIST)]


def _bound(table: Table, dataset: str, name: str, study: AttackStudy, bound: np.ndarray) -> Iterator[Row]:
    inference = study.config["inference"]
    method = (
        f"exact inference from {plural(inference['candidates'], 'candidate')}, {inference['iterations']} iterations"
    )
    proven = bound > 0
    if proven.sum() > 1:
        words = f"mean over the {int(proven.sum())} of {len(bound)} images with a bound; {method}"
        yield table.number(dataset, name, MEAN, mean(bound[proven]), "", words)
    yield table.number(dataset, name, BOUNDED, share(proven), "%", "right by exact inference, and ε* above 0")
    if "l2" not in study.norms:
        return
    eps = study.main_eps("l2")
    words = f"L2 eps {eps:g}; a certificate only as far as the optimisation found the minimum"
    yield table.number(dataset, name, ABOVE, share(bound >= eps), "%", words)
    attacks = ", ".join(dict.fromkeys(ATTACKS[study.options(point)["attack"]] for point in study.matching(norm="l2")))
    judged = "variational inference, which the bound is not of" if is_random(study.config) else "exact inference"
    words = f"images with an error nearer than ε*, by any of {attacks}, errors being those of {judged}"
    yield table.number(dataset, name, BROKEN, float(below(study).sum()), "", words)
    found = nearest(study)
    if np.isfinite(np.median(found)):
        words = f"median over all images, 0 where one is an error as it is, of the nearest that {attacks} found"
        yield table.number(dataset, name, NEAREST, float(np.median(found)), "", words)


def nearest(study: AttackStudy) -> np.ndarray:
    """Length (N,) of the nearest confirmed error that any L2 attack of a study found; inf where none did."""
    return np.asarray(np.min([study.errors(point) for point in study.matching(norm="l2")], axis=0))


def below(study: AttackStudy) -> np.ndarray:
    """Which images (N,), right as they are, an L2 attack made an error by a change shorter than their ε*."""
    found = nearest(study)
    bound = np.zeros(len(found)) if study.bound is None else study.bound
    return np.asarray((found > 0) & (found < np.nan_to_num(bound)))
