"""Attack a Langevin defence by BPDA+EOT over a grid of settings and write what broke when."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robustgen import models
from robustgen.data import ImageSet, load_split
from robustgen.errors import UserError
from robustgen.io import load_arrays, save_arrays
from robustgen.options import Ratio
from robustgen.progress import INTERVAL, log
from robustgen.stages.compute import Compute, check_data, identity, prepare
from robustgen.stages.ebms import load_ebm

if TYPE_CHECKING:
    from torch import nn

    from robustgen.attacks.bpda_eot import BpdaEot, Outcome

FOLDER = Path(".cache/defense")  # finished parts of evaluations under way
SOURCES = (  # modules that the outcome depends on, beside the networks' own
    *("attacks.ball", "attacks.base", "attacks.bpda_eot"),
    *("defenses.identity", "defenses.langevin", "models.energy", "models.wide_resnet"),
    *("replicates", "sampling.langevin", "seeding"),
)


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    classifier: Path  # the defended classifier f, safetensors
    classifier_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    ebm: Path | None = None  # the energy-based model whose Langevin dynamics purify; None: the classifier alone
    ebm_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # outcomes to write, npz
    offset: int = 0  # first test image of this shard
    images: int  # test images of this shard
    langevin_steps: tuple[int, ...]  # K, in turn; 0 is the classifier alone
    linf: tuple[Ratio, ...] = ()  # radii of L∞ attacks, pixel units; 0 is the control that should break nothing
    l2: tuple[Ratio, ...] = ()  # radii of L2 attacks, pixel units, length of the whole change
    draws: tuple[int, ...]  # H_adv, in turn: replicates behind a gradient and the screen
    verify: tuple[int, ...]  # H_def, in turn: fresh replicates that confirm a break
    steps: int = 50  # N, attack updates
    step: Ratio = 0.25  # attack step size α as a fraction of the radius (2/255 of 8/255)
    restarts: int = 1  # random starts (Table 2 takes 5)
    gradient: Literal["bpda", "full"] = "bpda"  # through the purification: taken for the identity, or unrolled
    average: Literal["logits", "softmax", "log_softmax"] = "logits"  # what the defence averages over its replicates
    precision: Literal["float32", "bfloat16"] = "float32"  # of the energy network's convolutions in the purification
    batch: int = 64  # images attacked together; with their replicates they set the memory in use
    seed: int = 0  # of the per-image random streams


@dataclass(frozen=True, kw_only=True)
class Point:
    """A grid point; fields as the arrays of the result."""

    langevin_steps: int
    norm: str
    eps: float
    draws: int
    verify: int

    def __str__(self) -> str:
        return f"K {self.langevin_steps}, {self.norm} {self.eps:g}, H {self.draws}/{self.verify}"


def grid(options: Options) -> list[Point]:
    """The product of Langevin steps, radii (L∞, then L2), attack and defence replicates."""
    radii = [("linf", eps) for eps in options.linf] + [("l2", eps) for eps in options.l2]
    return [
        Point(langevin_steps=k, norm=norm, eps=eps, draws=draws, verify=verify)
        for k, (norm, eps), draws, verify in product(options.langevin_steps, radii, options.draws, options.verify)
    ]


def run(options: Options) -> None:
    device = prepare(options)
    points = grid(options)
    images = shard(options)
    setting = Setting(options, device, images)
    attacks = [setting.attack(point) for point in points]  # every error of theirs before the first hour of work
    networks = [network for network in (setting.classifier, setting.ebm) if network]
    files = [path for path in (options.classifier, options.ebm, options.data) if path is not None]
    modules = [type(network).__module__.removeprefix("robustgen.") for network in networks]
    store = Store.of(identity(options, files, [*SOURCES, *modules]))
    natural: defaultdict[tuple[int, int], dict[int, np.ndarray]] = defaultdict(dict)  # by the defence and its H_def
    outcomes = []
    for number, (point, attack) in enumerate(zip(points, attacks, strict=True)):
        label = f"{options.out.stem} {number + 1}/{len(points)} ({point})"
        known = natural[point.langevin_steps, point.verify]
        outcomes.append(evaluate(attack, images, known, store.below(str(number)), label))
    save_arrays(options.out, arrays(options, points, images, outcomes, setting.ebm))
    store.clear()


def evaluate(attack: BpdaEot, images: ImageSet, natural: dict[int, np.ndarray], store: Store, label: str) -> Outcome:
    """The outcome of one attack, batch by batch; batches that `store` holds are not computed again.

    `natural` holds, by a batch's first image, which of its natural images are right, and is added to.
    """
    from robustgen.attacks.bpda_eot import Outcome

    parts = []
    for first in range(0, len(images), attack.batch):
        rows = slice(first, first + attack.batch)
        part = store.load(first)
        if part is None:
            part = attack.evaluate(
                images.images[rows],
                images.labels[rows],
                images.indices[rows],
                natural_correct=natural.get(first),
                progress=Report(f"{label}, image {first} of {len(images)}"),
            )
            store.save(first, part)
        natural[first] = part.natural_correct
        parts.append(part)
    return Outcome.join(parts)


def arrays(
    options: Options, points: list[Point], images: ImageSet, outcomes: list[Outcome], ebm: nn.Module | None
) -> dict[str, np.ndarray]:
    """What is written: G grid points, N images.

    langevin_steps, draws, verify int64, norm, eps float64 (G,); labels, indices int64 (N,), indices being rows of the
    test split; the fields of `Outcome`, each (G, N, ...), adversarial as float32; config, the options and the energy
    model's tau and config as JSON.
    """
    grid = {f.name: np.array([getattr(point, f.name) for point in points]) for f in fields(Point)}
    found = {f.name: np.stack([getattr(each, f.name) for each in outcomes]) for f in fields(outcomes[0])}
    found["adversarial"] = found["adversarial"].astype(np.float32)
    rows = np.arange(options.offset, options.offset + len(images))
    network: Any = ebm
    facts = {"tau": network and network.tau, "ebm_config": network and asdict(network.config)}
    config = np.array(json.dumps({**asdict(options), **facts}, sort_keys=True, default=str))
    return {**grid, **found, "labels": images.labels.numpy(), "indices": rows, "config": config}


def shard(options: Options) -> ImageSet:
    """The test images of this shard."""
    if options.offset < 0 or options.images < 1:
        raise UserError(f"offset is {options.offset} and images {options.images}; give offset >= 0 and images >= 1")
    last = options.offset + options.images
    test = load_split(options.data, "test", limit=last)
    if len(test) < last:
        raise UserError(f"{options.data} holds {len(test)} test images, not the {last} that offset and images ask for")
    rows = slice(options.offset, last)
    return ImageSet(
        images=test.images[rows], labels=test.labels[rows], indices=test.indices[rows], classes=test.classes
    )


class Setting:
    """The networks, checked against the images, and the attacks on the defences they make."""

    def __init__(self, options: Options, device: str, images: ImageSet) -> None:
        self.options = options
        if not grid(options):
            raise UserError(
                "the grid is empty; give at least one value to langevin_steps, draws, verify, and linf or l2"
            )
        if options.batch < 1:
            raise UserError(f"batch is {options.batch}; give at least 1 image")
        if options.ebm is None and any(options.langevin_steps):
            raise UserError("Langevin steps need an energy model; give ebm, or 0 steps")
        self.classifier = models.load(options.classifier, device, options.classifier_arch)
        check_data(self.classifier, images, options.data)
        self.ebm: nn.Module | None = None
        if options.ebm is not None:
            self.ebm = load_ebm(options.ebm, device, options.ebm_arch, images, options.data)

    def attack(self, point: Point) -> BpdaEot:
        """The attack of a grid point. Without Langevin steps all replicates are equal, so one is computed."""
        from robustgen.attacks.bpda_eot import BpdaEot

        o = self.options
        stochastic = point.langevin_steps != 0
        if min(point.draws, point.verify) < 1:
            raise UserError(f"draws is {point.draws} and verify {point.verify}; give at least 1")
        return BpdaEot(
            self.defense(point.langevin_steps),
            norm=point.norm,
            eps=point.eps,
            step=o.step,
            steps=o.steps,
            draws=point.draws if stochastic else 1,
            verify=point.verify if stochastic else 1,
            restarts=o.restarts,
            gradient=o.gradient,
            seed=o.seed,
            batch=o.batch,
        )

    def defense(self, langevin_steps: int) -> nn.Module:
        """The defence with K Langevin steps."""
        if langevin_steps == 0:
            from robustgen.defenses.identity import Undefended

            return Undefended(self.classifier)
        from robustgen.defenses.langevin import LangevinDefense

        assert self.ebm is not None
        o = self.options
        return LangevinDefense(
            self.classifier, self.ebm, steps=langevin_steps, average=o.average, precision=o.precision
        )


class Report:
    """Says on standard error how an attack gets on: seldom, and nothing in a short one."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.last = time.monotonic()

    def __call__(self, restart: int, step: int, standing: int) -> None:
        now = time.monotonic()
        if now - self.last >= INTERVAL:
            self.last = now
            log(f"{self.label}: restart {restart}, step {step}, {standing} of the batch unbroken")


class Store:
    """Keeps the outcome of every finished batch of an evaluation, so that an interrupted one goes on from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, identity: Any) -> Store:
        """The store of the evaluation that `identity` (JSON values) names; what it names differently, never meets."""
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        return cls(FOLDER / digest[:32])

    def below(self, name: str) -> Store:
        """A part of this store."""
        return Store(self.folder / name)

    def save(self, first: int, outcome: Outcome) -> None:
        """Keep the outcome of the batch that begins at image `first`."""
        save_arrays(self.folder / f"{first}.npz", {f.name: getattr(outcome, f.name) for f in fields(outcome)})

    def load(self, first: int) -> Outcome | None:
        """What `save` kept; None where there is nothing or it is damaged."""
        from robustgen.attacks.bpda_eot import Outcome

        path = self.folder / f"{first}.npz"
        if not path.is_file():
            return None
        try:
            return Outcome(**load_arrays(path, *(f.name for f in fields(Outcome))))
        except UserError:
            return None

    def clear(self) -> None:
        """Forget everything; called once the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
