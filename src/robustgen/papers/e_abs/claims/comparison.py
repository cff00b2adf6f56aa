"""Claims about E-ABS beside ABS, adversarial training and an unprotected CNN (Tables 1-4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.papers.e_abs.claims.paired import (
    CLEAN_MARGIN,
    PAPERS,
    ROBUST_MARGIN,
    inferences,
    instead,
    methods,
    paired,
    papers_words,
    slug,
)
from robustgen.papers.e_abs.measured import Comparison, Measured
from robustgen.papers.e_abs.words import (
    ABS,
    ADV_L2,
    ADV_LINF,
    ATTACKS,
    CLEAN,
    CNN,
    E_ABS,
    FASHION,
    MNIST,
    NORM_ORDER,
    PAPERS_ATTACKS,
    SVHN,
    TABLES,
    TRAFFIC,
    all_line,
    line,
    radius_words,
)
from robustgen.papers.statements import POSITIVE, READING, SHARE, Statement
from robustgen.papers.studies import accuracy
from robustgen.papers.words import NORMS

SIMPLE = (MNIST, FASHION)  # the other two are the paper's complex data sets
TRAINED = {"linf": ADV_LINF, "l2": ADV_L2}
COMPARABLE, NO_WORSE = Condition("within", CLEAN_MARGIN), Condition(">", -CLEAN_MARGIN)
NO_LESS_ROBUST = Condition(">", -ROBUST_MARGIN)
FAR = Condition(">", 0.2)  # our reading of an accuracy that is far below another
MOST = Condition(">", 0.5)  # our reading of a robustness that is lost
SVHN_RADIUS = 8 / 255  # of the number that the paper's footnote 3 compares with
BEST = {  # published accuracies under PGD: norm, data set and row of the reference
    SVHN: ("linf", ("SVHN", "Guo et al. 2019: L∞ PGD (borrowed)", "Accuracy")),
    TRAFFIC: ("l2", ("GTSRB", "Croce et al. 2018: L2 PGD, small radius (borrowed)", "Accuracy")),
}


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """A claim that the difference of two accuracies decides: of the first model minus the second, in one line."""

    name: str
    text: str
    first: str
    second: str
    kind: str  # line of Tables 1-4
    condition: Condition = POSITIVE
    source: str = "Sec. 5"
    reading: bool = True  # whether the bound is ours


def claims(found: Measured) -> Iterator[Claim]:
    for paper, section in found.comparisons.items():
        for each in (*_clean(paper), *_robust(paper), *_own_norms()):
            yield from _decided(paper, section, each)
        if paper == MNIST:
            for model in (ABS, E_ABS):
                yield from _large_bound(section, model)
        yield from _state_of_the_art(paper, section)


def _clean(paper: str) -> Iterator[Pairing]:
    """Clean accuracy: beside the CNN, ABS, and the models that were to have the same."""
    cnn = "an unprotected CNN's"
    if paper == TRAFFIC:
        yield Pairing(name="clean-below-cnn", text=f"E-ABS's clean accuracy is not comparable with {cnn}",
                      first=E_ABS, second=CNN, kind=CLEAN, condition=Condition("<", -CLEAN_MARGIN))  # fmt: skip
    else:
        yield Pairing(name="clean-near-cnn", text=f"E-ABS's clean accuracy is comparable with {cnn}",
                      first=E_ABS, second=CNN, kind=CLEAN, condition=NO_WORSE)  # fmt: skip
    if paper in SIMPLE:
        yield Pairing(name="clean-at-least-abs", text="E-ABS has similar or better clean accuracy than ABS",
                      first=E_ABS, second=ABS, kind=CLEAN, condition=NO_WORSE)  # fmt: skip
    else:
        yield Pairing(name="clean-above-abs", text="E-ABS has better clean accuracy than ABS",
                      first=E_ABS, second=ABS, kind=CLEAN, reading=False)  # fmt: skip
    if paper == SVHN:
        yield Pairing(name="abs-fails", text="ABS fails: its clean accuracy is far below an unprotected CNN's",
                      first=CNN, second=ABS, kind=CLEAN, condition=FAR, source="Sec. 1 and 5")  # fmt: skip
    for model in TRAINED.values():
        yield Pairing(name=f"clean-{slug(model)}-as-e-abs", first=model, second=E_ABS, kind=CLEAN,
                      text=f"{model} is tuned to a clean accuracy comparable with E-ABS's",
                      condition=COMPARABLE, source="Sec. 4.3")  # fmt: skip


def _robust(paper: str) -> Iterator[Pairing]:
    """Accuracy under all attacks of a norm: E-ABS beside every other model."""
    for norm in NORM_ORDER:
        under, kind = f"under {NORMS[norm]} attacks", all_line(norm)
        yield Pairing(name=f"{norm}-above-cnn", text=f"E-ABS is more robust than an unprotected CNN {under}",
                      first=E_ABS, second=CNN, kind=kind, reading=False)  # fmt: skip
        if paper in SIMPLE:
            for name, text, second in (
                ("abs", f"Compared with ABS, E-ABS has comparable robustness {under}", ABS),
                ("adversarial-training", f"E-ABS's robustness is comparable to adversarial training's {under}",
                 TRAINED[norm]),
            ):  # fmt: skip
                yield Pairing(name=f"{norm}-comparable-to-{name}", text=text, first=E_ABS, second=second, kind=kind,
                              condition=NO_LESS_ROBUST)  # fmt: skip
        rivals = () if paper == FASHION else TRAINED.values() if paper == MNIST else (ABS, *TRAINED.values())
        for rival in rivals:
            beaten = (paper, norm, rival) == (MNIST, "linf", ADV_LINF)  # by its own words and Table 1
            first, second = (rival, E_ABS) if beaten else (E_ABS, rival)
            yield Pairing(name=f"{norm}-{slug(first)}-above-{slug(second)}",
                          text=f"{first} is more robust than {second} {under}{' of a large bound' if beaten else ''}",
                          first=first, second=second, kind=kind, reading=False)  # fmt: skip


def _own_norms() -> Iterator[Pairing]:
    """Adversarial training beside that of the other norm."""
    for norm, own in TRAINED.items():
        (other,) = (model for model in TRAINED.values() if model != own)
        yield Pairing(
            name=f"{norm}-{slug(own)}-above-{slug(other)}",
            text=f"Adversarial training protects against the type of attack it trained on: {own} is more robust than "
            f"{other} under {NORMS[norm]} attacks",
            first=own,
            second=other,
            kind=all_line(norm),
            reading=False,
        )


def _decided(paper: str, section: Comparison, each: Pairing) -> Iterator[Claim]:
    right = section.correct(each.kind)
    if each.first not in right or each.second not in right:
        return
    how = "clean accuracy" if each.kind == CLEAN else f"accuracy under the worst of the {each.kind[4:]} attacks"
    statement = Statement(
        name=f"{slug(paper)}-{each.name}",
        text=f"{paper}: {each.text}",
        source=f"{each.source}, {TABLES[paper]}",
        quantity=f"{how}, {each.first} − {each.second}, {SHARE}",
        condition=each.condition,
    )
    names = (each.first, each.second)
    before = f"{READING} " if each.reading else ""
    before += instead(section.dataset, paper)
    numbers = papers_words((paper, each.kind, each.first), (paper, each.kind, each.second), each.condition)
    first, second = ((name, right[name]) for name in names)
    yield paired(statement, first, second, numbers + line_words(section, each.kind, *names), before)


def line_words(section: Comparison, kind: str, *names: str) -> str:
    """Which attacks make up a line of the tables, and how PGD and inference were set, for some of the models."""
    norms = [norm for norm in NORM_ORDER if all_line(norm) == kind]
    if not norms:
        return inferences(section.models[name] for name in names)
    (norm,) = norms
    eps = section.main_eps(norm)
    assert eps is not None  # some model was attacked in this norm
    made = {}
    for name in names:
        there = section.models[name].attacks(norm, eps)
        made[name] = ", ".join(ATTACKS[attack] for attack in PAPERS_ATTACKS[norm] if attack in there)
    alike = len(set(made.values())) == 1
    listed = made[names[0]] if alike else "; ".join(f"on {name}: {attacks}" for name, attacks in made.items())
    under = section.attacked(line(norm, "pgd"))
    detail = methods(under[name] for name in names if name in under)
    return f"Worst of, at {radius_words(norm, eps)}: {listed}. {detail}"


def _large_bound(section: Comparison, model: str) -> Iterator[Claim]:
    study = section.models.get(model)
    radii = [] if study is None else study.radii("pgd", "linf")
    if study is None or not radii:
        return
    point = study.point(attack="pgd", norm="linf", eps=max(radii))
    statement = Statement(
        name=f"mnist-linf-large-bound-{slug(model)}",
        text=f"MNIST: {model} loses robustness under L∞ attacks with a large bound",
        source="Sec. 5, Table 1",
        quantity=f"{model}'s clean accuracy − that under L∞ PGD of the largest radius, {SHARE}",
        condition=MOST,
    )
    numbers = papers_words((MNIST, CLEAN, model), (MNIST, line("linf", "pgd"), model))
    yield paired(
        statement,
        ("clean", study.natural),
        ("attacked", study.robust(point)),
        numbers + study.method(point),
        f"{READING} {instead(section.dataset, MNIST)}",
    )


def _state_of_the_art(paper: str, section: Comparison) -> Iterator[Claim]:
    """Only of the paper's own data, at the radius of the published number."""
    if paper not in BEST or section.dataset != paper or section.e_abs is None:
        return
    (norm, cell), study = BEST[paper], section.e_abs
    eps = SVHN_RADIUS if paper == SVHN else PAPERS[TRAFFIC, "L2 PGD, small radius", "radius"].value
    if not study.has(attack="pgd", norm=norm, eps=eps):
        return
    point = study.point(attack="pgd", norm=norm, eps=eps)
    best = PAPERS[cell].value / 100
    statement = Statement(
        name=f"{slug(paper)}-state-of-the-art",
        text=f"{paper}: E-ABS withstands PGD better than the best published result, {best:.2%} on {cell[0]}",
        source="Sec. 5, footnote 3",
        quantity=f"E-ABS's accuracy under {radius_words(norm, eps)} PGD, {SHARE}",
        condition=Condition(">", round(best, 4)),
    )
    right: np.ndarray = study.robust(point)
    yield statement.decided(accuracy(right), f"As of 2020, published by others. {study.method(point)}")
