"""A made scale for the figures: small arrays of the exact formats of the stages, with known numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.evaluation.plotting import STYLE
from robustgen.io import save_arrays
from robustgen.papers.gat.figures import FIGURES
from robustgen.papers.gat.loading import load_density, load_detection, load_synthesis
from robustgen.papers.gat.measured import Cifar, ImageNet, Measured, Mnist
from robustgen.papers.gat.study import Curve, Density, Detection, Synthesis
from robustgen.papers.gat.words import ATTACKS

N, CLASSES, SIDE = 200, 4, 8
DOTS = 100  # an inch; as the layout is computed with, so that text is as large as it reckoned
EPS, LARGER = 0.1, 0.2
ADVERSARY = {"norm": "linf", "eps": EPS, "alpha": 0.025, "steps": 10, "rule": "adam", "random_start": True}
FACTS = {"labels": list(range(CLASSES)), "training": {"adversary": ADVERSARY, "updates": 500}}  # of a file of detectors
PLAIN = {"training": {"adversary": {"eps": EPS, "alpha": 0.025, "steps": 10}}}  # of a classifier
STRENGTH = {  # logit of an attacked image in the wrong class' detector
    "classifier": -8.0,
    "detector": 0.5,
    "combined16": -2.0,
    "combined17": 1.0,
    "ce": 0.0,
    "cw": 0.2,
    "multi-integrated": 1.5,
    "multi-generative": 1.2,
}
DIMENSIONS = {"mixture": 1, "ring": 2, "spirals": 2}


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse pictures and whole fonts: subsetting fonts takes most of the time."""
    monkeypatch.setitem(STYLE, "savefig.dpi", DOTS)
    monkeypatch.setitem(STYLE, "pdf.fonttype", 3)


def config(**options: Any) -> np.ndarray:
    return np.array(json.dumps(options))


def detection(radii: tuple[float, ...] = (EPS, LARGER), n: int = N) -> Detection:
    """Every natural image is right; every attacked one wrong, with the STRENGTH of its attack at the smaller radius."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % CLASSES
    own, other = np.eye(CLASSES)[labels], np.eye(CLASSES)[(labels + 1) % CLASSES]

    def natural(count: int) -> np.ndarray:
        truth = np.eye(CLASSES)[np.arange(count) % CLASSES]
        return np.asarray(random.normal(4, 1.5, (count, CLASSES)) * truth - 10 * (1 - truth))

    points = [(attack, eps) for attack in ATTACKS for eps in radii]
    attacked = []
    for attack, eps in points:
        level = random.normal(STRENGTH[attack] + 5 * (eps - EPS), 1.5, (n, 1))
        attacked.append(level * other - 12 * (1 - other))
    f = np.stack([3 * other for _ in points])
    natural_f, scores = 5 * own, natural(n)
    return Detection(
        "made",
        {
            "attack": np.array([attack for attack, _ in points]),
            "norm": np.array(["linf"] * len(points)),
            "eps": np.array([eps for _, eps in points]),
            "steps": np.full(len(points), 100),
            "alpha": np.full(len(points), 0.01),
            "classifier_logits": f.astype(np.float32),
            "detector_logits": np.stack(attacked).astype(np.float32),
            "natural_classifier": natural_f.astype(np.float32),
            "natural_detector": scores.astype(np.float32),
            "validation_classifier": natural_f.astype(np.float32),
            "validation_detector": natural(n).astype(np.float32),
            "validation_labels": labels,
            "rival_correct": np.arange(n) >= n // 20,
            "rival_eps": np.array(radii),
            "rival_robust": np.stack([np.arange(n) >= n * (k + 1) // 4 for k in range(len(radii))]),
            "labels": labels,
            "indices": np.arange(n),
            "config": config(rule="adam", restarts=1, random_start=True, seed=0, targets=None, trained=[FACTS]),
        },
    )


def synthesis(
    name: str,
    kind: str = "detectors",
    targets: tuple[int, ...] = tuple(range(CLASSES)),
    alike: float = 1.0,
    channels: int = 1,
    per_class: int = 2,
    side: int = SIDE,
) -> Synthesis:
    """Images whose judge sees the target in a share of cases, the first ones; every L2 change has length 3."""
    random = np.random.default_rng(1)
    outputs, images, samples, shape = len(targets), CLASSES * per_class, 6, (channels, side, side)
    labels, image_labels = np.arange(40) % CLASSES, np.repeat(np.arange(CLASSES), per_class)
    plain = random.uniform(0.2, 0.8, (images, *shape)).astype(np.float32)
    wanted = np.array(targets)[:, None]
    moved = np.stack([plain + step / np.sqrt(np.prod(shape)) for step in (0.5, 3.0)])[:, None].repeat(outputs, 1)

    def judged(count: int) -> np.ndarray:
        return np.where(np.arange(count) < round(alike * count), wanted, CLASSES)

    return Synthesis(
        name,
        {
            "kind": np.array(kind),
            "model_labels": np.array(targets),
            "natural": random.normal(4, 1, (len(labels), outputs)).astype(np.float32),
            "labels": labels,
            "indices": np.arange(len(labels)),
            "images": plain,
            "image_labels": image_labels,
            "shift_norm": np.array(["linf", "l2"]),
            "shift_eps": np.array([0.15, 3.0]),
            "shift_steps": np.array([40, 40]),
            "shift_alpha": np.array([0.01, 0.2]),
            "shifted": moved.astype(np.float16),
            "shifted_logits": random.normal(1, 1, (2, outputs, images, outputs)).astype(np.float32),
            "shifted_judged": np.stack([judged(images)] * 2),
            "shifted_nearest": np.stack([judged(images)] * 2),
            "start": random.uniform(0, 1, (outputs, samples, *shape)).astype(np.float16),
            "generated": random.uniform(0, 1, (outputs, samples, *shape)).astype(np.float16),
            "generated_logits": random.normal(2, 1, (outputs, samples, outputs)).astype(np.float32),
            "start_judged": np.full((outputs, samples), CLASSES),
            "generated_judged": judged(samples),
            "generated_nearest": judged(samples),
            "noise_steps": np.array([0, 50, 100]),
            "noise": random.uniform(0, 1, (3, outputs, *shape)).astype(np.float16),
            "noise_logits": np.linspace(-5, 9, 3)[:, None, None].repeat(outputs, 1).repeat(2, 2).astype(np.float32),
            "noise_judged": np.stack([judged(2)] * 3),
            "noise_nearest": np.stack([judged(2)] * 3),
            "config": config(
                rule="steepest", radius=4.0, generate_steps=60, generate_alpha=0.25, noise_alpha=0.1, seed=0,
                trained=[FACTS if kind == "detectors" else PLAIN],
            ),
        },
    )  # fmt: skip


def density(problems: tuple[str, ...], seeds: tuple[int, ...] = (0, 1), nodes: int = 21) -> Density:
    """GAT's logits are the target's logarithm, ordinary training's are flat."""
    dimensions = DIMENSIONS[problems[0]]
    axis = (np.arange(nodes) + 0.5) / nodes
    bump = np.exp(-0.5 * ((axis - 0.5) / 0.15) ** 2)
    mass = bump if dimensions == 1 else bump[:, None] * bump[None]
    mass = mass / mass.sum()
    flat = np.full_like(mass, 1 / mass.size)
    random = np.random.default_rng(2)
    grid = (len(problems), len(seeds))
    each = np.broadcast_to(np.stack([mass, flat]), (*grid, 2, *mass.shape)).astype(np.float32)
    distance = np.broadcast_to([0.01, 0.5], (*grid, 2))
    points = {
        "positives": random.normal(axis.mean(), 0.1, (len(problems), 50, dimensions)),
        "negatives": random.uniform(axis[0], axis[-1], (len(problems), 50, dimensions)),
    }
    return Density(
        "made",
        {
            "problems": np.array(problems),
            "seeds": np.array(seeds),
            "kinds": np.array(["gat", "natural"]),
            "axis": np.stack([axis] * len(problems)),
            "logits": np.log(each * mass.size),
            "target": np.stack([mass] * len(problems)).astype(np.float32),
            "estimate": each,
            "distance": np.asarray(distance),
            "uniform_distance": np.full(len(problems), 0.5),
            **{name: each.astype(np.float32) for name, each in points.items()},
            "curve_updates": np.array([0, 500]),
            **dict.fromkeys(("curve_loss", "curve_distance"), random.random((len(problems), 2, len(seeds), 2))),
            "config": config(eps=0.3, steps=20, alpha=0.05, updates=500, batch=64, hidden=500, layers=5),
        },
    )


def history(name: str, final: float) -> Curve:
    updates = np.tile(np.arange(0, 500, 100), 2).astype(float)
    rise = np.linspace(0.2, final, 5)
    areas = np.concatenate([rise, rise - 0.05])
    return Curve(
        name,
        {
            "update": updates,
            "detector": np.repeat([0.0, 1.0], 5),
            "loss": 1 - areas,
            "train_natural_auc": np.full(10, 0.999),
            "train_adversarial_auc": areas,
            "natural_auc": np.full(10, 0.997),
            "adversarial_auc": areas,
        },
    )


def read_back(found: Measured, folder: Path) -> Measured:
    """The same from files, so that no array has a form that a stage's has not."""

    def one(study: Any) -> Any:
        if isinstance(study, tuple):
            return tuple(map(one, study))
        if not isinstance(study, (Detection, Synthesis, Density)):
            return study
        save_arrays(folder / f"{study.name}.npz", study.arrays)
        if isinstance(study, Synthesis):
            return load_synthesis(folder, study.name, study["kind"].item())
        return load_detection(folder, study.name) if isinstance(study, Detection) else load_density(folder, study.name)

    sections = {
        each.name: getattr(found, each.name) for each in fields(found) if each.name not in ("scale", "densities")
    }
    read = {
        name: replace(part, **{key: one(value) for key, value in vars(part).items()}) for name, part in sections.items()
    }
    return replace(found, **read, densities=one(found.densities))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A scale that has everything that figures are made of."""
    dogs = tuple(synthesis(name, targets=(0,), channels=3) for name in ("dog-002", "dog-03"))
    made = Measured(
        scale="made",
        mnist=Mnist(
            dataset="digits 16×16",
            detection=detection(),
            synthesis=synthesis("linf-small"),
            synthesis_softmax=synthesis("softmax", "softmax", alike=0.25),
        ),
        cifar=Cifar(
            dataset="digits 16×16",
            small_curve=history("tuned-small", 0.998),
            large_curve=history("tuned-large", 0.92),
            detection=detection(),
            synthesis=synthesis("tuned-large"),
            synthesis_softmax=synthesis("softmax", "softmax", alike=0.25),
            synthesis_natural=synthesis("natural", "softmax", alike=0.0),
            synthesis_small=synthesis("tuned-small", alike=0.5),
        ),
        imagenet=ImageNet(
            dataset="Restricted ImageNet", synthesis=dogs, synthesis_softmax=synthesis("soft", "softmax", channels=3)
        ),
        densities=(density(("mixture",)), density(("ring", "spirals"), (0,))),
    )
    return read_back(made, tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture
def drawn(whole: Measured, folder: Path) -> Callable[[str], Path]:
    """Draws a figure of the made scale, once, and tells its path without the suffix."""

    def draw(name: str) -> Path:
        if not (folder / f"{name}.csv").exists():
            FIGURES[name](folder / name, whole)
        return folder / name

    return draw


@pytest.fixture
def table(drawn: Callable[[str], Path]) -> Callable[[str], list[dict[str, str]]]:
    """The rows of such a figure's CSV."""
    return lambda name: rows_of(Path(f"{drawn(name)}.csv"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def read() -> Callable[[Path], list[dict[str, str]]]:
    """The rows of a CSV file."""
    return rows_of


@pytest.fixture
def made() -> Callable[..., Synthesis]:
    """A synthesis study with a property of choice."""
    return synthesis


@pytest.fixture
def without(whole: Measured) -> Callable[..., Measured]:
    """The made scale with parts of a section exchanged or left out."""

    def changed(section: str, **parts: Any) -> Measured:
        return replace(whole, **{section: replace(getattr(whole, section), **parts)})

    return changed
