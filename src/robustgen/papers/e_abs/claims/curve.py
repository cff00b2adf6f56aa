"""Claims about accuracy under PGD as the perturbation grows (Figure 3)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import share_difference
from robustgen.papers.e_abs.claims.paired import instead, methods
from robustgen.papers.e_abs.measured import Comparison, Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.words import E_ABS, NORM_ORDER, SVHN, radius_words
from robustgen.papers.statements import READING, Statement
from robustgen.papers.studies import accuracy
from robustgen.papers.words import NORMS

LOST = Condition("<", 0.2)  # of an accuracy under large perturbations


def claims(found: Measured) -> Iterator[Claim]:
    for norm in NORM_ORDER:
        models = {name: study for name, study in found.curve.models.items() if study.has(attack="pgd", norm=norm)}
        radii = shared_radii(models, norm)
        if radii and E_ABS in models and len(models) > 1:
            yield _outperforms(found.curve, norm, models, radii)
        if len(radii) > 1:
            yield _falls(found.curve, norm, models, radii)


def shared_radii(models: dict[str, AttackStudy], norm: str) -> list[float]:
    """The radii above 0, ascending, of which PGD attacked all of the models."""
    first, *others = models.values() if models else [None]
    if first is None:
        return []
    radii = [eps for eps in first.radii("pgd", norm) if eps > 0]
    return [eps for eps in radii if all(other.has(attack="pgd", norm=norm, eps=eps) for other in others if other)]


def _over(study: AttackStudy, norm: str, radii: list[float]) -> np.ndarray:
    """The share (N,) of the radii at which an image stays right."""
    points = [study.point(attack="pgd", norm=norm, eps=eps) for eps in radii]
    return np.asarray(np.mean([study.robust(point) for point in points], axis=0))


def _outperforms(section: Comparison, norm: str, models: dict[str, AttackStudy], radii: list[float]) -> Claim:
    statement = Statement(
        name=f"curve-{norm}-e-abs-above-all",
        text=f"{SVHN}: E-ABS outperforms the other models under {NORMS[norm]} PGD, over the sizes of the perturbation",
        source="Sec. 5, Fig. 3",
        quantity="accuracy, mean over the radii, E-ABS − that model's whose interval reaches lowest, a share of the "
        "test images",
    )
    means = {name: _over(study, norm, radii) for name, study in models.items()}
    ours = means.pop(E_ABS)
    name, least = min(
        ((name, share_difference(ours, theirs)) for name, theirs in means.items()), key=lambda pair: pair[1].low
    )
    singly = ", ".join(f"{other} {mean.mean():.1%}" for other, mean in means.items())
    note = f"{instead(section.dataset, SVHN)}E-ABS {ours.mean():.1%}; {singly}; the difference is to {name}. "
    return statement.decided(least, f"{note}{len(radii)} radii up to {radius_words(norm, radii[-1])}. "
                             + _methods(models, norm, radii[-1]))  # fmt: skip


def _falls(section: Comparison, norm: str, models: dict[str, AttackStudy], radii: list[float]) -> Claim:
    statement = Statement(
        name=f"curve-{norm}-all-models-fall",
        text=f"{SVHN}: all models lose their accuracy under large {NORMS[norm]} perturbations",
        source="Sec. 5, Fig. 3",
        quantity="accuracy under PGD of the largest radius, of the model that keeps most, a share of the test images",
        condition=LOST,
    )
    eps = radii[-1]
    found = {name: accuracy(_over(study, norm, [eps])) for name, study in models.items()}
    most = max(found, key=lambda name: found[name].value)
    singly = ", ".join(f"{name} {estimate.value:.1%}" for name, estimate in found.items())
    note = f"{READING} {instead(section.dataset, SVHN)}{singly}. {_methods({most: models[most]}, norm, eps)}"
    return statement.decided(found[most], note)


def _methods(models: dict[str, AttackStudy], norm: str, eps: float) -> str:
    return methods((study, study.point(attack="pgd", norm=norm, eps=eps)) for study in models.values())
