"""Claims about the attacks themselves: adaptive gradients, attacks without gradients, errors by chance (Sec. 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.papers.e_abs.claims.paired import PAPERS, inferences, instead, methods, paired, slug
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.words import (
    ATTACKS,
    BY_GRADIENT,
    E_ABS,
    GRADIENT_FREE,
    NORM_ORDER,
    SVHN,
    TABLES,
    line,
    radius_words,
)
from robustgen.papers.statements import READING, SHARE, Statement
from robustgen.papers.studies import accuracy
from robustgen.papers.words import NORMS

LATENT = "latent-descent"
QUERIES = {"boundary": 1, "estimated": 100}  # of a step; of an estimate our default, the paper does not say
ENOUGH = 0.1  # of the paper's queries, below which an attack without gradients decides nothing
FEW = Condition("<", 0.05)
MUCH = Condition(">", 0.2)  # our reading of a much stronger attack; 0.31 and 0.51 by the paper's numbers


def claims(found: Measured) -> Iterator[Claim]:
    for paper, section in found.comparisons.items():
        study = section.e_abs
        if study is not None:
            yield from _by_chance(paper, section.dataset, study)
            for norm in NORM_ORDER:
                yield from _confirmed(paper, section.dataset, study, norm)
                yield from _latent_descent(paper, section.dataset, study, norm)
    study = found.gradient_free.study
    for attack in GRADIENT_FREE:
        if study is not None:
            yield from _gradient_free(found.gradient_free.dataset, study, attack)


def _by_chance(paper: str, dataset: str, study: AttackStudy) -> Iterator[Claim]:
    statement = Statement(
        name=f"{slug(paper)}-no-errors-by-chance",
        text=f"{paper}: what E-ABS has right without attack another inference has right, too",
        source="a control of ours",
        quantity="share of the images that E-ABS has right that a second inference without attack has wrong",
        condition=FEW,
    )
    if study.natural.any():
        note = f"{READING} {instead(dataset, paper)}{inferences([study])}"
        yield statement.decided(accuracy(~study.control[study.natural]), note)
    point = study.main_point("pgd", "l2")
    estimate = None if point is None else study.by_chance(point)
    if point is not None and estimate is not None:
        statement = Statement(
            name=f"{slug(paper)}-errors-recur",
            text=f"{paper}: an error of E-ABS under attack is one in another inference, too",
            source="a control of ours",
            quantity="share of the errors under L2 PGD that one fresh inference found and another does not confirm",
            condition=FEW,
        )
        note = f"{READING} Accuracies under attack are by the second. {instead(dataset, paper)}{study.method(point)}"
        yield statement.decided(estimate, note)


def _confirmed(paper: str, dataset: str, study: AttackStudy, norm: str) -> Iterator[Claim]:
    statement = Statement(
        name=f"{slug(paper)}-{norm}-attack-is-not-misled",
        text=f"{paper}: the samples of EOT stabilise {NORMS[norm]} PGD on E-ABS: errors that it sees are errors",
        source="Sec. 4.2, App. B.1",
        quantity="share of the errors seen by PGD that fresh inference does not confirm",
        condition=FEW,
    )
    point = study.main_point("pgd", norm)
    estimate = None if point is None else study.false_breaks(point)
    if point is not None and estimate is not None:
        yield statement.decided(estimate, f"{READING} {instead(dataset, paper)}{study.method(point)}")


def _latent_descent(paper: str, dataset: str, study: AttackStudy, norm: str) -> Iterator[Claim]:
    statement = Statement(
        name=f"{slug(paper)}-{norm}-pgd-improves-on-latent-descent",
        text=f"{paper}: PGD with the adaptive gradient improves Schott et al.'s latent descent attack, {NORMS[norm]}",
        source=f"Sec. 4.2; the data of {TABLES[paper]}",
        quantity=f"E-ABS's accuracy under latent descent − under PGD, {SHARE}",
    )
    eps = _radius(study, norm, LATENT)
    if eps is not None:
        points = [study.point(attack=attack, norm=norm, eps=eps) for attack in (LATENT, "pgd")]
        first, second = ((ATTACKS[name], study.robust(p)) for name, p in zip((LATENT, "pgd"), points, strict=True))
        yield paired(statement, first, second, methods((study, p) for p in points), instead(dataset, paper))


def _radius(study: AttackStudy, norm: str, attack: str) -> float | None:
    """The largest radius of an attack at which PGD was run, too."""
    radii = [eps for eps in study.radii(attack, norm) if study.has(attack="pgd", norm=norm, eps=eps)]
    return max(radii, default=None)


def _gradient_free(dataset: str, study: AttackStudy, attack: str) -> Iterator[Claim]:
    """The weakness of an attack without gradients, and what it finds that those with gradients miss."""
    papers, norm = GRADIENT_FREE[attack]
    eps = _radius(study, norm, attack)
    if eps is None:
        return
    fixed = {"norm": norm, "eps": eps}
    free = study.point(attack=attack, **fixed)
    by_gradient = {name: study.point(attack=name, **fixed) for name in BY_GRADIENT if study.has(attack=name, **fixed)}
    best = min(by_gradient, key=lambda name: study.robust(by_gradient[name]).mean())
    statement = Statement(
        name=f"gradient-free-{norm}-weaker",
        text=f"{SVHN}: gradient-based attacks with the adaptive gradient are much stronger than gradient-free ones, "
        f"{NORMS[norm]}",
        source="Sec. 5",
        quantity=f"E-ABS's accuracy under {ATTACKS[attack]} − under {ATTACKS[best]}, the strongest single "
        f"attack that follows gradients, {SHARE}",
        condition=MUCH,
    )
    number = PAPERS[SVHN, papers, E_ABS]
    settings = f"The paper's: {number.value:g} % under {papers}. {methods([(study, free), (study, by_gradient[best])])}"
    first, second = (line(norm, attack), study.robust(free)), (ATTACKS[best], study.robust(by_gradient[best]))
    weaker = paired(statement, first, second, settings, f"{READING} {instead(dataset, SVHN)}")
    both = (weaker, _obfuscated(dataset, study, norm, free, list(by_gradient.values())))
    queries, papers_queries = asked(study, free), int(PAPERS[SVHN, papers, "steps"].value) * QUERIES[attack]
    if queries >= ENOUGH * papers_queries:
        yield from both
        return
    for each in both:
        few = f"{queries:,} queries where the paper's steps ask {papers_queries:,} decide nothing."
        yield replace(each, verdict="not decided", note=f"{each.note}. {few}")


def asked(study: AttackStudy, point: int) -> int:
    """How many queries an attack without gradients had for its steps."""
    each = int(study.config["details"]["queries"]) if str(study.arrays["attack"][point]) == "estimated" else 1
    return int(study.arrays["steps"][point]) * each


def _obfuscated(dataset: str, study: AttackStudy, norm: str, free: int, by_gradient: list[int]) -> Claim:
    statement = Statement(
        name=f"gradient-free-{norm}-finds-nothing-new",
        text=f"{SVHN}: E-ABS does not have obfuscated gradients, {NORMS[norm]}",
        source="Sec. 4.2 and 5",
        quantity=f"share of the test images that withstand the attacks by gradients and not "
        f"{ATTACKS[str(study.arrays['attack'][free])]}",
        condition=FEW,
    )
    withstood = np.all([study.robust(point) for point in by_gradient], axis=0)
    missed = withstood & ~study.robust(free)
    names = ", ".join(ATTACKS[str(study.arrays["attack"][point])] for point in by_gradient)
    eps = float(study.arrays["eps"][free])
    note = f"{READING} {instead(dataset, SVHN)}{missed.sum()} of {withstood.sum()} that withstand {names} of "
    return statement.decided(accuracy(missed), f"{note}{radius_words(norm, eps)}. {study.method(free)}")
