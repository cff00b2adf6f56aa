"""A made scale in which everything is as the paper says, and a way to change one thing about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from robustgen.papers.e_abs.measured import Ablation, Comparison, GradientFree, Measured, Sensitivity, Sweeps
from robustgen.papers.e_abs.study import GRID, PER_POINT, AttackStudy
from robustgen.papers.e_abs.words import SEARCHES

N, CLASSES, SIZE, SHOWN = 400, 4, 8, 6
EPS = {"linf": 0.1, "l2": 1.5}  # radii of the tables
LARGE = {"linf": 0.5, "l2": 6.0}  # the last of Figure 3's
FIRST = 5  # index of the first image
ONE = "models/quick/e-abs/e-abs.safetensors"
Attack = tuple[str, str, float, int, int, int, float]  # attack, norm, eps, steps, restarts, draws; accuracy it leaves
PAPERS = (("pgd", "linf"), ("deepfool", "linf"), ("noise", "linf"), ("pgd", "l2"), ("ddn", "l2"), ("cw", "l2"),
          ("deepfool", "l2"), ("noise", "l2"), ("latent-descent", "l2"))  # fmt: skip
STEPS = {"pgd": 80, "deepfool": 100, "noise": 100, "ddn": 80, "cw": 100, "latent-descent": 50, "boundary": 10_000,
         "estimated": 50}  # fmt: skip
INFERENCE = {"variational": True, "candidates": 8000, "encoder": True, "iterations": 50, "lr": 0.05, "draws": 1,
             "cache": 4.0}  # fmt: skip
DETAILS = {"queries": 100, "candidates": 10, "searches": 5, "directions": 10, "tries": 50}
PARAMETERS = {
    "arch": "aae", "size": 16, "channels": 1, "classes": CLASSES, "latent": 10,
    "encoder_channels": [16, 32, 64], "encoder_kernels": [5, 5, 4], "encoder_strides": [2, 2, 1],
    "encoder_paddings": [2, 2, 0],
    "decoder_channels": [32, 16, 1], "decoder_kernels": [4, 4, 4], "decoder_strides": [1, 2, 2],
    "decoder_paddings": [0, 1, 1],
    "neurons": [256, 128], "adversarial": True, "shared": True, "slope": 0.2, "dropout": 0.2,
}  # fmt: skip
ENCODER = {name: value for name, value in PARAMETERS.items() if name.startswith("encoder_")}
TRAINED = {"epochs": 500, "batch": 512, "lr": 0.001, "halve_every": 200, "beta": 1.0, "gamma": 10.0, "noise": 0.2,
           "cost": "sum", "outliers": True, "check_every": 1, "select": "last", "seed": 0}  # fmt: skip
CLASSIFIER = {"epochs": 500, "batch": 512, "lr": 0.001, "weight_decay": 0.0, "milestones": [200, 400], "gamma": 0.5,
              "noise": 0.2, "adversary": {"eps": 0.0}, "select": "clean", "seed": 0}  # fmt: skip


def levels(linf: float, l2: float) -> dict[str, float]:
    """What the attacks of either norm leave; noise hardly hurts, searches are somewhat weaker than PGD."""
    weaker = {"pgd": 0.0, "deepfool": 0.05, "ddn": 0.02, "cw": 0.03, "latent-descent": 0.06}
    found = {}
    for attack, norm in PAPERS:
        level = {"linf": linf, "l2": l2}[norm]
        found[f"{norm} {attack}"] = 0.95 if attack == "noise" else level + weaker[attack]
    return found


@dataclass(frozen=True, kw_only=True)
class Found:
    """Accuracies of one model, in [0, 1]."""

    clean: float
    linf: float
    l2: float


@dataclass(frozen=True, kw_only=True)
class World:
    """What the made scale finds."""

    n: int = N
    dataset: str = "digits 16×16"
    mnist: Mapping[str, Found] = field(
        default_factory=lambda: {
            "cnn": Found(clean=0.99, linf=0.0, l2=0.4),
            "adv_linf": Found(clean=0.985, linf=0.9, l2=0.6),
            "adv_l2": Found(clean=0.985, linf=0.2, l2=0.75),
            "abs": Found(clean=0.96, linf=0.1, l2=0.8),
            "e_abs": Found(clean=0.99, linf=0.12, l2=0.9),
        }
    )
    svhn: Mapping[str, Found] = field(
        default_factory=lambda: {
            "cnn": Found(clean=0.96, linf=0.0, l2=0.0),
            "adv_linf": Found(clean=0.95, linf=0.4, l2=0.1),
            "adv_l2": Found(clean=0.95, linf=0.25, l2=0.2),
            "abs": Found(clean=0.6, linf=0.1, l2=0.05),
            "e_abs": Found(clean=0.955, linf=0.6, l2=0.5),
        }
    )
    ablation: Mapping[str, Found] = field(
        default_factory=lambda: {
            "abs": Found(clean=0.46, linf=0.07, l2=0.05),
            "a": Found(clean=0.24, linf=0.06, l2=0.06),
            "d": Found(clean=0.45, linf=0.08, l2=0.06),
            "v": Found(clean=0.44, linf=0.03, l2=0.02),
            "ad": Found(clean=0.3, linf=0.02, l2=0.02),
            "av": Found(clean=0.6, linf=0.11, l2=0.08),
            "dv": Found(clean=0.66, linf=0.19, l2=0.14),
            "adv": Found(clean=0.9, linf=0.57, l2=0.41),
        }
    )
    estimated: float = 0.9  # what attacks without gradients leave
    boundary: float = 0.92
    pgd: float = 0.57  # what PGD leaves of the same images, in both norms
    eot: Mapping[int, float] = field(default_factory=lambda: {1: 0.6, 2: 0.59, 3: 0.58, 5: 0.57, 10: 0.57})
    restarts: Mapping[int, float] = field(default_factory=lambda: {5: 0.59, 20: 0.57, 50: 0.57})
    steps: Mapping[int, float] = field(default_factory=lambda: {10: 0.75, 30: 0.63, 50: 0.57, 200: 0.57})
    unconfirmed: float = 0.1  # share of the images that stay right whose error an attacker believed to have seen
    below_bound: int = 0  # images that an attack broke below ε*
    radii: Mapping[str, Sequence[float]] = field(
        default_factory=lambda: {"linf": (0.05, 0.1, 0.2, 0.5), "l2": (0.5, 1.5, 3.0, 6.0)}
    )
    sampled: float = 0.95  # clean accuracy with several samples in inference, as with one
    iterated: Found = Found(clean=0.99, linf=0.65, l2=0.65)  # with more iterations
    bound: float = 0.3  # mean ε*
    bound_abs: float = 0.3


def about(n: int) -> dict[str, np.ndarray]:
    return {"labels": np.arange(n) % CLASSES, "indices": np.arange(n) + FIRST}


def first(share: float, n: int) -> np.ndarray:
    """Which of n images: the first `share` of them."""
    return np.arange(n) < round(share * n)


def study(
    name: str,
    attacks: Sequence[Attack],
    world: World,
    clean: float,
    *,
    arch: str = "aae",
    bound: float | None = None,
    **options: Any,
) -> AttackStudy:
    """A model that has the first `clean` share of images right, and under each attack so large a share still."""
    n, grid = world.n, len(attacks)
    natural = first(clean, n)
    robust = np.stack([natural & first(attack[-1], n) for attack in attacks])
    unconfirmed = world.unconfirmed if arch == "aae" else 0
    believed = np.stack([~right | first(unconfirmed, n) for right in robust])
    columns = ("attack", "norm", "eps", "steps", "restarts", "draws")
    eps = np.array([attack[2] for attack in attacks])
    unbroken = np.array([[np.inf if attack[0] in SEARCHES else attack[2]] for attack in attacks])
    random = np.random.default_rng(0)
    images = random.random((SHOWN, 1, SIZE, SIZE)).astype(np.float32)
    changed = np.clip(images + 0.1 * random.random((grid, *images.shape)).astype(np.float32), 0, 1)
    labels = about(n)["labels"]
    arrays: dict[str, np.ndarray] = {
        **{column: np.array([attack[k] for attack in attacks]) for k, column in enumerate(columns)},
        "natural_correct": natural,
        "control_correct": natural.copy(),
        "robust": robust,
        "chosen": ~robust,
        "seen": believed,
        "distance": np.where(natural, np.where(robust, unbroken, 0.8 * eps[:, None]), 0.0).astype(np.float32),
        "natural_logits": np.eye(CLASSES, dtype=np.float32)[np.where(natural, labels, (labels + 1) % CLASSES)],
        "shown": np.arange(SHOWN),
        "shown_images": images,
        "shown_adversarial": changed,
        "shown_predicted": np.stack([np.where(right[:SHOWN], labels[:SHOWN], (labels[:SHOWN] + 1) % CLASSES)
                                     for right in robust]),
        **about(n),
    }  # fmt: skip
    if arch == "aae":
        arrays |= examples(random)
    if bound is not None:
        proven = natural & first(0.9 * clean, n)
        arrays["bound"] = np.where(natural, np.where(proven, bound + 0.01 * np.sin(np.arange(n)), 0.0), np.nan)
        reasons = np.where(natural, np.where(proven, "", "too near another class"), "misclassified")
        arrays["bound_reason"] = reasons
    parameters, trained = (PARAMETERS, TRAINED) if arch == "aae" else (ENCODER, CLASSIFIER)
    config = {
        "model": f"models/quick/{name}.safetensors", "data": "data/digits16.npz", "images": n, "offset": FIRST,
        "inference": INFERENCE, "follow": 5, "runs": 1, "seed": 0, "details": DETAILS, "starts": 100,
        "trained": trained, "arch": arch, "parameters": parameters, **options,
    }  # fmt: skip
    arrays["config"] = np.array(json.dumps(config))
    return AttackStudy(name, arrays)


def examples(random: np.random.Generator) -> dict[str, np.ndarray]:
    """The first image of each class, its reconstructions and their losses, the own class's being the least."""
    losses = 5 + random.random((CLASSES, CLASSES)) - 4 * np.eye(CLASSES)
    return {
        "example_rows": np.arange(CLASSES),
        "example_images": random.random((CLASSES, 1, SIZE, SIZE)).astype(np.float32),
        "example_reconstructions": random.random((CLASSES, CLASSES, 1, SIZE, SIZE)).astype(np.float32),
        "example_losses": losses.astype(np.float32),
    }


def tried(found: Found, *, synthesis: bool) -> list[Attack]:
    """The attacks of Tables 1-4 on one model, PGD first, and latent descent on analysis by synthesis."""
    left = levels(found.linf, found.l2)
    return [
        (a, norm, EPS[norm], STEPS[a], 5 if a == "pgd" else 1, 5, min(found.clean, left[f"{norm} {a}"]))
        for a, norm in PAPERS
        if synthesis or a != "latent-descent"
    ]


def comparison(section: str, found: Mapping[str, Found], world: World, dataset: str) -> Comparison:
    studies = {}
    for network, each in found.items():
        synthesis = network in ("abs", "e_abs")
        bound = {"abs": world.bound_abs, "e_abs": world.bound}.get(network)
        made = study(f"{section}-{network}", tried(each, synthesis=synthesis), world, each.clean, bound=bound,
                     arch="aae" if synthesis else "encoder_cnn",
                     inference={**INFERENCE, "variational": network == "e_abs"})  # fmt: skip
        if synthesis and world.below_bound:
            broken = np.flatnonzero(made.arrays["bound"] > 0)[: world.below_bound]
            point = made.point(attack="ddn", norm="l2")
            made.arrays["robust"][point, broken] = False
            made.arrays["distance"][point, broken] = 0.5 * made.arrays["bound"][broken]
        studies[network] = made
    return Comparison(dataset=dataset, **studies)


def curve(world: World) -> Comparison:
    """All models under PGD of growing radius: what the smallest leaves, down to nothing at the largest."""
    studies = {}
    for network, each in world.svhn.items():
        attacks: list[Attack] = []
        for norm, radii in world.radii.items():
            for eps in radii:
                left = {"linf": each.linf, "l2": each.l2}[norm] * min(1.5, max(0, 1.5 - eps / LARGE[norm] * 1.5))
                attacks.append(("pgd", norm, eps, 80, 5, 5, min(each.clean, left)))
        arch = "aae" if network in ("abs", "e_abs") else "encoder_cnn"
        studies[network] = study(f"curve-{network}", attacks, world, each.clean, arch=arch)
    return Comparison(dataset=world.dataset, **studies)


def ablation(world: World) -> Ablation:
    studies = {}
    for name, each in world.ablation.items():
        attacks: list[Attack] = [("pgd", norm, EPS[norm], 80, 5, 5, getattr(each, norm)) for norm in ("linf", "l2")]
        studies[name] = study(f"ablation-{name}", attacks, world, each.clean, bound=0.2 if name == "ad" else None,
                              inference={**INFERENCE, "variational": "v" in name})  # fmt: skip
    return Ablation(dataset=world.dataset, **studies)


def sweeps(world: World) -> Sweeps:
    eps = EPS["linf"]
    eot: list[Attack] = [("pgd", "linf", eps, 80, 5, draws, left) for draws, left in world.eot.items()]
    restarts: list[Attack] = [("pgd", "linf", eps, 100, count, 3, left) for count, left in world.restarts.items()]
    steps: list[Attack] = [("pgd", "linf", eps, count, 20, 3, left) for count, left in world.steps.items()]
    clean = world.svhn["e_abs"].clean
    return Sweeps(
        dataset=world.dataset,
        eot=study("eot", eot, world, clean),
        restarts=study("restarts", restarts, world, clean),
        steps=study("steps", steps, world, clean),
    )


def gradient_free(world: World) -> GradientFree:
    attacks: list[Attack] = [
        ("pgd", "linf", EPS["linf"], 80, 5, 5, world.pgd),
        ("estimated", "linf", EPS["linf"], STEPS["estimated"], 1, 5, world.estimated),
        ("pgd", "l2", EPS["l2"], 80, 5, 5, world.pgd),
        ("boundary", "l2", EPS["l2"], STEPS["boundary"], 1, 5, world.boundary),
    ]
    return GradientFree(dataset=world.dataset, study=study("gradient-free", attacks, world, world.svhn["e_abs"].clean))


def sensitivity(world: World) -> Sensitivity:
    """Two choices of training or attack, and two of inference, with other attacks besides."""

    def pgd(left: float, steps: int = 80) -> list[Attack]:
        return [("pgd", norm, EPS[norm], steps, 5, 5, left) for norm in ("linf", "l2")]

    more = [*pgd(world.iterated.linf), ("pgd", "l2", LARGE["l2"], 80, 5, 5, 0.1)]
    choices = {
        "as everywhere": study("sensitivity-0", [*pgd(0.5, steps=100), *pgd(0.55)], world, 0.95, model=ONE),
        "cost: mean": study("sensitivity-1", pgd(0.55), world, 0.93),
        "follow 0": study("sensitivity-2", pgd(0.55), world, 0.95, model=ONE, follow=0),
        "5 samples": study("sensitivity-3", pgd(0.55), world, world.sampled, model=ONE, shown=3, bound=0.3,
                           inference={**INFERENCE, "draws": 5}),
        "100 iterations": study("sensitivity-4", more, world, world.iterated.clean, model=ONE, steps=[80],
                                inference={**INFERENCE, "iterations": 100}),
    }  # fmt: skip
    return Sensitivity(dataset=world.dataset, studies=tuple(choices.values()), labels=tuple(choices))


def make(world: World) -> Measured:
    return Measured(
        scale="quick",
        mnist=comparison("mnist", world.mnist, world, world.dataset),
        fashion_mnist=comparison("fashion", world.mnist, world, "Fashion-MNIST"),
        supertraffic=comparison("traffic", world.svhn, world, "SuperTraffic-10"),
        svhn=comparison("svhn", world.svhn, world, world.dataset),
        ablation=ablation(world),
        curve=curve(world),
        sweeps=sweeps(world),
        gradient_free=gradient_free(world),
        sensitivity=sensitivity(world),
    )


def altered(study: AttackStudy | None, config: Mapping[str, Any] | None = None, **arrays: Any) -> AttackStudy:
    """A study with other options and arrays."""
    assert study is not None
    told = np.array(json.dumps({**study.config, **(config or {})}))
    given = {name: np.asarray(values) for name, values in arrays.items()}
    return AttackStudy(study.name, {**study.arrays, "config": told, **given})


def only(study: AttackStudy | None, kept: Callable[[AttackStudy], np.ndarray]) -> AttackStudy:
    """A study of some of its grid points (G,)."""
    assert study is not None
    names = (*GRID, *PER_POINT, "shown_adversarial", "shown_predicted")
    return altered(study, **{name: study.arrays[name][kept(study)] for name in names})


@pytest.fixture(scope="session", name="altered")
def _altered() -> Callable[..., AttackStudy]:
    return altered


@pytest.fixture(scope="session", name="only")
def _only() -> Callable[..., AttackStudy]:
    return only


@pytest.fixture(scope="session")
def measured() -> Measured:
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
