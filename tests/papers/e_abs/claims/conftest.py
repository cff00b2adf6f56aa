"""Scales in which the paper is right, or wrong about one thing, and the claims that they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from robustgen.evaluation.rows import Claim
from robustgen.papers.e_abs.claims import claims
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy


class Accuracies(NamedTuple):
    """Of one model."""

    clean: float
    linf: float
    l2: float


RIGHT: dict[str, Any] = {
    "mnist": {"cnn": (0.99, 0, 0.4), "adv_linf": (0.985, 0.9, 0.5), "adv_l2": (0.985, 0.05, 0.6),
              "abs": (0.96, 0.1, 0.6), "e_abs": (0.99, 0.2, 0.7)},
    "svhn": {"cnn": (0.96, 0, 0), "adv_linf": (0.95, 0.4, 0.1), "adv_l2": (0.95, 0.25, 0.2),
             "abs": (0.6, 0.1, 0.05), "e_abs": (0.955, 0.6, 0.5)},
    "ablation": {"abs": (0.46, 0.07, 0.05), "a": (0.24, 0.06, 0.06), "d": (0.45, 0.08, 0.06),
                 "v": (0.44, 0.03, 0.02), "ad": (0.3, 0.02, 0.02), "av": (0.6, 0.11, 0.08),
                 "dv": (0.66, 0.19, 0.14), "adv": (0.9, 0.57, 0.41)},
    "unconfirmed": 0.0,
}  # fmt: skip


@pytest.fixture(scope="session")
def variant(build: Callable[..., Measured]) -> Callable[..., Measured]:
    """variant(**what is different): networks of a section are exchanged one by one."""

    def made(**changes: Any) -> Measured:
        given = {**RIGHT, **changes}
        for key in ("mnist", "svhn", "ablation"):
            accuracies = {**RIGHT[key], **given[key]}
            given[key] = {name: Accuracies(*levels) for name, levels in accuracies.items()}
        return build(**given)

    return made


@pytest.fixture(scope="session")
def right(variant: Callable[..., Measured], changed: Callable[..., Measured]) -> Measured:
    """The scale in which the paper is right, as far as it does not contradict itself."""

    def misled(study: AttackStudy) -> dict[str, Any]:
        """With one sample the attacker sees errors everywhere."""
        seen = study.arrays["seen"].copy()
        seen[study.point(attack="pgd", norm="linf", draws=1)] = True
        return {"seen": seen}

    return changed(variant(), "sweeps", "eot", misled)


@pytest.fixture(scope="session")
def changed(altered: Callable[..., AttackStudy]) -> Callable[..., Measured]:
    """changed(found, section, role, change): with the arrays of one study that `change` makes of it exchanged."""

    def made(
        found: Measured, section: str, role: str, change: Callable[[AttackStudy], dict[str, np.ndarray]]
    ) -> Measured:
        part = getattr(found, section)
        study: AttackStudy = getattr(part, role)
        other = altered(study, **change(study))
        return replace(found, **{section: replace(part, **{role: other})})

    return made


@pytest.fixture(scope="session")
def decide() -> Callable[[Measured], dict[str, Claim]]:
    """The claims of a scale by id, each of which is unique."""

    def made(found: Measured) -> dict[str, Claim]:
        decided = claims(found)
        assert len({claim.id for claim in decided}) == len(decided)
        return {claim.id: claim for claim in decided}

    return made
