"""Claims about energies, chaos, convergence and cost (Figures 2 and 7-10)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from robustgen.evaluation.claims import Condition, claim
from robustgen.evaluation.rows import Claim, number
from robustgen.evaluation.statistics import Estimate, mean, mean_difference
from robustgen.papers.stochastic_security.claims.blind import POSITIVE
from robustgen.papers.stochastic_security.study import Dynamics, Measured

BOOTSTRAPS = 2000
SEED = 0


def claims(found: Measured) -> Iterator[Claim]:
    data = found.dynamics
    if data is not None:
        yield from _training(data)
        yield from _energies(data)
        yield from _chaos(data)
        yield from _fid(data)
        yield from _cost(data)


def _training(data: Dynamics) -> Iterator[Claim]:
    if not data.has("snapshot_updates", "snapshot_phase", "short_samples", "long_samples"):
        return
    adam = np.flatnonzero(data["snapshot_phase"] == "adam")
    if not len(adam) or len(adam) == len(data["snapshot_phase"]) or data["short_samples"].shape[1] < 2:
        return
    updates = data["snapshot_updates"]
    moved = np.sqrt(np.square(data["long_samples"] - data["short_samples"]).mean((2, 3, 4)))
    yield claim(
        "sgd-aligns-long-run",
        "The SGD phase aligns long-run samples with short-run ones",
        source="Sec. 2, Fig. 2",
        quantity="RMS change of a sample over the long run, per pixel: at the end of the Adam phase (update "
        f"{updates[adam[-1]]}) − at the end of training (update {updates[-1]}), mean over samples",
        condition=POSITIVE,
        estimate=mean_difference(moved[adam[-1]], moved[-1]),
        note=f"{moved[adam[-1]].mean():.3f} against {moved[-1].mean():.3f}, images in [0, 1]. Our measure: it sees how "
        "far each chain moves, not whether the two distributions agree.",
    )


def _energies(data: Dynamics) -> Iterator[Claim]:
    for name, words, source, remark in (
        ("natural", "natural ones", "App. C.1, Fig. 7", "The paper says “marginally higher”."),
        (
            "perturbed",
            "images under a random perturbation of the same size",
            "App. C.1, Fig. 7; the control is ours",
            "Random signs of the attack's radius: any change off the data may raise the energy.",
        ),
    ):
        if data.has("energy_adversarial", f"energy_{name}"):
            other = data[f"energy_{name}"]
            yield claim(
                f"adversarial-energy-above-{name}",
                f"Adversarial images have higher energy than {words}",
                source=source,
                quantity=f"U(adversarial) − U({name}), nats, mean of pairs",
                condition=POSITIVE,
                estimate=mean_difference(data["energy_adversarial"], other),
                note=f"{remark} Higher in {(data['energy_adversarial'] > other).mean():.0%} of the pairs; standard "
                f"deviation of U({name}) {other.std(ddof=1):.3g} nats.",
            )


def _chaos(data: Dynamics) -> Iterator[Claim]:
    if not data.has("etas", "lyapunov"):
        return
    order = np.argsort(data["etas"])
    etas, exponents = data["etas"][order], data["lyapunov"][order]
    reported, *others = ((name, values[order]) for name, values in data.exponents().items())
    at_one = np.flatnonzero(np.isclose(etas, 1))
    if len(at_one):
        yield claim(
            "chaotic-at-one",
            "The dynamics of training and defence, η = 1, are chaotic",
            source="App. C.2, Fig. 8",
            quantity="maximal Lyapunov exponent per Langevin step at η = 1, mean over chains",
            condition=POSITIVE,
            estimate=mean(exponents[at_one[0]]),
            note=_separations(reported[0], {name: float(values[at_one[0]].mean()) for name, values in others}),
        )
    means = ", ".join(f"{number(value, 4)} at {eta:g}" for eta, value in zip(etas, exponents.mean(1), strict=True))
    crossing, outcome = transition(etas, exponents.mean(1)), transition_words(etas, exponents.mean(1))
    decided = claim(
        "transition-near-one",
        "The transition from order to chaos lies near η = 1",
        source="App. C.2, Fig. 8",
        quantity="η from which on the mean exponent stays above 0, minus 1",
        condition=Condition("within", 0.5),
        estimate=_minus_one(transition_estimate(etas, exponents)),
        note=f"{outcome[0].upper()}{outcome[1:]}. The bound is our reading; the paper says “just beyond”. Linear "
        "between the strengths tried, which bound it; interval by bootstrap over chains. Mean exponents: "
        f"{means}. " + _separations(reported[0], {key: transition_words(etas, at.mean(1)) for key, at in others}),
    )
    yield decided if crossing is not None else replace(decided, value=None, low=None, high=None, verdict="fails")


def _separations(reported: str, others: Mapping[str, float | str]) -> str:
    """At which separation of the chains a value was measured, and what it is at the others."""
    if not reported:
        return ""
    values = {name: value if isinstance(value, str) else number(value, 4) for name, value in others.items()}
    found = ", ".join(f"{value} at {name}" for name, value in values.items())
    return f"Measured at {reported}, since the network is piecewise linear; {found}." if found else f"At {reported}."


def transition(etas: np.ndarray, means: np.ndarray) -> float | None:
    """The η above which the mean exponents (E,) at ascending `etas` (E,) stay positive, linear between grid points.

    None where all are positive or the last is not: the η tried do not enclose a transition.
    """
    not_positive = np.flatnonzero(means <= 0)
    if not len(not_positive) or not_positive[-1] == len(etas) - 1:
        return None
    last = int(not_positive[-1])
    share = -means[last] / (means[last + 1] - means[last])
    return float(etas[last] + share * (etas[last + 1] - etas[last]))


def transition_words(etas: np.ndarray, means: np.ndarray) -> str:
    """The same in words."""
    found = transition(etas, means)
    if found is not None:
        return f"transition at η = {found:.3g}"
    if (means > 0).all():
        return "positive at every η tried"
    return f"no {'lasting ' * bool((means > 0).any())}transition in [{etas.min():g}, {etas.max():g}]"


def transition_estimate(etas: np.ndarray, exponents: np.ndarray) -> Estimate:
    """`transition` of exponents (E, chains), with the percentile interval of a bootstrap over chains.

    Where the η tried do not enclose it, it stands at the end that it lies beyond.
    """
    order = np.argsort(etas)
    etas, exponents = etas[order], exponents[order]

    def bounded(means: np.ndarray) -> float:
        found = transition(etas, means)
        return float(etas[-1] if means[-1] <= 0 else etas[0]) if found is None else found

    value = bounded(exponents.mean(1))
    chains = exponents.shape[1]
    drawn = np.random.default_rng(SEED).integers(chains, size=(BOOTSTRAPS, chains))
    again = [bounded(exponents[:, chosen].mean(1)) for chosen in drawn]
    low, high = np.percentile(again, [2.5, 97.5])
    return Estimate(value, min(float(low), value), max(float(high), value), chains)


def _minus_one(estimate: Estimate) -> Estimate:
    return Estimate(estimate.value - 1, estimate.low - 1, estimate.high - 1, estimate.n)


def _fid(data: Dynamics) -> Iterator[Claim]:
    if not data.has("fid_steps", "fid_convergent", "fid_nonconvergent", "fid_features"):
        return
    convergent, other = data["fid_convergent"][-1], data["fid_nonconvergent"][-1]
    decided = claim(
        "fid-grows-less",
        "FID grows less over long runs for the convergent EBM",
        source="App. D, Fig. 9",
        quantity=f"FID after {int(data['fid_steps'][-1])} Langevin steps from the same data, non-convergent − "
        "convergent",
        condition=POSITIVE,
        estimate=difference(other.tolist(), convergent.tolist()),
        note=f"{other[0]:.3g} against {convergent[0]:.3g}. {_growth(data)}Features: {data['fid_features']}. The two "
        "intervals are taken as independent. The paper says that FID stays low for the convergent EBM.",
    )
    yield replace(decided, n=data.config.get("fid_images"))


def _growth(data: Dynamics) -> str:
    """The convergent EBM's FID at the ends of its run, and over that of two halves of the data."""
    start, end = data["fid_convergent"][[0, -1], 0]
    words = f"The convergent EBM's goes from {start:.3g} at {int(data['fid_steps'][0])} steps to {end:.3g}"
    if data.has("fid_floor"):
        floor = float(data["fid_floor"][0])
        words += f", against {floor:.3g} between two halves of the data" + f" ({end / floor:.3g} times)" * (floor > 0)
    return f"{words}. "


def difference(a: list[float], b: list[float]) -> Estimate:
    """a − b of two independent (value, low, high), its interval from theirs (Zou & Donner 2008); n is unknown, 0."""
    value = a[0] - b[0]
    below, above = math.hypot(a[0] - a[1], b[2] - b[0]), math.hypot(a[2] - a[0], b[0] - b[1])
    return Estimate(value, value - below, value + above, 0)


def _cost(data: Dynamics) -> Iterator[Claim]:
    for model, name in (("igebm", "IGEBM"), ("jem", "JEM")):
        if data.has(f"ms_per_step_{model}", "ms_per_step_ours"):
            alike = "ms_per_step_ours_autograd" if data.has("ms_per_step_ours_autograd") else "ms_per_step_ours"
            ratio = float(data[f"ms_per_step_{model}"]) / float(data[alike])
            counts = [int(data[f"parameters_{which}"]) for which in ("ours", model)]
            decided = claim(
                f"faster-than-{model}",
                f"Sampling from our EBM is faster than from {name}",
                source="App. E and G, Fig. 10",
                quantity=f"time of a Langevin step on 100 images, {name} / ours"
                + " by plain autograd" * alike.endswith("autograd"),
                condition=Condition(">", 1),
                estimate=Estimate(ratio, ratio, ratio, 1),
                note="The paper says 20 to 30 times. The fastest of a few timings, so without interval; other jobs "
                f"may have run on the machine's other cores. {_times(data, model, name)} {counts[0]:,} parameters "
                f"against {counts[1]:,}.",
            )
            yield replace(decided, low=None, high=None, n=None)


def _times(data: Dynamics, model: str, name: str) -> str:
    """The times behind a ratio, ours both ways where it was taken so."""
    times = {
        "ours": "ms_per_step_ours",
        "ours by plain autograd, as the others": "ms_per_step_ours_autograd",
        name + " given one label" * (model == "igebm"): f"ms_per_step_{model}",
    }
    return (
        "Times: "
        + ", ".join(f"{words} {float(data[key]):.3g} ms" for words, key in times.items() if data.has(key))
        + "."
    )
