"""Claims about how fast score networks and energy-based models purify (Fig. 2), and about score norms (Fig. 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import Estimate, mean_difference, paired_auc, proportion_difference
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import ScoreDefense
from robustgen.papers.statements import READING, SHARE, Statement
from robustgen.papers.studies import Attacked, Grid, common

BOOTSTRAPS = 2000
SEED = 0
REACHED = 0.9  # share of the energy-based model's best accuracy that counts as purified
GAIN = 0.1  # accuracy that it must gain over its smallest T, to have purified at all
SWEEPS = "purifications by a score network and by an energy-based model, of different T"


def claims(found: Measured) -> Iterator[Claim]:
    yield _better_at_few_steps(found)
    yield _fewer_steps(found)
    for model, learned, pair in (
        ("dsm", "the score network", (found.dsm_deterministic, found.dsm_langevin)),
        ("ml", "the energy-based model", (found.ml_deterministic, found.ml_langevin)),
    ):
        yield _deterministic(found, model, learned, pair)
    yield from _norms(found)


def _few(found: Measured, study: ScoreDefense | None) -> Attacked | None:
    """A sweep's point of few steps; None without the sweep or the point."""
    return found.under(study, purification_steps=found.short)


def _paired(a: Attacked, b: Attacked) -> tuple[Estimate, str]:
    """Robust accuracy of a minus that of b on the images that both saw, and both in words."""
    rows, others = common([a.study, b.study])
    first, second = a.robust[rows], b.robust[others]
    return proportion_difference(first, second), f"{first.mean():.1%} against {second.mean():.1%}."


def _better_at_few_steps(found: Measured) -> Claim:
    statement = Statement(
        name="dsm-better-at-few-steps",
        text="After few deterministic steps a score network trained by DSM defends better than an EBM trained by MCMC",
        source="Sec. 3.2, Fig. 2",
        quantity=f"accuracy under BPDA at T = {found.short}, DSM − maximum likelihood, both deterministic, {SHARE}",
    )
    ours, theirs = _few(found, found.dsm_deterministic), _few(found, found.ml_deterministic)
    if ours is None or theirs is None:
        return statement.missing(SWEEPS)
    estimate, words = _paired(ours, theirs)
    return statement.decided(
        estimate, f"{words} {_step_sizes(found, ours.study, theirs.study)} Ours: {ours.method}. Theirs: {theirs.method}"
    )


def _fewer_steps(found: Measured) -> Claim:
    statement = Statement(
        name="dsm-far-fewer-steps",
        text="DSM with deterministic updates purifies within orders of magnitude fewer steps than Langevin sampling of "
        "an EBM trained by MCMC",
        source="Sec. 1 and 3.2, Fig. 2",
        quantity=f"T at which the EBM's Langevin purification reaches {REACHED:.0%} of its best accuracy under BPDA, "
        "over the T at which DSM's deterministic one is as good",
        condition=Condition(">", 10),
    )
    ours, theirs = found.dsm_deterministic, found.ml_langevin
    if ours is None or theirs is None or not all(_steps(found, study) for study in (ours, theirs)):
        return statement.missing(SWEEPS)
    estimate, reached = ratio_of_steps(found, ours, theirs)
    never = "" if reached else " The score network never is as good at the T tried: its longest was doubled instead."
    tried = [", ".join(map(str, _steps(found, study))) for study in (theirs, ours)]
    gain, best = _purifies(found, theirs)
    note = (
        f"{READING} T tried: {tried[0]} and {tried[1]}; the ratio can only be one of these numbers'. Interval by "
        f"bootstrap over the images that both saw.{never} {_step_sizes(found, ours, theirs)} {best}"
    )
    if gain.low > GAIN:
        return statement.decided(estimate, note)
    return statement.shown(
        estimate, f"{note} It is not known to purify, by {GAIN:.0%} at least, so that its steps say nothing."
    )


def _step_sizes(found: Measured, ours: Grid, theirs: Grid) -> str:
    """Where the step sizes of both models come from, which they do not share."""
    tau, step = (theirs.config.get("score_config") or {}).get("tau"), theirs.config.get("defense", {}).get("step")
    own = ", its training's own, τ²/8" if tau and step and np.isclose(step, tau**2 / 8) else ""
    tuned = found.step_words(ours)
    return f"Step sizes are not tuned alike: ML's is α {step or 0:g}{own}; DSM's was chosen" + (
        f": {tuned}." if tuned else "."
    )


def _purifies(found: Measured, study: ScoreDefense) -> tuple[Estimate, str]:
    """The accuracy of a sweep's best T above that of its smallest, and the same in words."""
    steps = _steps(found, study)
    made = [found.under(study, purification_steps=step) for step in steps]
    right = [each.robust for each in made if each is not None]
    best = int(np.argmax([each.mean() for each in right]))
    gain = proportion_difference(right[best], right[0])
    words = (
        f"The EBM's best is {right[best].mean():.1%} at T = {steps[best]}, {gain.value:+.1%} "
        f"[{gain.low:+.1%}, {gain.high:+.1%}] above that of T = {steps[0]}."
    )
    longest = (
        " That is its longest T: it may get better still, and its steps are censored."
        if steps[best] == steps[-1]
        else ""
    )
    return gain, words + longest


def _steps(found: Measured, study: ScoreDefense) -> list[int]:
    steps = study.values("purification_steps", norm="linf", eps=found.eps, attack="bpda")
    return [int(step) for step in steps if step > 0]


def ratio_of_steps(found: Measured, ours: ScoreDefense, theirs: ScoreDefense) -> tuple[Estimate, bool]:
    """Steps that they need over steps that we need, and whether ours ever is as good.

    The bar is `REACHED` of the best accuracy of theirs over the T > 0 tried. The interval is the percentile bootstrap's
    over images.
    """
    rows = common([ours, theirs])
    steps, curves = [], []
    for study, chosen in zip((ours, theirs), rows, strict=True):
        tried = _steps(found, study)
        made = [found.under(study, purification_steps=step) for step in tried]
        steps.append(tried)
        curves.append(np.array([each.robust[chosen] for each in made if each is not None], dtype=float))
    images = len(rows[0])
    random = np.random.default_rng(SEED)
    drawn = random.integers(images, size=(BOOTSTRAPS, images))
    ratios = [_ratio(steps, [curve[:, chosen].mean(1) for curve in curves])[0] for chosen in drawn]
    value, reached = _ratio(steps, [curve.mean(1) for curve in curves])
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Estimate(value, min(value, float(low)), max(value, float(high)), images), reached


def _ratio(steps: Sequence[Sequence[int]], curves: Sequence[np.ndarray]) -> tuple[float, bool]:
    (ours, theirs), (quick, slow) = steps, curves
    bar = REACHED * slow.max()
    reached = np.flatnonzero(quick >= bar)
    needed = ours[reached[0]] if len(reached) else 2 * ours[-1]
    return theirs[int(np.flatnonzero(slow >= bar)[0])] / needed, bool(len(reached))


def _deterministic(
    found: Measured, model: str, learned: str, pair: tuple[ScoreDefense | None, ScoreDefense | None]
) -> Claim:
    statement = Statement(
        name=f"deterministic-beats-langevin-{model}",
        text=f"In the short run deterministic updates of {learned} defend better than Langevin updates",
        source="Sec. 3.2, Fig. 2",
        quantity=f"accuracy under BPDA at T = {found.short}, deterministic − Langevin, {SHARE}",
    )
    certain, random = (_few(found, study) for study in pair)
    if certain is None or random is None:
        return statement.missing(f"deterministic and Langevin updates of {learned}")
    estimate, words = _paired(certain, random)
    remark = " The paper says “slightly”." if model == "ml" else ""
    methods = f"Deterministic: {certain.method}. Langevin: {random.method}"
    return statement.decided(estimate, f"{words}{remark} {methods}")


def _norms(found: Measured) -> Iterator[Claim]:
    data = found.scores
    apart = Statement(
        name="score-norms-separate",
        text="Score norms tell attacked images from natural ones",
        source="Sec. 5.1.6, Fig. 3",
        quantity="area under the ROC curve of ‖s(x)‖, attacked above natural",
        condition=Condition(">", 0.9),
    )
    lower = Statement(
        name="one-step-lowers-the-norm",
        text="One purification step lowers the score norm of attacked images",
        source="Sec. 5.1.6, Fig. 3",
        quantity="‖s(x)‖ of attacked images − the same after one step, mean of pairs",
    )
    if data is None or not data.has("norm_natural", "norm_adversarial"):
        yield apart.missing("score norms")
    else:
        natural, attacked = data["norm_natural"], data["norm_adversarial"]
        yield apart.decided(
            paired_auc(attacked, natural),
            f"{READING} Mean {attacked.mean():.3g} against {natural.mean():.3g}, of the same images, for which the "
            "interval allows; PGD on the classifier alone. An attacker who minds the norm is the joint attack (score) "
            "of Table 3.",
        )
    if data is None or not data.has("norm_adversarial", "norm_adversarial_purified"):
        yield lower.missing("score norms after one step")
    else:
        before, after = data["norm_adversarial"], data["norm_adversarial_purified"]
        yield lower.decided(mean_difference(before, after), f"From {before.mean():.3g} to {after.mean():.3g}.")
