"""Claims about single detectors under attack (Tables 1, 3, 7-9, 12-14, 17, 18) and about their radius (App. C.2.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from robustgen.evaluation.auc_difference import mean_auc, mean_auc_difference
from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import Estimate
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.probe import Probe
from robustgen.papers.gat.tables.cifar import others
from robustgen.papers.gat.tables.mnist import crossed
from robustgen.papers.gat.words import CIFAR, IMAGENET, MNIST, attack_words
from robustgen.papers.statements import POSITIVE, READING, Statement
from robustgen.papers.studies import common

UNSHAKEN = Condition("<", 0.02)  # an area's fall that we call none; the paper's are at most 0.007
KEPT = Condition(">", 0.95)  # an area that we call kept; the paper's least is 0.964
BROKEN = Condition(">", 0.05)  # a fall that we call a break; the paper's is 0.11
MEAN = "AUC, mean over detectors"
Pair = tuple[Probe, int, int]  # a model, and two of its attacks
Attacked = tuple[Probe, int | None]  # a model, and one of its attacks; None: natural images


def claims(found: Measured) -> Iterator[Claim]:
    mnist, cifar, dog = found.mnist.probes, found.cifar.probes, found.imagenet.probe
    dogs = {} if dog is None else {"dog": dog}
    longer, steepest, restarts = "with more and finer steps", "by normalised steepest descent", "with random restarts"
    yield _falls("mnist-longer-attacks", MNIST, longer, "Sec. 5.1, Table 1", _longer(mnist))
    yield _falls("mnist-normalised-descent", MNIST, steepest, "Sec. 5.1, Table 7", _steepest(mnist))
    yield _falls("mnist-restarts", MNIST, restarts, "Sec. 5.1, Table 9", _restarted(mnist))
    yield _other_balls("mnist-other-norms", MNIST, "Sec. 5.1, Table 8", _mnist_crossed(mnist))
    yield _falls("cifar-longer-attacks", CIFAR, longer, "Sec. 5.2, Tables 3 and 14", _longer(cifar))
    yield _falls("cifar-restarts", CIFAR, restarts, "App. C.2.1, Table 12", _restarted(cifar))
    yield _other_balls("cifar-other-norms", CIFAR, "App. C.2.1, Table 13", _cifar_crossed(found))
    yield from _coarse(found)
    yield _radius(found)
    yield _falls("imagenet-longer-attacks", IMAGENET, longer, "App. C.3, Table 18", _longer(dogs))


def difference(probe: Probe, first: int | None, second: int | None) -> Estimate:
    """The mean area of a model's detectors under one attack minus under another."""
    return mean_auc_difference(probe.ranking(first, probe.usable), probe.ranking(second, probe.usable))


def _longer(probes: Mapping[str, Probe]) -> dict[str, Pair]:
    found = {role: (probe, probe.short(), probe.long()) for role, probe in probes.items()}
    return {role: (probe, a, b) for role, (probe, a, b) in found.items() if a is not None and b is not None}


def _steepest(probes: Mapping[str, Probe]) -> dict[str, Pair]:
    """Adam's short attack, and the longest by normalised steepest descent."""
    found = {}
    for role, probe in probes.items():
        short = probe.short("adam")
        other = probe.long("steepest") or probe.short("steepest")
        if short is not None and other is not None:
            found[role] = (probe, short, other)
    return found


def _restarted(probes: Mapping[str, Probe]) -> dict[str, Pair]:
    found = {role: (probe, probe.restarted()) for role, probe in probes.items()}
    return {role: (probe, pair[1], pair[0]) for role, (probe, pair) in found.items() if pair is not None}


def _falls(name: str, shown: str, what: str, source: str, pairs: Mapping[str, Pair]) -> Claim:
    """The fall, over the models that were attacked both ways, whose interval reaches highest."""
    statement = Statement(
        name=name,
        text=f"{shown} detectors withstand attacks {what}",
        source=source,
        quantity=f"{MEAN}: under the plain attack − under one {what}, of the model whose interval reaches highest",
        condition=UNSHAKEN,
    )
    falls = {role: difference(*pair) for role, pair in pairs.items() if pair[0].usable}
    if not falls:
        return statement.missing(f"one of {shown}'s models under both attacks")
    most = max(falls, key=lambda role: falls[role].high)
    probe, first, second = pairs[most]
    singly = ", ".join(f"{role} {fall.value:.4f}" for role, fall in falls.items())
    note = f"{READING} {singly}. {most}: {attack_words(probe.options(first))}; then "
    return statement.decided(falls[most], f"{note}{attack_words(probe.options(second))}. {_of(probe)}")


def _of(probe: Probe) -> str:
    return f"Detectors: {len(probe.usable)}, {_how(probe)}"


def _how(probe: Probe) -> str:
    return probe.trained or probe.name


def _mnist_crossed(probes: Mapping[str, Probe]) -> dict[str, tuple[Probe, int]]:
    """Each model under the others' attacks of no larger radius in the same norm, and of the other norm."""
    found = {}
    for model, attack in product(probes, probes):
        point, (norm, eps) = crossed(probes, model, attack), probes[model].ball
        other_norm, other_eps = probes[attack].ball
        if model != attack and point is not None and (other_norm != norm or other_eps < eps):
            found[f"{model} under {attack} attack"] = (probes[model], point)
    return found


def _cifar_crossed(found: Measured) -> dict[str, tuple[Probe, int]]:
    large = found.cifar.large
    if large is None:
        return {}
    return {f"L∞ large under {key} attack": (large, point) for key, point in others(found).items() if point is not None}


def _other_balls(name: str, shown: str, source: str, points: Mapping[str, tuple[Probe, int]]) -> Claim:
    statement = Statement(
        name=name,
        text=f"{shown} detectors also withstand attacks in another norm, and of smaller radii than they were trained "
        "against",
        source=source,
        quantity=f"{MEAN}, of the model and attack whose interval reaches lowest",
        condition=KEPT,
    )
    areas = {
        line: mean_auc(probe.ranking(point, probe.usable)) for line, (probe, point) in points.items() if probe.usable
    }
    if not areas:
        return statement.missing(f"attacks on {shown}'s models in balls of other models")
    least = min(areas, key=lambda line: areas[line].low)
    probe, point = points[least]
    singly = ", ".join(f"{line} {area.value:.4f}" for line, area in areas.items())
    note = f"{READING} The paper's least is 0.964 (MNIST). Here: {least}, {attack_words(probe.options(point))}."
    return statement.decided(areas[least], f"{note} All: {singly}. {_of(probe)}")


def _coarse(found: Measured) -> Iterator[Claim]:
    """Table 17: too large a training step."""
    source = "App. C.2.2, Table 17"
    masks = Statement(
        name="coarse-training-is-not-robust",
        text="A detector trained with too large a step withstands that step but not a finer one",
        source=source,
        quantity=f"{MEAN}, trained with a coarse step: under its own attack − under the finest",
        condition=BROKEN,
    )
    needed = Statement(
        name="fine-training-is-needed",
        text="Training with a sufficiently small step is what makes a detector robust to finer attacks",
        source=source,
        quantity=f"{MEAN} under the finest attack: trained with a fine step − with a coarse one",
        condition=POSITIVE,
    )
    coarse, fine = found.cifar.coarse, found.cifar.fine
    own, finest = (None, None) if coarse is None else (_own(coarse), coarse.long())
    if coarse is None or own is None or finest is None or finest == own or not coarse.usable:
        what = "a model trained with a coarse step, under an attack with that step and a finer one"
        yield from (statement.missing(what) for statement in (masks, needed))
        return
    words = [attack_words(coarse.options(point)) for point in (own, finest)]
    yield masks.decided(difference(coarse, own, finest), f"{READING} {words[0]}; then {words[1]}. {_of(coarse)}")
    same = [] if fine is None else fine.matching(**coarse.options(finest))
    if fine is None or not same:
        yield needed.missing("a model of the same radius trained with a fine step, under the same attack")
        return
    note = f"{words[1]}. Fine: {_how(fine)}. Coarse: {_how(coarse)}"
    yield _between(needed, (fine, same[0]), (coarse, finest), note)


def _own(probe: Probe) -> int | None:
    """The attack in the training's ball with the step of the training's adversary, else with the largest one."""
    trained = float(probe.training.get("adversary", {}).get("alpha", np.nan))
    steps = {point: float(probe.options(point)["alpha"]) for point in probe.fixed()}
    return max(steps, key=lambda point: (np.isclose(steps[point], trained), steps[point]), default=None)


def _between(statement: Statement, a: Attacked, b: Attacked, note: str) -> Claim:
    """The mean area of a's detectors minus that of b's, over the classes and images that both have."""
    (one, at_one), (other, at_other) = a, b
    shared = [(k, other.detectors.index(label)) for k, label in enumerate(one.detectors) if label in other.detectors]
    usable = [(i, j) for i, j in shared if i in one.usable and j in other.usable]
    if not usable:
        return statement.missing("a class that both models have")
    rows, others = common([one, other])
    first = one.ranking(at_one, [i for i, _ in usable], rows)
    second = other.ranking(at_other, [j for _, j in usable], others)
    return statement.decided(mean_auc_difference(first, second), note)


def _radius(found: Measured) -> Claim:
    statement = Statement(
        name="larger-radius-costs-clean-performance",
        text="Training against a larger radius lowers the performance on clean samples",
        source="App. C.2.3, Fig. 12",
        quantity=f"{MEAN}, clean samples of the class against clean ones of others: small radius − large radius",
    )
    small, large = found.cifar.small, found.cifar.large
    if small is None or large is None:
        return statement.missing("CIFAR-10 detectors of a small and of a large radius")
    note = f"Small: {_how(small)}. Large: {_how(large)}. The paper's: 0.9981 and 0.9909, of one detector each."
    return _between(statement, (small, None), (large, None), note)
