"""Claims about the defence under Algorithm 1: BPDA+EOT, confirmed breaks (Table 2, Figures 4-6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from robustgen.evaluation.claims import Condition, claim
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import proportion_difference, share_difference
from robustgen.papers.langevin import Defense
from robustgen.papers.settings import SAME_GRADIENT
from robustgen.papers.stochastic_security.claims.blind import LATER, OURS, POSITIVE, SHARE
from robustgen.papers.stochastic_security.study import Measured
from robustgen.papers.studies import accuracy, shared
from robustgen.papers.words import pixels


def claims(found: Measured) -> Iterator[Claim]:
    if found.steps_ours is not None:
        yield from _langevin_steps(found, found.steps_ours)
    if found.main is not None:
        yield from _main(found, found.main)
    yield from _radii(found)
    yield from _unrolled(found)
    if found.attack_steps is not None:
        yield from _long_attack(found, found.attack_steps)
    if found.draws is not None:
        yield from _replicates(found, found.draws)


def _langevin_steps(found: Measured, study: Defense) -> Iterator[Claim]:
    wanted: dict[str, Any] = {"norm": "linf", "eps": found.eps}
    right = {k: study.robust(study.point(**wanted, langevin_steps=k)) for k in (found.short, found.long)}
    settings = study.method(study.point(**wanted, langevin_steps=found.long))
    if study.has(**wanted, langevin_steps=0):
        right[0] = study.robust(study.point(**wanted, langevin_steps=0))
    for name, word, steps in (("none", "no purification", 0), ("short", "a short run", found.short)):
        if steps in right:
            yield claim(
                f"long-beats-{name}",
                f"Under BPDA+EOT long-run purification defends better than {word}",
                source="Sec. 4.1, Fig. 4",
                quantity=f"accuracy under attack, K = {found.long} − K = {steps}, {SHARE}",
                condition=POSITIVE,
                estimate=proportion_difference(right[found.long], right[steps]),
                note=f"{right[found.long].mean():.1%} against {right[steps].mean():.1%}. {settings}",
            )
    yield claim(
        "short-run-is-not-robust",
        "Short-run Langevin yields almost no adversarial robustness",
        source="Sec. 4.1, Fig. 4",
        quantity=f"accuracy under BPDA+EOT at K = {found.short}, {SHARE}",
        condition=Condition("<", 0.1),
        estimate=accuracy(right[found.short]),
        note=OURS,
    )
    longest = study.values("langevin_steps", **wanted)[-1]
    if longest > found.long:
        last = study.robust(study.point(**wanted, langevin_steps=longest))
        yield claim(
            "saturates-in-steps",
            "More Langevin steps than the chosen number hardly defend better",
            source="Sec. 4.1, Fig. 4",
            quantity=f"accuracy under BPDA+EOT, K = {longest} − K = {found.long}, {SHARE}",
            condition=Condition("<", 0.1),
            estimate=proportion_difference(last, right[found.long]),
            note=f"{OURS} {last.mean():.1%} against {right[found.long].mean():.1%}"
            + (": it falls." if last.mean() < right[found.long].mean() else "."),
        )
    if found.steps_twin is not None:
        yield from _twin(found, study, found.steps_twin)


def _twin(found: Measured, ours: Defense, twin: Defense) -> Iterator[Claim]:
    rows, others = shared(ours, twin)
    wanted: dict[str, Any] = {"norm": "linf", "eps": found.eps}
    tried = [set(study.values("langevin_steps", **wanted)) for study in (ours, twin)]
    for steps, suffix in ((found.long, ""), (max(tried[0] & tried[1]), "-longest")):
        if suffix and steps <= found.long:
            return
        right, wrong = (
            study.robust(study.point(**wanted, langevin_steps=steps))[chosen]
            for study, chosen in ((ours, rows), (twin, others))
        )
        yield claim(
            f"convergent-beats-twin{suffix}",
            "Under BPDA+EOT the convergent EBM defends better than the non-convergent one"
            + (", in a still longer run" if suffix else ""),
            source="Sec. 4.1, Fig. 4",
            quantity=f"accuracy under attack at K = {steps}, convergent − non-convergent, {SHARE}",
            condition=POSITIVE,
            estimate=proportion_difference(right, wrong),
            note=f"{right.mean():.1%} against {wrong.mean():.1%}. "
            f"{ours.method(ours.point(**wanted, langevin_steps=steps))}" + (LATER if suffix else ""),
        )


def _main(found: Measured, study: Defense) -> Iterator[Claim]:
    wanted: dict[str, Any] = {"norm": "linf", "langevin_steps": found.long}
    point = study.point(**wanted, eps=found.eps)
    if found.ours is not None:
        rows, others = shared(study, found.ours)
        adaptive, blind = study.robust(point)[rows], found.ours.correct(found.long, attacked=True)[others]
        yield claim(
            "adaptive-attack-stronger",
            "BPDA+EOT is stronger than an attack blind to the defence",
            source="Sec. 4.2 and 4.3, Tables 1 and 2",
            quantity=f"accuracy under blind PGD − under BPDA+EOT, {SHARE}",
            condition=POSITIVE,
            estimate=proportion_difference(blind, adaptive),
            note=f"{blind.mean():.1%} against {adaptive.mean():.1%}. Blind PGD is judged at its last iterate with H "
            f"{found.ours.draws.shape[1]}, the adaptive attack at any of its iterates with H_def "
            f"{study.arrays['verify'][point]}. {study.method(point)}",
        )
    if (control := found.control) is not None:
        at, zero = control
        right = at.natural(zero)
        if right.any():
            yield claim(
                "no-false-breaks",
                "Confirmed breaks come from the attack, not from random predictions",
                source="Sec. 3.1, Algorithm 1",
                quantity="share of rightly classified images that an attack of radius 0 breaks",
                condition=Condition("<", 0.05),
                estimate=accuracy(at.broken(zero)[right]),
                note=f"{OURS} The control is ours. {at.method(zero)}",
            )
    if found.at_linf is not None:
        yield _against_trained(found, study, point, found.at_linf)


def _against_trained(found: Measured, study: Defense, point: int, trained: Defense) -> Claim:
    rows, others = shared(study, trained)
    rival = trained.point(norm="linf", eps=found.eps)
    ours, theirs = study.robust(point)[rows], trained.robust(rival)[others]
    return claim(
        "stronger-than-adversarial-training",
        "The EBM defence is stronger than standard adversarial training",
        source="Sec. 4.3, Table 2",
        quantity=f"accuracy at L∞ eps {pixels(found.eps)}, EBM defence under BPDA+EOT − adversarial training (L∞) "
        f"under PGD, {SHARE}",
        condition=POSITIVE,
        estimate=proportion_difference(ours, theirs),
        note=f"{ours.mean():.1%} against {theirs.mean():.1%}; natural {study.natural(point)[rows].mean():.1%} and "
        f"{trained.natural(rival)[others].mean():.1%}. Both trained and attacked by us. {trained.method(rival)}",
    )


def _radii(found: Measured) -> Iterator[Claim]:
    if found.at_linf is None:
        return
    if found.linf is not None and (radii := _common_radii(found.linf, found.at_linf, "linf")):
        middle = radii[len(radii) // 2]
        ours, theirs = _survival(found.linf, found.at_linf, "linf", [middle])
        yield claim(
            "beats-adversarial-training-medium-linf",
            "The EBM defence is more robust than adversarial training for medium L∞ perturbations",
            source="Sec. 4.3, Fig. 5",
            quantity=f"accuracy at the median radius, L∞ eps {pixels(middle)}, EBM defence − adversarial training, "
            f"{SHARE}",
            condition=POSITIVE,
            estimate=share_difference(ours, theirs),
            note=f"{ours.mean():.1%} against {theirs.mean():.1%}. “Medium” is our reading: the median of the radii "
            f"{', '.join(map(pixels, radii))}.",
        )
    if found.l2 is not None and (radii := _common_radii(found.l2, found.at_linf, "l2")):
        larger = radii[len(radii) // 2 :]
        ours, theirs = _survival(found.l2, found.at_linf, "l2", larger)
        yield claim(
            "beats-adversarial-training-l2",
            "The EBM defence is more robust than L∞ adversarial training for medium and large L2 perturbations",
            source="Sec. 4.3, Fig. 5",
            quantity=f"accuracy averaged over the L2 radii {', '.join(map(pixels, larger))}, EBM defence − adversarial "
            "training (L∞), mean over images",
            condition=POSITIVE,
            estimate=share_difference(ours, theirs),
            note=f"{ours.mean():.1%} against {theirs.mean():.1%}. “Medium and large” is our reading: the upper half of "
            f"the radii {', '.join(map(pixels, radii))}.",
        )


def _common_radii(a: Defense, b: Defense, norm: str) -> list[float]:
    return [eps for eps in a.values("eps", norm=norm) if eps > 0 and b.has(norm=norm, eps=eps)]


def _survival(a: Defense, b: Defense, norm: str, radii: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Per shared image (n,), (n,) the share of the radii at which it stays right."""
    rows, others = shared(a, b)
    survived = [
        np.mean([study.robust(study.point(norm=norm, eps=eps))[chosen] for eps in radii], axis=0)
        for study, chosen in ((a, rows), (b, others))
    ]
    return survived[0], survived[1]


def _unrolled(found: Measured) -> Iterator[Claim]:
    full, bpda = found.full_gradient, found.steps_ours
    if full is None or bpda is None:
        return
    wanted: dict[str, Any] = {"norm": "linf", "eps": found.eps}
    both = [k for k in full.values("langevin_steps", **wanted) if k and bpda.has(**wanted, langevin_steps=k)]
    if both:
        points = [study.point(**wanted, langevin_steps=both[-1]) for study in (full, bpda)]
        rows, others = shared(full, bpda)
        through, identity = full.robust(points[0])[rows], bpda.robust(points[1])[others]
        yield claim(
            "full-gradient-no-stronger",
            "The end-to-end gradient through Langevin steps attacks no better than the approximate one",
            source="App. G",
            quantity=f"accuracy at K = {both[-1]}, under the full gradient − under BPDA+EOT, {SHARE}",
            condition=Condition(">", -0.05),
            estimate=proportion_difference(through, identity),
            note=f"{OURS} {through.mean():.1%} against {identity.mean():.1%}, at as many steps as were unrolled. "
            f"{SAME_GRADIENT[0].upper()}{SAME_GRADIENT[1:]}: this can only confirm it. The paper compares its blind "
            "PGD with the end-to-end attacks that JEM and IGEBM report.",
        )


def _long_attack(found: Measured, study: Defense) -> Iterator[Claim]:
    point = study.point(norm="linf", eps=found.eps)
    total = study.restarts * study.attack_steps
    usual = found.main.attack_steps if found.main is not None else 0
    early = usual if 0 < usual < total else total // 3
    broken_at = study.updates_to_break(point)[study.broken(point)]
    if len(broken_at):
        reading = "N of Table 2" if early == usual else "a third of the attack, our reading"
        yield claim(
            "breaks-come-early",
            "Most breaks of a long attack happen within its first steps",
            source="Sec. 4.3, Fig. 6",
            quantity=f"share of the breaks within the first {early} of {total} updates",
            condition=Condition(">", 0.5),
            estimate=accuracy(broken_at <= early),
            note=f"{early} is {reading}. {study.method(point)}",
        )


def _replicates(found: Measured, study: Defense) -> Iterator[Claim]:
    wanted: dict[str, Any] = {"norm": "linf", "eps": found.eps}
    yield from _judging(study, {**wanted, "draws": study.values("draws", **wanted)[0]})
    wanted["verify"] = study.values("verify", **wanted)[-1]
    counts = study.values("draws", **wanted)
    if len(counts) < 3:
        return
    right = {h: study.robust(study.point(**wanted, draws=h)) for h in counts}
    most, before, least = counts[-1], counts[-2], counts[0]
    yield claim(
        "more-replicates-attack-better",
        "More EOT replicates make the attack stronger",
        source="Sec. 4.3, Fig. 6",
        quantity=f"accuracy under attack, H_adv = {least} − H_adv = {most}, {SHARE}",
        condition=POSITIVE,
        estimate=proportion_difference(right[least], right[most]),
        note=f"{right[least].mean():.1%} against {right[most].mean():.1%}.",
    )
    yield claim(
        "saturates-in-replicates",
        "The attack's strength saturates in the number of EOT replicates",
        source="Sec. 4.3, Fig. 6",
        quantity=f"accuracy under attack, H_adv = {before} − H_adv = {most}, {SHARE}",
        condition=Condition("<", 0.05),
        estimate=proportion_difference(right[before], right[most]),
        note=f"{OURS} {study.method(study.point(**wanted, draws=most))}",
    )


def _judging(study: Defense, wanted: dict[str, Any]) -> Iterator[Claim]:
    counts = study.values("verify", **wanted)
    if len(counts) > 1:
        many, few = (study.robust(study.point(**wanted, verify=count)) for count in (counts[-1], counts[0]))
        yield claim(
            "few-replicates-overstate-breaks",
            "Judging breaks with few replicates overstates them",
            source="Sec. 3.1",
            quantity=f"accuracy under attack at H_adv = {wanted['draws']}, H_def = {counts[-1]} − H_def = {counts[0]}, "
            f"{SHARE}",
            condition=POSITIVE,
            estimate=proportion_difference(many, few),
            note=f"{many.mean():.1%} against {few.mean():.1%}. "
            f"{study.method(study.point(**wanted, verify=counts[-1]))}",
        )
