"""Claims about robust classification beside a softmax classifier trained adversarially (Figures 3b and 5b)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import proportion_difference
from robustgen.papers.gat.claims.detection import AT, paired_note
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import Detection
from robustgen.papers.statements import READING, SHARE, Statement

SIMILAR = Condition("within", 0.1)
RADII = {"trained": 0, "larger": 1}  # positions among a study's radii


def claims(found: Measured) -> Iterator[Claim]:
    for radius in RADII:
        for papers in (True, False):
            yield _below(found.mnist.detection, radius, papers=papers)
    yield _similar(found.cifar.detection)
    for papers in (True, False):
        yield _cost(found.cifar.detection, papers=papers)


def _eps(study: Detection | None, radius: str) -> float | None:
    at = RADII[radius]
    return study.radii[at] if study is not None and len(study.radii) > at else None


def _below(study: Detection | None, radius: str, *, papers: bool) -> Claim:
    under = "Eq. 14" if papers else "all attacks at hand"
    statement = Statement(
        name=f"mnist-generative-below-softmax-{radius}-radius" + ("" if papers else "-under-all-attacks"),
        text=f"MNIST: at the {radius} radius the generative classifier with rejection errs less, under {under}, than "
        "the softmax classifier trained adversarially",
        source="Sec. 5.1, Fig. 3b",
        quantity=f"error of the softmax classifier under PGD − of the generative one under {under}, {AT}, {SHARE}",
    )
    eps = _eps(study, radius)
    wrong = None if study is None or eps is None else study.rival_wrong(eps)
    if study is None or eps is None or wrong is None or study.point("detector", eps) is None:
        return statement.missing("the generative and the softmax classifier under attack")
    ours = study.passing("generative", eps, "detector" if papers else None)
    return statement.decided(proportion_difference(wrong, ours), _note(study, eps, wrong, ours))


def _note(study: Detection, eps: float, wrong: np.ndarray, ours: np.ndarray) -> str:
    right = study.rival_right
    threshold = study.threshold("generative")
    accuracy = f"standard accuracy {(study.right('generative') >= threshold).mean():.1%}"
    accuracy += "" if right is None else f" against the softmax classifier's {right.mean():.1%}"
    return f"Softmax {paired_note(wrong, ours, study.settings(eps))}; {accuracy}"


def _similar(study: Detection | None) -> Claim:
    statement = Statement(
        name="cifar-generative-and-softmax-err-alike",
        text="CIFAR-10: at the larger radius the generative classifier and the softmax classifier trained "
        "adversarially have similar errors",
        source="Sec. 5.2, Fig. 6",
        quantity=f"error of the softmax classifier under PGD − of the generative one under Eq. 14, {AT}, {SHARE}",
        condition=SIMILAR,
    )
    eps = _eps(study, "larger")
    wrong = None if study is None or eps is None else study.rival_wrong(eps)
    if study is None or eps is None or wrong is None or study.point("detector", eps) is None:
        return statement.missing("the generative and the softmax classifier under attack")
    ours = study.passing("generative", eps, "detector")
    return statement.decided(proportion_difference(wrong, ours), f"{READING} {_note(study, eps, wrong, ours)}")


def _cost(study: Detection | None, *, papers: bool) -> Claim:
    under = "Eqs. 17 and 14" if papers else "all attacks at hand"
    statement = Statement(
        name="cifar-integrated-errs-more" + ("" if papers else "-under-all-attacks"),
        text="CIFAR-10: the integrated classifier's standard accuracy costs significantly more errors under attack "
        "than the generative one makes",
        source="Sec. 5.2, Fig. 5b",
        quantity=f"error at the larger radius, integrated − generative, under {under}, {AT}, {SHARE}",
    )
    eps = _eps(study, "larger")
    needed = ("combined17", "detector")
    if study is None or eps is None or any(study.point(attack, eps) is None for attack in needed):
        return statement.missing("both classifiers under attack at the larger radius")
    a = study.passing("integrated", eps, "combined17" if papers else None)
    b = study.passing("generative", eps, "detector" if papers else None)
    accuracies = [(study.right(way) >= study.threshold(way)).mean() for way in ("integrated", "generative")]
    note = f"Standard accuracies {accuracies[0]:.1%} and {accuracies[1]:.1%}"
    return statement.decided(proportion_difference(a, b), f"{paired_note(a, b, study.settings(eps))}; {note}")
