"""Claims about certified radii (Fig. 4) and about common corruptions (Table 4)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import proportion_difference, share_difference
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import Certification, Corruptions, first_row
from robustgen.papers.statements import READING, SHARE, Statement
from robustgen.papers.studies import common

KINDS = {"certify": "CERTIFY of Cohen et al.", "point": "the paper's point estimate"}
COMPARED = 0.5  # radius of the comparison at the larger σ, in units of σ


def claims(found: Measured) -> Iterator[Claim]:
    levels = noise_levels(found)
    for kind, words in KINDS.items():
        yield _above(found, kind, words, levels[0] if levels else None)
    yield _comparable(found, levels[-1] if len(levels) > 1 else None)
    yield from _corruptions(found)


def noise_levels(found: Measured) -> list[float]:
    """The noise levels, ascending, at which ADP and a classifier of Cohen et al.'s were certified."""
    return [] if found.certified is None else [sigma for sigma in found.certified.sigmas if found.rival(sigma)]


def _pair(found: Measured, sigma: float | None) -> tuple[Certification, Certification] | None:
    rival = None if sigma is None else found.rival(sigma)
    return None if rival is None or found.certified is None else (found.certified, rival)


def _above(found: Measured, kind: str, words: str, sigma: float | None) -> Claim:
    statement = Statement(
        name=f"certified-above-cohen-{kind}",
        text=f"At the smaller noise level ADP is certified further than Cohen et al.'s classifier, by {words}",
        source="Sec. 5.1.3, Fig. 4 (σ = 0.12)",
        quantity="mean certified radius over σ, 0 where an image is not right: ADP − Cohen et al.",
    )
    pair = _pair(found, sigma)
    if pair is None or sigma is None:
        return statement.missing("certificates of ADP and of a classifier trained with noise at one σ")
    rows = common(pair)
    ours, theirs = (study.radii(sigma, kind)[chosen] / sigma for study, chosen in zip(pair, rows, strict=True))
    caps = [study.cap(sigma, kind) / sigma for study in pair]
    full = [float(np.isclose(radii, cap).mean()) for radii, cap in zip((ours, theirs), caps, strict=True)]
    note = (
        f"“Further” is our reading: the mean certified radius, which is the area under the curve. At σ {sigma:g}: "
        f"{ours.mean():.3g}σ against {theirs.mean():.3g}σ. So many copies allow {caps[0]:.3g}σ and {caps[1]:.3g}σ at "
        f"most, which {full[0]:.0%} and {full[1]:.0%} of the images reach. Ours {pair[0].settings}; theirs "
        f"{pair[1].settings}." + ("" if kind == "certify" else " A point estimate certifies nothing.")
    )
    estimate = share_difference(ours, theirs, largest=max(caps))
    if min(full) == 1:
        return statement.shown(
            estimate, f"{note} All images reach it in both: more copies would have to tell them apart."
        )
    return statement.decided(estimate, note)


def _comparable(found: Measured, sigma: float | None) -> Claim:
    statement = Statement(
        name="certified-comparable-to-cohen",
        text="At the larger noise level ADP's certified accuracy is comparable to that of Cohen et al.'s classifier",
        source="Sec. 5.1.3, Fig. 4 (σ = 0.25)",
        quantity=f"accuracy certified to the L2 radius {COMPARED:g}σ by CERTIFY, ADP − Cohen et al., {SHARE}",
        condition=Condition("within", 0.1),
    )
    pair = _pair(found, sigma)
    if pair is None or sigma is None:
        return statement.missing("certificates of ADP and of a classifier trained with noise at a second σ")
    rows = common(pair)
    ours, theirs = (
        study.radii(sigma, "certify")[chosen] >= COMPARED * sigma for study, chosen in zip(pair, rows, strict=True)
    )
    note = f"{READING} At σ {sigma:g}: {ours.mean():.1%} against {theirs.mean():.1%}. Ours {pair[0].settings}."
    return statement.decided(proportion_difference(ours, theirs), note)


def _corruptions(found: Measured) -> Iterator[Claim]:
    usual, _ = found.noise_levels()
    noisy, quiet = found.corruptions(usual), found.corruptions(0.0)
    raw, trained, both = (
        first_row([study], 0) for study in (found.corrupted_raw, found.corrupted_trained, found.corrupted_both)
    )
    for name, text, words, pair in (
        ("above-raw", "ADP raises the classifier's accuracy", "ADP − the raw classifier", (noisy, raw)),
        (
            "above-adversarial-training",
            "ADP is more accurate than adversarial training",
            "ADP − adversarial training",
            (noisy, trained),
        ),
        ("noise-hurts", "ADP without noise is more accurate than with it", "ADP at σ = 0 − ADP", (quiet, noisy)),
        (
            "perturbed-training-helps",
            "Training the score network on DCT and AugMix perturbations makes ADP more accurate",
            "ADP at σ = 0, DCT and AugMix − ADP at σ = 0",
            (both, quiet),
        ),
    ):
        statement = Statement(
            name=f"corruptions-{name}",
            text=f"On common corruptions: {text}",
            source="Sec. 5.1.4, Table 4",
            quantity=f"accuracy over all corruptions and severities, {words}, mean over images",
        )
        yield _more_accurate(statement, words, *pair)


def _more_accurate(statement: Statement, words: str, a: Corruptions | None, b: Corruptions | None) -> Claim:
    if a is None or b is None:
        return statement.missing(f"corrupted images, {words}")
    rows, others = common([a.study, b.study])
    ours: np.ndarray = a.shares()[rows]
    theirs: np.ndarray = b.shares()[others]
    note = f"{ours.mean():.1%} against {theirs.mean():.1%}; an image's corruptions count as one. {a.method}"
    return statement.decided(share_difference(ours, theirs), note)
