"""A made scale in which everything is as the paper says, and a way to change one thing about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.io import save_arrays, save_csv
from robustgen.papers.gat.loading import CURVE
from robustgen.papers.gat.measured import Cifar, ImageNet, Measured, Mnist
from robustgen.papers.gat.probe import PROBE, Probe
from robustgen.papers.gat.study import Curve, Density, Detection, Distortion, Synthesis

N, CLASSES, SIZE = 400, 4, 4
T = 3.0  # the threshold of every made defence
OWN = 5.0  # a natural image's logit of its own detector
LINF, LARGE, L2, LARGER = 0.3, 0.5, 2.5, 5.0
ADVERSARY = {"norm": "linf", "eps": 0.3, "alpha": 0.01, "steps": 100, "rule": "adam", "random_start": True}
RECIPE = {"updates": 700, "check_every": 100, "positives": 32, "negatives": 32, "lr": 5e-4, "optimizer": "adam",
          "seed": 3, "select": "adversarial", "adversary": ADVERSARY,
          "monitor": {**ADVERSARY, "steps": 200, "random_start": False}}  # fmt: skip
SETTINGS = {"norm": "linf", "steps": 100, "alpha": 0.01}  # of every attack on a defence but the multi-targeted ones
DOGS = ("dog-002", "dog-005", "dog-01", "dog-01-far", "dog-03")
TRAINED = [{"labels": list(range(CLASSES)), "training": RECIPE}]
SHIFTS = {"norm": ("linf", "l2"), "eps": (0.4, 4.0), "steps": (100, 40), "alpha": (0.01, 0.2)}
Attack = tuple[str, float, str, int, float, int, str, float]  # fields of PROBE, and the area that it leaves

INTEGRATED = {"classifier": 0.0, "detector": 0.1, "combined16": 0.2, "combined17": 0.5, "ce": 0.05, "cw": 0.05,
              "multi-integrated": 0.51, "multi-generative": 0.1}  # fmt: skip
GENERATIVE = {"classifier": 0.0, "detector": 0.2, "combined16": 0.1, "combined17": 0.15, "ce": 0.1, "cw": 0.1,
              "multi-integrated": 0.1, "multi-generative": 0.21}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class World:
    """What the made scale finds; areas and shares in [0, 1]."""

    n: int = N
    dataset: str = "digits 16×16"
    cifar_dataset: str = "digits 16×16"
    updates: int = 500  # of the densities
    batch: int = 64
    lengths: int = 2  # attacks on the dog detector
    short: float = 0.99
    long: float = 0.99
    steepest: float = 0.99
    restarted: float = 0.99
    crossed: float = 0.98
    coarse_own: float = 0.99  # of the model trained with a coarse step
    coarse_short: float = 0.95
    coarse_finest: float = 0.7
    clean_small: float = 1.0
    clean_large: float = 0.975
    integrated: Mapping[str, float] = field(default_factory=lambda: INTEGRATED)  # attack: FPR, trained radius
    generative: Mapping[str, float] = field(default_factory=lambda: GENERATIVE)
    rival: tuple[float, float] = (0.4, 0.9)  # errors of the softmax classifier, MNIST
    cifar_rival: tuple[float, float] = (0.3, 0.3)
    larger: float = 1.5  # FPRs at the larger radius over those at the trained one
    distortion: float = 4.4  # smaller radius
    distortion_large: float = 5.6
    semantic: float = 0.8  # share of perturbed images taken for their target
    semantic_softmax: float = 0.1
    generated: float = 0.9  # share of generated images taken for their class
    generated_softmax: float = 0.2
    fooled: float = 0.5  # logit of unrecognisable images, in shares of a natural image's, detectors; softmax 2
    gat: float = 0.1  # total variation
    natural: float = 0.6


def about(n: int) -> dict[str, np.ndarray]:
    return {"labels": np.arange(n) % CLASSES, "indices": np.arange(n) + 5}


def json_of(**options: Any) -> np.ndarray:
    return np.array(json.dumps(options))


def spoiled(share: float, n: int, mark: np.ndarray) -> np.ndarray:
    """Which of n images: the first `share` of the marked ones."""
    rows = np.flatnonzero(mark)
    found = np.zeros(n, dtype=bool)
    found[rows[: round(share * len(rows))]] = True
    return found


def probe(
    name: str,
    attacks: Sequence[Attack],
    world: World,
    trained: tuple[int, float],
    *,
    clean: float = 1.0,
    labels: Sequence[int] = range(CLASSES),
) -> Probe:
    """Detectors that tell natural images apart with area `clean`, and attacked ones with the area of each attack.

    They were trained in the first attack's ball and by its rule, with so many steps of that size.
    """
    norm, eps, rule, *_ = attacks[0]
    adversary = {**ADVERSARY, "norm": norm, "eps": eps, "rule": rule, "steps": trained[0], "alpha": trained[1]}
    recipe = {**RECIPE, "adversary": adversary}
    n, truth = world.n, about(world.n)["labels"]
    natural = np.zeros((n, len(labels)), np.float32)
    adversarial = np.zeros((len(attacks), n, len(labels)), np.float32)
    for k, label in enumerate(labels):
        own = truth == label
        natural[:, k] = np.where(own, OWN, -OWN) + 0.001 * np.arange(n)
        natural[spoiled(1 - clean, n, ~own), k] = 2 * OWN
        for point, attack in enumerate(attacks):
            adversarial[point, :, k] = np.where(spoiled(1 - attack[-1], n, ~own), 2 * OWN, natural[:, k])
    columns = {key: np.array([attack[i] for attack in attacks]) for i, key in enumerate(PROBE)}
    return Probe(
        name,
        {
            **columns,
            "adversarial": adversarial,
            "natural": natural,
            "predicted": truth.copy(),
            **about(n),
            "detectors": np.array(list(labels)),
            "config": json_of(seed=3, trained=[{"labels": list(labels), "training": recipe}]),
        },
    )


def bank(name: str, norm: str, eps: float, others: Sequence[tuple[str, float]], world: World, **options: Any) -> Probe:
    """A model of MNIST's recipe under the attacks of Tables 1, 7, 8 and 9."""
    w, attacks = world, []
    for rule, short, long in (("adam", w.short, w.long), ("steepest", w.short, w.steepest)):
        attacks.append((norm, eps, rule, 200, 0.01, 1, "image", short))
        attacks.append((norm, eps, rule, 2000, 0.005, 1, "image", long))
    attacks += [(other, radius, "adam", 200, 0.01, 1, "image", w.crossed) for other, radius in others]
    attacks.append((norm, eps, "adam", 200, 0.01, 50, "random", w.restarted))
    return probe(name, attacks, w, (100, 0.01), **options)


def tuned(name: str, norm: str, eps: float, world: World, **options: Any) -> Probe:
    """A model of CIFAR-10's recipe under the attacks of Tables 3, 12, 13 and 14."""
    w = world
    attacks: list[Attack] = [
        (norm, eps, "steepest", 20, 0.008, 1, "image", w.short),
        (norm, eps, "steepest", 40, 0.002, 1, "image", w.long),
        (norm, eps, "steepest", 40, 0.002, 10, "random", w.restarted),
    ]
    if norm == "linf":
        attacks += [
            ("l2", 0.3, "steepest", 20, 0.04, 1, "image", w.crossed),
            (norm, eps / 4, "steepest", 10, 0.002, 1, "image", w.crossed),
        ]
    return probe(name, attacks, w, (40, 0.002), **options)


def coarse(world: World) -> Probe:
    """A model of the main one's radius under its shortest and its longest attack, and under its own."""
    attacks: list[Attack] = [
        ("linf", 0.03, "steepest", 20, 0.008, 1, "image", world.coarse_short),
        ("linf", 0.03, "steepest", 40, 0.002, 1, "image", world.coarse_finest),
        ("linf", 0.03, "steepest", 10, 0.02, 1, "image", world.coarse_own),
    ]
    return probe("coarse", attacks, world, (10, 0.02), labels=(0, 1))


def logits_under(integrated: float, generative: float, world: World) -> tuple[np.ndarray, np.ndarray]:
    """z_f and z_H (N, K): the first `integrated` share of images passes integrated detection wrongly, the first
    `generative` share generative detection, and no other image does.
    """
    n, truth = world.n, about(world.n)["labels"]
    everything, rows = np.ones(n, dtype=bool), np.arange(n)
    passing, passed = spoiled(integrated, n, everything), spoiled(generative, n, everything)
    predicted = np.where(passing, (truth + 1) % CLASSES, truth)
    z_h = np.full((n, CLASSES), -OWN, np.float32)
    z_h[rows, truth] = T + 1
    z_h[rows[passing], predicted[passing]] = T + 0.5
    z_h[rows[passed], (truth[passed] + 2) % CLASSES] = T + 2
    return np.eye(CLASSES, dtype=np.float32)[predicted], z_h


def detection(name: str, world: World, rival: Sequence[float]) -> Detection:
    """A defence at two radii under all attacks, and a softmax classifier with these errors."""
    n, truth, w = world.n, about(world.n)["labels"], world
    points = [(attack, eps, scale) for eps, scale in ((0.3, 1.0), (0.4, w.larger)) for attack in w.integrated]
    made = [
        logits_under(min(1, w.integrated[attack] * scale), min(1, w.generative[attack] * scale), w)
        for attack, _, scale in points
    ]
    natural = np.eye(CLASSES, dtype=np.float32)[truth], np.where(np.eye(CLASSES)[truth] > 0, T + 1, -OWN)
    validation = np.arange(20) % CLASSES
    checked = np.where(np.eye(CLASSES)[validation] > 0, T, -OWN)
    return Detection(
        name,
        {
            **{name: np.array([point[i] for point in points]) for i, name in enumerate(("attack", "eps"))},
            **{name: np.array([value] * len(points)) for name, value in SETTINGS.items()},
            "steps": np.array([200 if point[0].startswith("multi") else SETTINGS["steps"] for point in points]),
            "classifier_logits": np.stack([z for z, _ in made]),
            "detector_logits": np.stack([z_h for _, z_h in made]),
            "natural_classifier": natural[0],
            "natural_detector": natural[1].astype(np.float32),
            "validation_classifier": np.eye(CLASSES, dtype=np.float32)[validation],
            "validation_detector": checked.astype(np.float32),
            "validation_labels": validation,
            "rival_correct": ~spoiled(0.02, n, np.ones(n, dtype=bool)),
            "rival_eps": np.array([0.3, 0.4]),
            "rival_robust": np.stack([~spoiled(share, n, np.ones(n, dtype=bool)) for share in rival]),
            **about(n),
            "config": json_of(rule="adam", restarts=1, random_start=True, seed=3, targets=None, trained=TRAINED),
        },
    )


def distortion(name: str, value: float, world: World) -> Distortion:
    """Every tenth search fails; the others find distances around `value`."""
    n = world.n
    distance = value + 0.5 * np.sin(np.arange(n))
    distance[::10] = np.inf
    search = {"depth": 20, "steps": 1000, "alpha": 1.0, "rule": "adam", "c": 0.0, "c_low": 0.0, "c_high": 8.0}
    return Distortion(
        name,
        {
            "distance": distance,
            "c": np.ones(n),
            "threshold": np.array(T),
            "validation_share": np.array(0.952),
            "natural_error": np.zeros(n, dtype=bool),
            **about(n),
            "config": json_of(search=search, share=0.95, trained=TRAINED),
        },
    )


def synthesis(
    name: str, kind: str, semantic: float, generated: float, fooled: float, labels: Sequence[int] = range(CLASSES)
) -> Synthesis:
    """40 images shifted in two settings and 25 generated images a class, so many of them recognised."""
    outputs, images, each, size = len(labels), 40, 25, (1, SIZE, SIZE)
    random, truth = np.random.default_rng(0), np.arange(images) % CLASSES
    targets = np.array(list(labels))
    changed = random.random((2, outputs, images, *size)).astype(np.float16)
    taken = np.where(np.arange(images) < round(semantic * images), targets[:, None], (targets[:, None] + 1) % CLASSES)
    judged = np.where(np.arange(each) < round(generated * each), targets[:, None], (targets[:, None] + 1) % CLASSES)
    own = about(60)["labels"][:, None] == targets
    generated_logits = np.full((outputs, each, outputs), -OWN, np.float32)
    scored = np.where(judged == targets[:, None], 2 * OWN, fooled * OWN)
    generated_logits[np.arange(outputs), :, np.arange(outputs)] = scored
    return Synthesis(
        name,
        {
            "kind": np.array(kind),
            "model_labels": targets,
            "natural": np.where(own, OWN, -OWN).astype(np.float32),
            **about(60),
            "images": random.random((images, *size)).astype(np.float32),
            "image_labels": truth,
            **{f"shift_{name}": np.array(values) for name, values in SHIFTS.items()},
            "shifted": changed,
            "shifted_logits": random.normal(0, 4, (2, outputs, images, outputs)).astype(np.float32),
            **dict.fromkeys(("shifted_judged", "shifted_nearest"), np.stack([taken, taken])),
            "start": np.random.default_rng(1).random((CLASSES, each, *size)).astype(np.float16)[targets],
            "generated": random.random((outputs, each, *size)).astype(np.float16),
            "generated_logits": generated_logits,
            "start_judged": np.full((outputs, each), CLASSES),
            **dict.fromkeys(("generated_judged", "generated_nearest"), judged),
            "noise_steps": np.array([0, 50, 100]),
            "noise": np.random.default_rng(1).random((3, CLASSES, *size)).astype(np.float16)[:, targets],
            "noise_logits": np.stack([-OWN + 0 * scored, -OWN + 0 * scored, scored]).astype(np.float32),
            **dict.fromkeys(
                ("noise_judged", "noise_nearest"), np.stack([*[np.full((outputs, each), CLASSES)] * 2, judged])
            ),
            "config": json_of(
                rule="steepest", radius=30.0, generate_steps=60, generate_alpha=0.5, noise_alpha=0.5, seed=3,
                trained=TRAINED,
            ),
        },
    )  # fmt: skip


def density(name: str, dimensions: int, problems: Sequence[str], world: World) -> Density:
    """Three seeds of each problem."""
    seeds, grid = 3, (12,) * dimensions
    random = np.random.default_rng(0)
    axis = np.linspace(0, 1, 12)
    estimate = random.random((len(problems), seeds, 2, *grid))
    target = random.random((len(problems), *grid))
    spread = 0.01 * np.arange(seeds)
    distance = np.stack([np.stack([world.gat + spread, world.natural + spread], 1)] * len(problems))
    return Density(
        name,
        {
            "problems": np.array(problems),
            "seeds": np.arange(seeds),
            "kinds": np.array(["gat", "natural"]),
            "axis": np.stack([axis] * len(problems)),
            "logits": np.log(estimate).astype(np.float32),
            "target": target / target.sum(tuple(range(1, target.ndim)), keepdims=True),
            "estimate": estimate / estimate.sum(tuple(range(3, estimate.ndim)), keepdims=True),
            "distance": distance,
            "uniform_distance": np.full(len(problems), 0.7),
            "positives": random.random((len(problems), 30, dimensions)),
            "negatives": random.random((len(problems), 30, dimensions)),
            "config": json_of(
                eps=0.3, steps=20, alpha=0.05, updates=world.updates, batch=world.batch, hidden=500, layers=5, seed=3
            ),
        },
    )


def curve(name: str) -> Curve:
    updates = np.repeat(np.arange(0, 500, 100), 2).astype(float)
    values = dict.fromkeys(CURVE, 0.9 + 0.0001 * updates)
    return Curve(name, {**values, "update": updates, "detector": np.tile([0.0, 1.0], 5)})


def make(world: World) -> Measured:
    w = world
    balls = {
        "linf-small": ("linf", LINF),
        "linf-large": ("linf", LARGE),
        "l2-small": ("l2", L2),
        "l2-large": ("l2", LARGER),
    }
    banks = {
        name: bank(name, *ball, [other for key, other in balls.items() if key != name], w)
        for name, ball in balls.items()
    }
    softmax = synthesis("softmax", "softmax", w.semantic_softmax, w.generated_softmax, 2.0)
    ours = {name: synthesis(name, "detectors", w.semantic, w.generated, w.fooled) for name in ("cnn", "tuned", "wide")}
    lengths = [
        ("linf", 0.02, "steepest", 40 + 60 * number, 0.001, 1, "image", w.long if number else w.short)
        for number in range(w.lengths)
    ]
    dog = probe("dog", lengths, w, (40, 0.001), labels=(0,))
    dogs = tuple(synthesis(name, "detectors", w.semantic, w.generated, w.fooled, labels=(0,)) for name in DOGS)
    return Measured(
        scale="quick",
        mnist=Mnist(
            dataset=w.dataset,
            **{name.replace("-", "_"): study for name, study in banks.items()},
            detection=detection("cnn", w, w.rival),
            distortion_small=distortion("small", w.distortion, w),
            distortion_large=distortion("large", w.distortion_large, w),
            synthesis=ours["cnn"], synthesis_softmax=softmax,
        ),
        cifar=Cifar(
            dataset=w.cifar_dataset,
            large=tuned("tuned", "linf", 0.03, w, clean=w.clean_large),
            small=tuned("tuned-small", "linf", 0.008, w, clean=w.clean_small),
            l2=tuned("tuned-l2", "l2", 0.3, w, labels=(0, 1)),
            coarse=coarse(w),
            small_curve=curve("tuned-small"), large_curve=curve("tuned"),
            detection=detection("tuned", w, w.cifar_rival),
            distortion=distortion("tuned", 1.5, w),
            synthesis=ours["tuned"], synthesis_softmax=softmax,
            synthesis_natural=synthesis("natural", "softmax", w.semantic_softmax, w.generated_softmax, 2.0),
            synthesis_small=synthesis("tuned-small", "detectors", 0.4, 0.4, w.fooled),
            synthesis_wide=ours["wide"],
        ),
        imagenet=ImageNet(dataset="Restricted ImageNet", probe=dog, synthesis=dogs, synthesis_softmax=softmax),
        densities=(density("line", 1, ["mixture"], w), density("plane", 2, ["moons", "circles"], w)),
    )  # fmt: skip


FOLDERS = {
    Probe: "probes",
    Detection: "detection",
    Distortion: "distortion",
    Synthesis: "synthesis",
    Density: "density",
}


def studies(found: Measured) -> list[Any]:
    """Every study of a scale."""
    flat: list[Any] = list(found.densities)
    for section in (found.mnist, found.cifar, found.imagenet):
        values = [getattr(section, each.name) for each in fields(section)]
        flat += [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
    return [each for each in flat if isinstance(each, (*FOLDERS, Curve))]


def write(found: Measured, root: Path) -> None:
    """The studies of `found` as the stages write them."""
    for study in studies(found):
        if isinstance(study, Curve):
            save_csv(root / "curves" / f"{study.name}.csv", CURVE, zip(*(study.columns[c] for c in CURVE), strict=True))
        else:
            save_arrays(root / FOLDERS[type(study)] / f"{study.name}.npz", study.arrays)


@pytest.fixture(scope="session")
def right() -> Measured:
    """The scale in which the paper is right about everything."""
    return make(World())


@pytest.fixture(scope="session")
def build() -> Callable[..., Measured]:
    """build(**what is different): a scale in which, by default, the paper is right."""
    return lambda **changes: make(replace(World(), **changes))


@pytest.fixture
def bare() -> Measured:
    """A scale without any study."""
    return Measured(scale="quick")
