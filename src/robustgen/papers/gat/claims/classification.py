"""Claims about robust classification beside a softmax classifier trained adversarially (Figures 3b and 5b)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import proportion_difference
from robustgen.papers.gat.claims.detection import AT, methods, paired_note
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import Detection
from robustgen.papers.gat.words import WAYS
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
    """Of the trained radius the paper's text says nothing; its figure shows the classifiers there, too."""
    under = "Eq. 14" if papers else "all attacks at hand"
    read = radius == "trained"
    statement = Statement(
        name=f"mnist-generative-below-softmax-{radius}-radius" + ("" if papers else "-under-all-attacks"),
        text=f"MNIST: {'as we read the figure, ' if read else ''}at the {radius} radius the generative classifier with "
        f"rejection errs less, under {under}, than the softmax classifier trained adversarially",
        source="Fig. 3b, read by us" if read else "Sec. 5.1, Fig. 3b",
        quantity=f"error of the softmax classifier under PGD − of the generative one under {under}, {AT}, {SHARE}",
    )
    eps = _eps(study, radius)
    if study is None or eps is None or study.point("detector", eps) is None:
        return statement.missing("the generative and the softmax classifier under attack")
    wrong = study.rival_wrong(eps)
    attack = "detector" if papers else None
    ours = study.passing("generative", eps, attack)
    return statement.decided(proportion_difference(wrong, ours), _note(study, eps, wrong, ours, attack))


def _note(study: Detection, eps: float, wrong: np.ndarray, ours: np.ndarray, attack: str | None) -> str:
    accuracy = (study.right("generative") >= study.threshold("generative")).mean()
    accuracies = f"standard accuracy {accuracy:.1%} against the softmax classifier's {study.rival_right.mean():.1%}"
    return f"Softmax {paired_note(wrong, ours, methods(study, eps, attack))}; {accuracies}"


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
    if study is None or eps is None or study.point("detector", eps) is None:
        return statement.missing("the generative and the softmax classifier under attack")
    wrong = study.rival_wrong(eps)
    ours = study.passing("generative", eps, "detector")
    return statement.decided(
        proportion_difference(wrong, ours), f"{READING} {_note(study, eps, wrong, ours, 'detector')}"
    )


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
    attacks = needed if papers else (None, None)
    a, b = (study.passing(way, eps, attack) for way, attack in zip(WAYS, attacks, strict=True))
    accuracies = [(study.right(way) >= study.threshold(way)).mean() for way in WAYS]
    note = f"standard accuracies {accuracies[0]:.1%} and {accuracies[1]:.1%}"
    return statement.decided(proportion_difference(a, b), f"{paired_note(a, b, methods(study, eps, *attacks))}; {note}")
