"""A made scale in which everything is as the paper says, and a way to change one thing about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.io import save_arrays
from robustgen.papers.langevin import Defense, Purification
from robustgen.papers.stochastic_security.study import Dynamics, Measured

N, CLASSES = 400, 4
SHORT, LONG, BEYOND = 10, 100, 200
EPS, RADII, L2_RADII = 0.1, (0.05, 0.1, 0.15), (0.5, 1.0, 1.5, 2.0)
UPDATES, LONG_ATTACK = 20, 60
ATTACK = {"gradient": "bpda", "restarts": 1, "step": 0.25, "average": "logits", "seed": 3, "tau": 0.05}


@dataclass(frozen=True, kw_only=True)
class World:
    """What the made scale finds; accuracies in [0, 1]."""

    n: int = N
    base: float = 0.0  # the classifier alone under PGD
    short_blind: float = 0.02  # purified, attack blind to it
    long_blind: float = 0.7
    natural_long: float = 0.9
    twin_natural: float = 0.4
    twin_blind: float = 0.2
    jem_gain: float = 0.1  # from short to long run
    igebm_gain: float = 0.05
    steady: bool = False  # every draw right
    outlier: bool = False  # one draw of the second half wrong by so much that it turns their mean
    undefended: float = 0.0  # under BPDA+EOT: K = 0, short, long, beyond
    short: float = 0.02
    long: float = 0.5
    beyond: float = 0.52
    twin: float = 0.1
    false_breaks: float = 0.0
    trained: float = 0.3  # adversarial training at L∞ eps
    trained_l2: float = 0.1  # the same under L2 attacks
    unrolled: float = 0.1  # at the short run, under the full gradient
    early: float = 0.9  # share of a long attack's breaks within N of Table 2
    least: float = 0.7  # accuracy with least H_adv, and with the last but one
    before: float = 0.52
    hasty: float = 0.4  # with least H_adv, judged with least H_def
    adversarial_energy: float = 3.0  # above natural ones; the random control is 1 above
    aligned: float = 0.05  # change of samples over a long run at the end of training; 0.4 in the Adam phase
    onset: float = 0.9  # η at which chaos begins
    distance: float = 40.0  # FID of the non-convergent EBM; the convergent one has 10
    slowness: float = 20.0  # of IGEBM and JEM


def first(share: float, n: int) -> np.ndarray:
    """Which of n images: the first `share` of them."""
    return np.arange(n) < round(share * n)


def logits(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, CLASSES) logits whose largest entry is the label where right, else the next class."""
    found = np.zeros((len(labels), CLASSES), dtype=np.float32)
    found[np.arange(len(labels)), np.where(right, labels, (labels + 1) % CLASSES)] = 5
    return found


def labels_of(n: int) -> np.ndarray:
    return np.arange(n) % CLASSES


def purification(
    name: str, natural: Sequence[float], adversarial: Sequence[float], world: World, draws: int = 16
) -> Purification:
    """Accuracies natural and adversarial after 0, SHORT and LONG steps."""
    n, labels = world.n, labels_of(world.n)
    random = np.random.default_rng(0)
    drawn = random.normal(size=(n, draws, CLASSES))
    drawn[np.arange(n), :, labels] += 20.0 if world.steady else np.linspace(0.5, 9, n)[:, None]
    if world.outlier:
        drawn = logits(first(1, n), labels)[:, None].repeat(draws, 1)
        drawn[np.arange(n), -1, (labels + 1) % CLASSES] = 1000
    arrays = {
        "steps": np.array([0, SHORT, LONG]),
        "labels": labels,
        "indices": np.arange(n) + 5,
        "natural_logits": np.stack([logits(first(share, n), labels) for share in natural]),
        "adversarial_logits": np.stack([logits(first(share, n), labels) for share in adversarial]),
        "natural_draws": drawn.astype(np.float32),
        "config": np.array(
            json.dumps(
                {
                    "seed": 3,
                    "keep": LONG,
                    "tau": 0.05,
                    "average": "logits",
                    "attack": {"eps": EPS, "alpha": 0.02, "steps": 7},
                }
            )
        ),
    }
    return Purification(name, arrays)


def defense(
    name: str, points: Sequence[tuple[int, str, float, int, int, float, float]], world: World, **options: Any
) -> Defense:
    """Grid points (langevin_steps, norm, eps, draws, verify, natural accuracy, accuracy under attack)."""
    n = world.n
    config = {**ATTACK, "steps": UPDATES, **options}
    natural = np.stack([first(point[5], n) for point in points])
    broken = natural & ~np.stack([first(point[6], n) for point in points])
    early = first(world.early, n)[np.argsort(np.random.default_rng(1).permutation(n))]
    step = np.where(early, np.arange(n) % UPDATES, config["steps"])
    arrays = {
        "langevin_steps": np.array([point[0] for point in points]),
        "norm": np.array([point[1] for point in points]),
        "eps": np.array([point[2] for point in points]),
        "draws": np.array([point[3] for point in points]),
        "verify": np.array([point[4] for point in points]),
        "labels": labels_of(n),
        "indices": np.arange(n) + 5,
        "natural_correct": natural,
        "broken": broken,
        "broken_step": np.where(broken, step, -1),
        "broken_restart": np.where(broken, 0, -1),
        "checks": broken.astype(np.int64),
        "config": np.array(json.dumps(config)),
    }
    return Defense(name, arrays)


def dynamics(world: World) -> Dynamics:
    random = np.random.default_rng(2)
    shape = (6, 9, 1, 8, 8)
    short = random.random(shape)
    change = np.array([0.4, 0.4, 0.4, 0.3, 0.2, world.aligned])[:, None, None, None, None]
    noise = 1 + 0.05 * random.normal(size=shape[:2])[..., None, None, None]
    etas = np.array([0.0, 0.5, 0.8, 1.0, 1.2, 2.0])
    natural = random.normal(-50, 2, world.n)
    wobble = random.normal(0, 0.2, world.n)
    fid = np.linspace(1, 0, 5)
    arrays = {
        "snapshot_updates": np.array([100, 200, 300, 400, 500, 600]),
        "snapshot_phase": np.array(["adam"] * 3 + ["sgd"] * 3),
        "short_samples": short.astype(np.float32),
        "long_samples": (short + change * noise).astype(np.float32),
        "energy_natural": natural,
        "energy_adversarial": natural + world.adversarial_energy + wobble,
        "energy_perturbed": natural + 1 + wobble[::-1],
        "energy_noise": random.normal(400, 9, world.n),
        "etas": etas,
        "lyapunov": 0.01 * (etas[:, None] - world.onset) + 1e-5 * random.normal(size=(6, 8)),
        "lyapunov_distances": np.array([1.0, 0.1]),
        "eta_samples": random.random((6, 8, 1, 8, 8)).astype(np.float32),
        "fid_steps": np.array([0, 10, 100, 500, 1000]),
        "fid_convergent": np.stack([10 - 8 * fid, 9 - 8 * fid, 11 - 8 * fid], 1),
        "fid_nonconvergent": np.stack([world.distance - 30 * fid + d for d in (0, -2, 2)], 1),
        "fid_floor": np.array([1.0, 0.8, 1.2]),
        "fid_features": np.array("the classifier's penultimate layer"),
        "config": np.array(json.dumps({"long_steps": 50, "steady_steps": 1000, "fid_images": 300})),
    }
    arrays["lyapunov_by_distance"] = np.stack([arrays["lyapunov"], 0.5 * arrays["lyapunov"] - 0.001])
    for model, time, count in (("ours", 1.0, 693_569), ("igebm", 20.0, 5_000_000), ("jem", 20.0, 36_500_000)):
        arrays[f"steady_{model}"] = random.random((16, 1, 8, 8)).astype(np.float32)
        arrays[f"diverged_{model}"] = np.where(np.arange(16) < 3 * (model == "jem"), 500, -1)
        arrays[f"ms_per_step_{model}"] = np.array(8.0 if model == "ours" else 8.0 * world.slowness / 20 * time)
        arrays[f"parameters_{model}"] = np.array(count)
    return Dynamics("dynamics", arrays)


def make(world: World) -> Measured:
    w = world

    def sweep(name: str, ks: Sequence[tuple[int, float, float]], **options: Any) -> Defense:
        return defense(name, [(k, "linf", EPS, 4, 16, nat, rob) for k, nat, rob in ks], w, **options)

    def radii(name: str, norm: str, values: Sequence[float], at: Callable[[float], float], steps: int) -> Defense:
        return defense(name, [(steps, norm, eps, 4, 16, 0.9, at(eps)) for eps in values], w)

    trained = [(0, "linf", eps, 1, 1, 0.95, w.trained + 0.2 * (EPS - eps)) for eps in RADII]
    trained += [(0, "l2", eps, 1, 1, 0.95, w.trained_l2) for eps in L2_RADII]
    grid = [(4, 16, 0.5), (1, 16, w.least), (2, 16, w.before), (4, 4, 0.45), (4, 1, 0.3), (1, 1, w.hasty)]
    return Measured(
        dataset="digits 16×16",
        scale="quick",
        short=SHORT,
        long=LONG,
        ours=purification("convergent", (1, 0.98, w.natural_long), (w.base, w.short_blind, w.long_blind), w),
        twin=purification("non-convergent", (1, 0.98, w.twin_natural), (w.base, w.short_blind, w.twin_blind), w),
        igebm=purification("igebm", (0.6, 0.6, 0.6), (0.3, 0.35, 0.35 + w.igebm_gain), w),
        jem=purification("jem", (0.9, 0.9, 0.7), (0.1, 0.12, 0.12 + w.jem_gain), w),
        main=defense(
            "main",
            [(LONG, "linf", 0.0, 4, 16, 0.9, 0.9 - 0.9 * w.false_breaks), (LONG, "linf", EPS, 4, 16, 0.9, w.long)],
            w,
        ),
        steps_ours=sweep(
            "steps", [(0, 1, w.undefended), (SHORT, 0.98, w.short), (LONG, 0.9, w.long), (BEYOND, 0.88, w.beyond)]
        ),
        steps_twin=sweep("twin", [(0, 1, 0), (SHORT, 0.98, 0.02), (LONG, w.twin_natural, w.twin)]),
        linf=radii("linf", "linf", RADII, lambda eps: w.long + 2 * (EPS - eps), LONG),
        l2=radii("l2", "l2", L2_RADII, lambda eps: 0.8 - 0.3 * eps, LONG),
        at_linf=defense("at", trained, w),
        at_l2=defense("at-l2", [(0, "l2", eps, 1, 1, 0.95, 0.4) for eps in L2_RADII], w),
        attack_steps=defense("long", [(LONG, "linf", EPS, 4, 16, 0.9, 0.4)], w, steps=LONG_ATTACK),
        draws=defense("draws", [(LONG, "linf", EPS, h, v, 0.9, acc) for h, v, acc in grid], w),
        full_gradient=defense("full", [(SHORT, "linf", EPS, 4, 16, 0.98, w.unrolled)], w, gradient="full"),
        others=(),
        dynamics=dynamics(w),
    )


def write(found: Measured, root: Path) -> None:
    """The studies of `found` as the stages write them."""
    for name in ("ours", "twin", "igebm", "jem"):
        study = getattr(found, name)
        save_arrays(root / f"purification/{study.name}.npz", study.arrays)
    defenses = ("main", "steps_ours", "steps_twin", "linf", "l2", "at_linf", "at_l2", "attack_steps", "draws")
    for name in (*defenses, "full_gradient"):
        study = getattr(found, name)
        save_arrays(root / f"defense/{study.name}.npz", study.arrays)
    assert found.dynamics is not None
    save_arrays(root / "dynamics/dynamics.npz", found.dynamics.arrays)


@pytest.fixture(scope="session")
def right() -> Measured:
    """The scale in which the paper is right about everything."""
    return make(World())


@pytest.fixture
def build() -> Callable[..., Measured]:
    """build(**what is different): a scale in which, by default, the paper is right."""
    return lambda **changes: make(replace(World(), **changes))


@pytest.fixture
def bare(right: Measured) -> Measured:
    """A scale without any study."""
    return Measured(dataset=right.dataset, scale="quick", short=SHORT, long=LONG)


@pytest.fixture
def point() -> Callable[..., Defense]:
    """point(name, [(K, norm, eps, H_adv, H_def, natural, robust), ...], n=..., **options): a defence study."""

    def made(name: str, points: Sequence[Any], n: int = 20, **options: Any) -> Defense:
        return defense(name, points, World(n=n), **options)

    return made


@pytest.fixture
def written(right: Measured, tmp_path: Path) -> Path:
    """The folder with all files of `right`."""
    write(right, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def write_scale() -> Callable[[Measured, Path], None]:
    """write_scale(found, root): the files of `found`, as the stages write them."""
    return write
