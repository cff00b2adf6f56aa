"""Claims about inference: how many samples and iterations it needs (Sec. 3.3 and 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.papers.e_abs.claims.paired import CLEAN_MARGIN, inferences, methods, paired
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import GRID, AttackStudy
from robustgen.papers.e_abs.words import NORM_ORDER, line
from robustgen.papers.statements import READING, SHARE, Statement
from robustgen.papers.studies import SHARD

BESIDES = ("bound", "shown", "starts")  # options of other attacks, of the bound, of what is kept


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
    """Studies of one model that differ in an option of inference, the lower one first; attacks may be others."""
    for few, many in permutations(studies.values(), 2):
        mine, theirs = ((study.config.get("inference") or {}).get(option) for study in (few, many))
        if mine is not None and theirs is not None and mine < theirs and _rest(few, option) == _rest(many, option):
            yield few, many


def _rest(study: AttackStudy, option: str) -> dict[str, Any]:
    """What decides how natural images and PGD of one grid point end, but for an option of inference."""
    rest = {name: value for name, value in study.config.items() if name not in (*SHARD, *GRID, *BESIDES)}
    step = (rest.pop("details", None) or {}).get("step")  # of the details PGD's alone
    return {**rest, "step": step, "inference": {**rest["inference"], option: None}}


def pgd_in_both(few: AttackStudy, many: AttackStudy, norm: str) -> tuple[int, int] | None:
    """The first grid point of PGD in a norm that both have, in either; None where they share none."""
    for point in few.matching(attack="pgd", norm=norm):
        if many.has(**few.options(point)):
            return point, many.point(**few.options(point))
    return None


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
        elif (points := pgd_in_both(few, many, name)) is not None:
            outcomes = [many.robust(points[1]), few.robust(points[0])]
            settings = methods([(many, points[1]), (few, points[0])])
        else:
            continue
        first, second = ((f"{count} iterations", right) for count, right in zip(counts, outcomes, strict=True))
        yield paired(statement, first, second, f"On {dataset}. {settings}")
