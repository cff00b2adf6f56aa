"""Claims about purification under an attack that does not know of it (Table 1), and about random predictions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.claims import Condition, claim
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import mean, proportion_difference, share_difference
from robustgen.papers.langevin import Purification
from robustgen.papers.stochastic_security.study import Measured
from robustgen.papers.studies import accuracy, shared

POSITIVE = Condition(">", 0)
OURS = "The bound is our reading."
SHARE = "a share of the test images"
LATER = ". This run length was added after seeing the sweep."


def claims(found: Measured) -> Iterator[Claim]:
    if found.ours is not None:
        yield from _steps(found, found.ours)
        if found.twin is not None:
            yield from _convergence(found, found.ours, found.twin)
        if found.jem is not None:  # IGEBM's chain descends the energy of the class assigned: its labels are fixed
            yield _other_model(found, found.ours, found.jem, "JEM")
    if found.drawn is not None and found.drawn.draws.shape[1] >= 4:
        yield from _draws(found.drawn)


def _steps(found: Measured, study: Purification) -> Iterator[Claim]:
    none, short, long = (study.correct(steps, attacked=True) for steps in (0, found.short, found.long))
    settings = study.method(found.long, attacked=True)
    yield claim(
        "base-falls",
        "The naturally trained classifier alone falls to about 0",
        source="Sec. 4.2, Table 1",
        quantity=f"accuracy of the base classifier under PGD, {SHARE}",
        condition=Condition("<", 0.05),
        estimate=accuracy(none),
        note=f"{OURS} {study.method(0, attacked=True)}",
    )
    yield claim(
        "short-run-does-not-help",
        "Short-run sampling does not increase robustness significantly",
        source="Sec. 4.2, Table 1",
        quantity=f"accuracy under PGD blind to the defence, K = {found.short} − none, {SHARE}",
        condition=Condition("<", 0.1),
        estimate=proportion_difference(short, none),
        note=OURS,
    )
    for name, word, other in (("none", "no purification", none), ("short", "a short run", short)):
        yield claim(
            f"long-beats-{name}-blind",
            f"Long-run purification defends better than {word} against an attack blind to it",
            source="Sec. 4.2, Table 1",
            quantity=f"accuracy under PGD blind to the defence, K = {found.long} − {word}, {SHARE}",
            condition=POSITIVE,
            estimate=proportion_difference(long, other),
            note=f"{long.mean():.1%} against {other.mean():.1%}. {settings}",
        )


def _convergence(found: Measured, ours: Purification, twin: Purification) -> Iterator[Claim]:
    """At the long run, and at the longest one that both were followed for: a twin may degenerate later than that."""
    rows, others = shared(ours, twin)
    longest = max(ours.steps & twin.steps)
    for steps, suffix in ((found.long, ""), (longest, "-longest")):
        if suffix and steps <= found.long:
            return
        for name, statement, attacked in (
            ("natural", "the convergent EBM keeps more natural images recognisable than the other", False),
            ("blind", "the convergent EBM defends better than the other against an attack blind to both", True),
        ):
            right, wrong = (
                study.correct(steps, attacked=attacked)[chosen] for study, chosen in ((ours, rows), (twin, others))
            )
            yield claim(
                f"convergent-beats-twin-{name}{suffix}",
                f"{'In a still longer run' if suffix else 'Over a long run'} {statement}",
                source="Sec. 4.1, Fig. 4",
                quantity=f"{'adversarial' if attacked else 'natural'} accuracy at K = {steps}, convergent − "
                f"non-convergent, {SHARE}",
                condition=POSITIVE,
                estimate=proportion_difference(right, wrong),
                note=f"{right.mean():.1%} against {wrong.mean():.1%}. {ours.method(steps, attacked=attacked)}"
                + (LATER if suffix else ""),
            )


def _other_model(found: Measured, ours: Purification, other: Purification, name: str) -> Claim:
    rows, others = shared(ours, other)
    gains = [
        study.correct(found.long, attacked=True)[chosen].astype(float)
        - study.correct(found.short, attacked=True)[chosen]
        for study, chosen in ((ours, rows), (other, others))
    ]
    return claim(
        f"{name.lower()}-gains-little",
        f"{name} gains less from long-run sampling than our EBM",
        source="Sec. 4.2, Table 1",
        quantity=f"gain from K = {found.short} to {found.long} in accuracy under PGD blind to the defence, "
        f"ours − {name}, mean over images",
        condition=POSITIVE,
        estimate=share_difference(gains[0], gains[1], largest=2),
        note=f"Ours (H {ours.draws.shape[1]}) gains {gains[0].mean():.1%}, {name} (H {other.draws.shape[1]}) "
        f"{gains[1].mean():.1%}; each is attacked through its own classifier. The paper says “minor increases”; the "
        "comparison is our reading.",
    )


def _draws(study: Purification) -> Iterator[Claim]:
    first, second, right = split_draws(study)
    if right.sum() < 2:
        return
    singles = (second.argmax(2) != study.labels[:, None])[right]
    mean_wrong = (second.mean(1).argmax(1) != study.labels)[right]
    count = second.shape[1]
    yield claim(
        "single-draws-vary",
        "Predictions from few replicates vary: images that F has right are sometimes misclassified",
        source="Sec. 3.1, Fig. 3",
        quantity="P(one draw is wrong) over natural images right under the other half of the draws, mean over images",
        condition=Condition(">", 0.01),
        estimate=mean(singles.mean(1)),
        note=f"{OURS} F is judged from {first.shape[1]} draws and single predictions from {count} others, after "
        f"{study.drawn_steps} Langevin steps.",
    )
    yield claim(
        "large-sample-steady",
        "Many replicates give a steadier prediction than one",
        source="Sec. 3.1, Fig. 3",
        quantity=f"P(one draw is wrong) − P(the mean of {count} is wrong) over natural images right under the other "
        "half of the draws, mean of pairs",
        condition=POSITIVE,
        estimate=share_difference(singles.mean(1), mean_wrong),
        note=f"{singles.mean():.2%} against {mean_wrong.mean():.2%}. The paper sees steady predictions at H ≈ 150.",
    )


def split_draws(study: Purification) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The draws (N, H, K) in two halves, and which images (N,) the mean of the first half has right."""
    draws = study.draws.astype(np.float64)
    first, second = draws[:, : draws.shape[1] // 2], draws[:, draws.shape[1] // 2 :]
    return first, second, np.asarray(first.mean(1).argmax(1) == study.labels)
