"""Claims about inference: how many samples and iterations it needs (Sec. 3.3 and 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.papers.e_abs.claims.paired import CLEAN_MARGIN, inferences, methods, paired
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.words import NORM_ORDER, line
from robustgen.papers.statements import READING, SHARE, Statement
from robustgen.papers.studies import SHARD


def claims(found: Measured) -> Iterator[Claim]:
    section = found.sensitivity
    for few, many in pairs(section.choices, "draws"):
        if few.config["inference"]["draws"] == 1:
            yield _samples(section.dataset, few, many)
            break
    for few, many in pairs(section.choices, "iterations"):
        yield from _iterations(section.dataset, few, many)
        break


def pairs(studies: Mapping[str, AttackStudy], option: str) -> Iterator[tuple[AttackStudy, AttackStudy]]:
    """Studies that differ in nothing but an option of inference, the lower one first."""
    for few, many in permutations(studies.values(), 2):
        mine, theirs = ((study.config.get("inference") or {}).get(option) for study in (few, many))
        if mine is not None and theirs is not None and mine < theirs and _rest(few, option) == _rest(many, option):
            yield few, many


def _rest(study: AttackStudy, option: str) -> dict[str, Any]:
    rest = {name: value for name, value in study.config.items() if name not in SHARD}
    return {**rest, "inference": {**rest["inference"], option: None}}


def _samples(dataset: str, few: AttackStudy, many: AttackStudy) -> Claim:
    drawn = many.config["inference"]["draws"]
    statement = Statement(
        name="inference-one-sample-enough",
        text="One sample for the expectation of Eq. 6 is sufficient for reliable estimation",
        source="Sec. 3.3",
        quantity=f"E-ABS's clean accuracy, {drawn} samples − 1 sample, {SHARE}",
        condition=Condition("within", CLEAN_MARGIN),
    )
    first, second = (f"{drawn} samples", many.natural), ("1 sample", few.natural)
    return paired(statement, first, second, f"On {dataset}. {inferences([few])}", f"{READING} ")


def _iterations(dataset: str, few: AttackStudy, many: AttackStudy) -> Iterator[Claim]:
    counts = [study.config["inference"]["iterations"] for study in (many, few)]
    kinds = {"clean": "clean accuracy", **{norm: f"accuracy under {line(norm, 'pgd')}" for norm in NORM_ORDER}}
    for name, words in kinds.items():
        statement = Statement(
            name=f"inference-more-iterations-better-{name}",
            text=f"With more iterations of inference E-ABS has a better {words}",
            source="Sec. 7",
            quantity=f"E-ABS's {words}, {counts[0]} − {counts[1]} iterations, {SHARE}",
        )
        if name == "clean":
            outcomes, settings = [many.natural, few.natural], inferences([many])
        elif many.has(attack="pgd", norm=name) and few.has(attack="pgd", norm=name):
            eps = few.radii("pgd", name)[0]
            points = [study.point(attack="pgd", norm=name, eps=eps) for study in (many, few)]
            outcomes = [study.robust(point) for study, point in zip((many, few), points, strict=True)]
            settings = methods(zip((many, few), points, strict=True))
        else:
            continue
        first, second = ((f"{count} iterations", right) for count, right in zip(counts, outcomes, strict=True))
        yield paired(statement, first, second, f"On {dataset}. {settings}")
