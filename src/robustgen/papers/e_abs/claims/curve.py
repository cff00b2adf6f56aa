"""Claims about accuracy under PGD as the perturbation grows (Figure 3)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import share_difference
from robustgen.papers.e_abs.claims.paired import deciding, inferences, instead, singled_out
from robustgen.papers.e_abs.measured import Comparison, Measured
from robustgen.papers.e_abs.radii import over_shared_radii, pgd_words
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.words import E_ABS, NORM_ORDER, SVHN, radius_words
from robustgen.papers.statements import READING, Statement
from robustgen.papers.studies import accuracy
from robustgen.papers.words import NORMS

LOST = Condition("<", 0.2)  # of an accuracy under large perturbations


Points = dict[str, dict[float, int]]  # model: radius: grid point


def claims(found: Measured) -> Iterator[Claim]:
    for norm in NORM_ORDER:
        models = {name: study for name, study in found.curve.models.items() if study.has(attack="pgd", norm=norm)}
        points = over_shared_radii(models, norm)
        radii = list(next(iter(points.values()), {}))
        if radii and E_ABS in models and len(models) > 1:
            yield _outperforms(found.curve, norm, models, points)
        if len(radii) > 1:
            yield _falls(found.curve, norm, models, points)


def _outperforms(section: Comparison, norm: str, models: dict[str, AttackStudy], points: Points) -> Claim:
    statement = Statement(
        name=f"curve-{norm}-e-abs-above-all",
        text=f"{SVHN}: E-ABS outperforms the other models under {NORMS[norm]} PGD, over the sizes of the perturbation",
        source="Sec. 5, Fig. 3",
        quantity="accuracy, mean over the radii, E-ABS − the model's that decides, a share of the test images",
    )
    means = {
        name: np.mean([study.robust(point) for point in points[name].values()], axis=0)
        for name, study in models.items()
    }
    ours = means.pop(E_ABS)
    against = {name: share_difference(ours, theirs) for name, theirs in means.items()}
    name, estimate = deciding(against, statement.condition)
    singly = ", ".join(f"{other} {mean.mean():.1%}" for other, mean in means.items())
    radii = list(points[E_ABS])
    note = f"{instead(section.dataset, SVHN)}E-ABS {ours.mean():.1%}; {singly}; the difference is to {name}. "
    note += (
        singled_out(against)
        + f"{len(radii)} {'radius' if len(radii) == 1 else 'radii'} up to {radius_words(norm, radii[-1])}. "
    )
    return statement.decided(estimate, note + _settings(models, points, radii))


def _falls(section: Comparison, norm: str, models: dict[str, AttackStudy], points: Points) -> Claim:
    statement = Statement(
        name=f"curve-{norm}-all-models-fall",
        text=f"{SVHN}: all models lose their accuracy under large {NORMS[norm]} perturbations",
        source="Sec. 5, Fig. 3",
        quantity="accuracy under PGD of the largest radius, of the model that decides, a share of the test images",
        condition=LOST,
    )
    eps = max(points[next(iter(models))])
    found = {name: accuracy(study.robust(points[name][eps])) for name, study in models.items()}
    _, most = deciding(found, LOST)
    singly = ", ".join(f"{name} {estimate.value:.1%}" for name, estimate in found.items())
    note = f"{READING} {instead(section.dataset, SVHN)}At {radius_words(norm, eps)}: {singly}. {singled_out(found)}"
    return statement.decided(most, note + _settings(models, points, [eps]))


def _settings(models: dict[str, AttackStudy], points: Points, radii: list[float]) -> str:
    """How PGD was set at these radii, on all of the models, and how those infer."""
    attacked = [(study, points[name][eps]) for name, study in models.items() for eps in radii]
    return ". ".join(filter(None, [f"PGD: {pgd_words(attacked)}", inferences(models.values())]))
