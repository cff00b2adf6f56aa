"""Claims about integrated and generative detection (Figures 3a, 5a, 8 and 10) and about distortion (Tables 2, 4)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import mcnemar, mean, mean_difference, proportion_difference
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.study import Detection, Distortion, share
from robustgen.papers.gat.tables.lines import DISTORTION
from robustgen.papers.gat.words import (
    ATTACKS,
    CIFAR,
    LOSSES,
    MNIST,
    MULTI,
    PAPERS_STRONGEST,
    SHARE,
    STATE_OF_THE_ART,
    WAYS,
)
from robustgen.papers.reference import reference
from robustgen.papers.statements import READING, Statement
from robustgen.papers.statements import SHARE as OF_IMAGES
from robustgen.papers.studies import common

SECTIONS = {MNIST: ("mnist", "Sec. 5.1, Fig. 3a"), CIFAR: ("cifar", "Sec. 5.2, Fig. 5a")}
AT = f"at the thresholds that accept {SHARE:.0%} of validation images"
NEARLY = Condition("<", 0.05)  # what a stronger attack may add where the paper's is called the strongest
PERFECT = Condition("<", 0.05)  # errors that we call none
LOOSE = 0.8  # share accepted at which the paper has Eq. 14 strongest on CIFAR-10: below 0.9


def claims(found: Measured) -> Iterator[Claim]:
    studies = {MNIST: found.mnist.detection, CIFAR: found.cifar.detection}
    for shown, study in studies.items():
        yield _equations(shown, study)
        if shown == MNIST:
            yield _blind(study)
        for papers in (True, False):
            yield _ways(shown, study, papers=papers)
        for way in WAYS:
            yield _strongest(shown, study, way)
        yield _losses(shown, study)
    yield _distortion_grows(found.mnist.distortion_small, found.mnist.distortion_large)
    for shown, dataset, distortion in (
        (MNIST, found.mnist.dataset, found.mnist.distortion_large),
        (CIFAR, found.cifar.dataset, found.cifar.distortion),
    ):
        yield _state_of_the_art(shown, dataset, distortion)


def trained_radius(study: Detection | None) -> float | None:
    """The radius of the detectors' training: the smaller one of a study; None without a study."""
    return study.radii[0] if study is not None and study.radii else None


def made(study: Detection | None, *attacks: str) -> bool:
    """Whether a study has these attacks at the trained radius."""
    eps = trained_radius(study)
    return study is not None and eps is not None and all(study.point(attack, eps) is not None for attack in attacks)


def methods(study: Detection, eps: float, *attacks: str | None) -> str:
    """The settings of these attacks of a radius in words, each once; None stands for all that were made."""
    points = study.at(eps)
    names = list(points) if None in attacks else attacks
    return "; ".join(dict.fromkeys(study.method(points[name]) for name in names if name is not None))


def _equations(shown: str, study: Detection | None) -> Claim:
    slug, source = SECTIONS[shown]
    statement = Statement(
        name=f"{slug}-eq17-stronger-than-eq16",
        text=f"{shown}: the combined attack with Eq. 17 is stronger than that with Eq. 16 against integrated detection",
        source=source,
        quantity=f"FPR under Eq. 17 − under Eq. 16, {AT}, {OF_IMAGES}",
    )
    eps = trained_radius(study)
    if study is None or eps is None or not made(study, "combined16", "combined17"):
        return statement.missing("integrated detection under both combined attacks")
    both = ("combined17", "combined16")
    a, b = (study.passing("integrated", eps, attack) for attack in both)
    return statement.decided(proportion_difference(a, b), paired_note(a, b, methods(study, eps, *both)))


def paired_note(a: np.ndarray, b: np.ndarray, settings: str) -> str:
    """Two shares of the same images, McNemar's p-value of their difference, and the settings."""
    return f"{a.mean():.1%} against {b.mean():.1%} of {len(a)} images, McNemar p = {mcnemar(a, b):.2g}. {settings}"


def _blind(study: Detection | None) -> Claim:
    statement = Statement(
        name="mnist-classifier-attack-is-detected",
        text="MNIST: integrated detection perfectly detects attacks on the classifier alone",
        source="Sec. 5.1, Fig. 3a",
        quantity=f"FPR of integrated detection under Eq. 12, {AT}, {OF_IMAGES}",
        condition=PERFECT,
    )
    eps = trained_radius(study)
    if study is None or eps is None or not made(study, "classifier"):
        return statement.missing("integrated detection under the classifier attack")
    fooled = float(np.isfinite(study.accepted("integrated", study.at(eps)["classifier"])).mean())
    note = f"{READING} The attack misleads f on {fooled:.1%} of the images. {methods(study, eps, 'classifier')}"
    return statement.decided(share(study.passing("integrated", eps, "classifier")), note)


def _ways(shown: str, study: Detection | None, *, papers: bool) -> Claim:
    slug, source = SECTIONS[shown]
    under = "each under the paper's strongest attack on it" if papers else "each under all attacks at hand"
    strongest = "Eq. 17 and Eq. 14" if papers else "the worst of all attacks, Tramèr et al.'s multi-targeted among them"
    statement = Statement(
        name=f"{slug}-generative-beats-integrated" + ("" if papers else "-under-all-attacks"),
        text=f"{shown}: generative detection outperforms integrated detection, {under}",
        source=source,
        quantity=f"FPR of integrated − of generative detection under {strongest}, {AT}, {OF_IMAGES}",
    )
    eps = trained_radius(study)
    needed = PAPERS_STRONGEST if papers else MULTI
    if study is None or eps is None or not made(study, *needed.values()):
        return statement.missing(f"both ways of detection under {', '.join(ATTACKS[name] for name in needed.values())}")
    attacks = [needed[way] if papers else None for way in WAYS]
    a, b = (study.passing(way, eps, attack) for way, attack in zip(WAYS, attacks, strict=True))
    return statement.decided(proportion_difference(a, b), paired_note(a, b, methods(study, eps, *attacks)))


def _strongest(shown: str, study: Detection | None, way: str) -> Claim:
    slug, source = SECTIONS[shown]
    papers = PAPERS_STRONGEST[way]
    statement = Statement(
        name=f"{slug}-strongest-attack-on-{way}",
        text=f"{shown}: the {ATTACKS[papers]} is (nearly) the strongest on {way} detection",
        source=source,
        quantity=f"FPR under the worst of all attacks − under this one, {AT}, {OF_IMAGES}",
        condition=NEARLY,
    )
    eps = trained_radius(study)
    if study is None or eps is None or not made(study, papers) or len(study.attacks(eps)) < 2:
        return statement.missing(f"{way} detection under this attack and another one")
    a, b = study.passing(way, eps, None), study.passing(way, eps, papers)
    singly = ", ".join(
        f"{ATTACKS[name]}{' on ' + name.partition('-')[2] if name.startswith('multi') else ''} "
        f"{study.passing(way, eps, name).mean():.1%}"
        for name in study.attacks(eps)
    )
    note = f"{READING} The difference cannot be below 0. {singly}. {paired_note(a, b, methods(study, eps, None))}"
    return statement.decided(proportion_difference(a, b), note)


def _losses(shown: str, study: Detection | None) -> Claim:
    slug, _ = SECTIONS[shown]
    accepted = SHARE if shown == MNIST else LOOSE
    statement = Statement(
        name=f"{slug}-eq14-strongest-loss",
        text=f"{shown}: against generative detection Eq. 14 is more effective than cross-entropy or the CW loss"
        + ("" if shown == MNIST else " unless nearly all clean samples are accepted"),
        source="Sec. 4.2, App. C.1, Fig. 8" if shown == MNIST else "Sec. 4.2, App. C.2.1, Fig. 10",
        quantity=f"FPR under Eq. 14 − under cross-entropy or the CW loss, whichever's interval reaches lowest, at the "
        f"threshold that accepts {accepted:.0%} of validation images, {OF_IMAGES}",
    )
    eps = trained_radius(study)
    if study is None or eps is None or not made(study, *LOSSES):
        return statement.missing("generative detection under Eq. 14, cross-entropy and the CW loss")
    threshold, points = study.threshold("generative", accepted), study.at(eps)
    passing = {name: study.accepted("generative", points[name]) >= threshold for name in LOSSES}
    papers, *others = passing.values()
    least = min((proportion_difference(papers, other) for other in others), key=lambda estimate: estimate.low)
    note = ", ".join(f"{ATTACKS[name]} {which.mean():.1%}" for name, which in passing.items())
    return statement.decided(least, f"{note}. {methods(study, eps, *LOSSES)}")


def _distortion_grows(small: Distortion | None, large: Distortion | None) -> Claim:
    statement = Statement(
        name="mnist-larger-radius-larger-distortion",
        text="MNIST: detectors trained against a larger radius need a larger L2 distortion to be misled",
        source="Sec. 5.1, Table 2",
        quantity="L2 distortion, larger radius − smaller radius, mean over images",
    )
    if small is None or large is None:
        return statement.missing("the distortion of detectors of two radii")
    rows, others = common([small, large])
    ours, theirs = large.distance[others], small.distance[rows]
    both = np.isfinite(ours) & np.isfinite(theirs)
    if both.sum() < 2:
        return statement.missing("two images on which both searches succeed")
    note = f"{ours[both].mean():.3g} against {theirs[both].mean():.3g} on the {both.sum()} of {len(both)} images where "
    note += f"both searches succeeded; natural errors count as 0. {large.method}"
    return statement.decided(mean_difference(ours[both], theirs[both]), note)


def _state_of_the_art(shown: str, dataset: str, study: Distortion | None) -> Claim:
    number = reference("robustgen.papers.gat")[shown, STATE_OF_THE_ART[shown], DISTORTION]
    statement = Statement(
        name=f"{SECTIONS[shown][0]}-distortion-above-state-of-the-art",
        text=f"{shown}: the mean L2 distortion is above that of the best detectors before",
        source={MNIST: "Sec. 5.1, Table 2", CIFAR: "Sec. 5.2, Table 4, abstract"}[shown],
        quantity="mean L2 distortion, over the images on which the search succeeds",
        condition=Condition(">", number.value),
    )
    if study is None or study.reached.sum() < 2:
        return statement.missing("the distortion of two images")
    estimate = mean(study.distance[study.reached])
    note = f"Succeeds on {study.reached.mean():.1%} of {len(study.distance)} images. {study.method}"
    if dataset == shown:
        return statement.decided(estimate, f"The bound is a number of others ({number.source}). {note}")
    return statement.shown(estimate, f"The bound holds for {shown} and decides nothing on {dataset}. {note}")
