"""PGD over radii (Figure 3): which attack stands for a radius, which radii models share, settings in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from robustgen.papers.e_abs.study import STRONGER, AttackStudy
from robustgen.papers.e_abs.words import is_random
from robustgen.papers.words import plural

COUNTED = {"steps": "step", "restarts": "random start", "draws": "EOT sample"}


def pgd_points(study: AttackStudy, norm: str) -> dict[float, int]:
    """A grid point of PGD for every radius above 0, ascending: of the strongest settings that all radii have, so that
    the radius alone differs; without such, the strongest of each radius.
    """
    points = {eps: study.matching(attack="pgd", norm=norm, eps=eps) for eps in study.radii("pgd", norm) if eps > 0}
    made = {eps: {_settings(study, point): point for point in reversed(found)} for eps, found in points.items()}
    alike = set.intersection(*(set(found) for found in made.values())) if made else set()
    return {eps: found[max(alike or found)] for eps, found in made.items()}


def _settings(study: AttackStudy, point: int) -> tuple[int, ...]:
    return tuple(int(study.arrays[name][point]) for name in STRONGER)


def over_shared_radii(models: Mapping[str, AttackStudy], norm: str) -> dict[str, dict[float, int]]:
    """The same for each of the models, of the radii above 0 at which PGD attacked all of them."""
    found = {name: pgd_points(study, norm) for name, study in models.items()}
    first = next(iter(found.values()), {})
    shared = [eps for eps in first if all(study.has(attack="pgd", norm=norm, eps=eps) for study in models.values())]
    return {name: {eps: _nearest(points, eps) for eps in shared} for name, points in found.items()}


def _nearest(points: Mapping[float, int], eps: float) -> int:
    """The point of a radius, which two files may write with other last digits."""
    return points[min(points, key=lambda there: abs(there - eps))]


def pgd_words(attacked: Iterable[tuple[AttackStudy, int]]) -> str:
    """Steps, random starts and EOT samples of PGD; where they differ among the grid points, all that occur."""
    points, words = list(attacked), []
    for name, word in COUNTED.items():
        counts = sorted(
            {int(study.arrays[name][point]) for study, point in points if name != "draws" or is_random(study.config)}
        )
        words += [" or ".join([*map(str, counts[:-1]), plural(counts[-1], word)])] if counts else []
    return ", ".join(words)
