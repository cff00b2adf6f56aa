"""The paper's claims, each with the number that decides it. A bound that is ours is noted as such."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from robustgen.errors import UserError
from robustgen.evaluation.claims import Condition, claim
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import auc, mean, mean_difference, proportion, proportion_difference
from robustgen.papers.robust_generative.study import ROLES, Study

POSITIVE = Condition(">", 0)
EARLY = 5  # steps; an early point of the trace
NEEDED = ("pgd", "pgd-strong", "apgd", "fgsm", "he-pgd")
OURS = "The bound is our reading."


def claims(study: Study, found: Mapping[str, np.ndarray]) -> list[Claim]:
    """Every claim, decided on one data set and on the interpretation `found` of its classifiers."""
    missing = [name for name in NEEDED if name not in study.attacks]
    missing += [
        f"{name} with `trace: true`" for name in ("pgd", "he-pgd") if f"trace_energy.{name}" not in study.arrays
    ]
    if missing:
        raise UserError(
            f"the claims need the attacks {', '.join(NEEDED)}, but {study.name} was not scored under "
            f"{', '.join(missing)}; add them to its attack and detect runs"
        )
    return [*_energy(study), *_detector(study), *_he_pgd(study), *_robust(found)]


def _energy(study: Study) -> Iterator[Claim]:
    natural, (energies, correct) = study.natural_energy(), study.trace("pgd")
    for attack, name in (("pgd", "PGD"), ("fgsm", "FGSM")):
        yield claim(
            f"{attack}-lower",
            f"Untargeted {name} images have lower energy than natural ones",
            source="Sec. 4.1, Fig. 2a" if attack == "pgd" else "Abstract (untargeted attacks)",
            quantity=f"E(natural) − E({name}), nats, mean of pairs",
            condition=POSITIVE,
            estimate=mean_difference(study.natural_energy(attack), study.energy(attack)),
            note=study.method(attack),
        )
    means = ", ".join(f"{energies[k].mean():.2f}" for k in (0, 1, 2, EARLY, -1))
    yield claim(
        "more-steps-lower",
        "The energy falls as the attack takes more steps",
        source="Sec. 4.1, Fig. 2b",
        quantity=f"E after {EARLY} steps − E after {len(energies) - 1}, nats, mean of pairs",
        condition=POSITIVE,
        estimate=mean_difference(energies[EARLY], energies[-1]),
        note=f"Mean E after 0, 1, 2, {EARLY} and all steps: {means}; natural {natural.mean():.2f}.",
    )
    yield claim(
        "first-steps-lower",
        "The energy falls from the first steps on",
        source="Sec. 4.1, Fig. 2b",
        quantity="E at the random start − E after 2 steps, nats, mean of pairs",
        condition=POSITIVE,
        estimate=mean_difference(energies[0], energies[2]),
    )
    threshold = study.scores("energy", "pgd", "pgd")[2]
    early, late = energies[EARLY] <= threshold, energies[-1] <= threshold
    yield claim(
        "more-steps-easier",
        "The more steps the attack takes, the easier it is to detect",
        source="Sec. 1, Sec. 4.1",
        quantity=f"DR after all steps − DR after {EARLY}, one threshold, a share of the test images",
        condition=POSITIVE,
        estimate=proportion_difference(late, early),
        note=f"DR {early.mean():.1%} after {EARLY} steps, where the accuracy is {correct[EARLY].mean():.1%} already.",
    )
    weak, strong = study.flagged("energy", "pgd", "pgd"), study.flagged("energy", "pgd-strong", "pgd-strong")
    yield claim(
        "larger-radius-easier",
        "The larger the radius, the easier the attack is to detect",
        source="Table 1 (imagenette)",
        quantity="DR at the larger radius − DR, each at its own threshold, a share of the test images",
        condition=POSITIVE,
        estimate=proportion_difference(strong, weak),
    )


def _detector(study: Study) -> Iterator[Claim]:
    natural, attacked, _ = study.scores("energy", "pgd", "pgd")
    yield claim(
        "separated",
        "The two distributions are almost separated",
        source="Fig. 2a",
        quantity="AUC of the energy, natural against PGD",
        condition=Condition(">", 0.95),
        estimate=auc(natural, attacked),
        note=OURS,
    )
    for other, name in (("kd-bu", "KD+BU"), ("lid", "LID")):
        if study.has(other, "pgd", "pgd"):
            shares = [study.scores(detector, "pgd", "pgd") for detector in ("energy", other)]
            fpr = [f"{(clean <= threshold).mean():.1%}" for clean, _, threshold in shares]
            yield claim(
                f"beats-{other}",
                f"The energy detects more PGD images than {name}",
                source="Table 1",
                quantity=f"DR of the energy − DR of {name}, a share of the test images",
                condition=POSITIVE,
                estimate=proportion_difference(
                    study.flagged("energy", "pgd", "pgd"), study.flagged(other, "pgd", "pgd")
                ),
                note=f"Each at its own G-mean threshold, FPR {fpr[0]} against {fpr[1]}. The paper quotes its rivals.",
            )
    for attack, name in (("apgd", "APGD"), ("fgsm", "FGSM")):
        flagged = study.flagged("energy", "pgd", attack)
        reported = " The paper reports 85.45 %; its code fits the threshold on APGD." if attack == "apgd" else ""
        yield claim(
            f"unseen-{attack}",
            f"The detector works for unseen attacks: {name}",
            source="Sec. 5.1, Table 1",
            quantity=f"DR on {name} at the threshold fitted on PGD, a share of the test images",
            condition=Condition(">", 0.8),
            estimate=proportion(int(flagged.sum()), len(flagged)),
            note=OURS + reported,
        )


def _he_pgd(study: Study) -> Iterator[Claim]:
    natural = study.natural_energy("he-pgd")
    spread = natural.std(ddof=1)
    for attack, name in (("he-pgd", "HE-PGD"), ("he-pgd-paper", "HE-PGD with the paper's λ")):
        if attack not in study.attacks:
            continue
        area = auc(natural, study.energy(attack))
        yield claim(
            f"{attack}-overlaps",
            f"{name}: energies like those of natural images",
            source="Sec. 5.2, Fig. 3a",
            quantity="mean E(natural) − E(HE-PGD), in standard deviations of E(natural)",
            condition=Condition("within", 0.5),
            estimate=mean((study.natural_energy(attack) - study.energy(attack)) / spread),
            note=f"{OURS} PGD: {(natural - study.energy('pgd')).mean() / spread:.2f}. AUC {area.value:.2f}; spread "
            f"{study.energy(attack).std(ddof=1):.2f} against {spread:.2f} nats. {study.method(attack)}",
        )
    flagged, clean = study.flagged("energy", "pgd", "he-pgd"), study.flagged_natural("energy", "pgd", "he-pgd")
    yield claim(
        "he-pgd-bypasses",
        "HE-PGD bypasses the detector",
        source="Sec. 5.2",
        quantity="DR on HE-PGD − FPR at the threshold fitted on PGD, a share of the test images",
        condition=Condition("<", 0.2),
        estimate=proportion_difference(flagged, clean),
        note=f"{OURS} DR {flagged.mean():.1%}, FPR {clean.mean():.1%}.",
    )
    right = study.correct("he-pgd")
    yield claim(
        "he-pgd-breaks",
        "HE-PGD still drives the accuracy to 0",
        source="Sec. 5.2, Fig. 3b",
        quantity="accuracy under HE-PGD, a share of the test images",
        condition=Condition("<", 0.02),
        estimate=proportion(int(right.sum()), len(right)),
        note=OURS,
    )
    yield claim(
        "he-pgd-as-effective",
        "HE-PGD is at least as effective as PGD",
        source="Sec. 5.2",
        quantity="accuracy under HE-PGD − under PGD, a share of the test images",
        condition=Condition("<", 0.02),
        estimate=proportion_difference(right, study.correct("pgd")),
        note=OURS,
    )
    energies, correct = study.trace("he-pgd")
    fall = (study.trace("pgd")[0][EARLY] - study.trace("pgd")[0][-1]).mean() / spread
    yield claim(
        "he-pgd-invariant",
        "Under HE-PGD the energy hardly depends on the number of steps",
        source="Sec. 5.2, Fig. 3b",
        quantity=f"E after {EARLY} steps − E after {len(energies) - 1}, in standard deviations of E(natural)",
        condition=Condition("within", 0.5),
        estimate=mean((energies[EARLY] - energies[-1]) / spread),
        note=f"{OURS} PGD: {fall:.2f}.",
    )
    yield claim(
        "he-pgd-gradual",
        "The accuracy falls slightly more gradually than under PGD",
        source="Sec. 5.2, Fig. 3b",
        quantity="mean accuracy over the steps, HE-PGD − PGD, mean of pairs",
        condition=POSITIVE,
        estimate=mean_difference(correct.mean(0), study.trace("pgd")[1].mean(0)),
    )


def _robust(found: Mapping[str, np.ndarray]) -> Iterator[Claim]:
    for measure, word in (("density", "denser"), ("alignment", "more aligned with the image")):
        yield claim(
            f"robust-gradient-{measure}",
            f"A robust classifier's input gradients are {word} than a natural one's",
            source="Sec. 5.3, Fig. 4",
            quantity=f"{measure} of the margin's gradient, robust − natural, mean of pairs",
            condition=POSITIVE,
            estimate=mean_difference(found[f"robust_{measure}"], found[f"natural_{measure}"]),
        )
    for role in ("robust", "quasi_robust"):
        share, natural = found[f"{role}_judged"].mean(), found["natural_judged"].mean()
        yield claim(
            f"{role.replace('_', '-')}-synthesises",
            f"A {role.replace('_', '-')} classifier's gradient synthesises images of the class better than a natural's",
            source="Sec. 5.3",
            quantity="share in which an independent classifier sees the class, minus the natural classifier's share",
            condition=POSITIVE,
            estimate=proportion_difference(found[f"{role}_judged"], found["natural_judged"]),
            note=f"{share:.0%} against {natural:.0%}. The judge is trained naturally: features that are not robust "
            "transfer to it, and it may recognise what looks like noise to a person.",
        )
    robust = [f"{name} {found[f'{role}_robust_correct'].mean():.1%}" for role, name in ROLES.items()]
    yield claim(
        "quasi-robust-is-not-robust",
        "A quasi-robust classifier is less robust than a robust one",
        source="Sec. 5.3",
        quantity="robust accuracy, robust − quasi-robust, a share of the test images",
        condition=POSITIVE,
        estimate=proportion_difference(found["robust_robust_correct"], found["quasi_robust_robust_correct"]),
        note=f"Under PGD: {', '.join(robust)}.",
    )
    yield claim(
        "quasi-robust-keeps-accuracy",
        "A quasi-robust classifier keeps its accuracy on clean images",
        source="Sec. 5.3",
        quantity="clean accuracy, quasi-robust − natural, a share of the test images",
        condition=Condition(">", -0.02),
        estimate=proportion_difference(found["quasi_robust_clean_correct"], found["natural_clean_correct"]),
        note=OURS,
    )
