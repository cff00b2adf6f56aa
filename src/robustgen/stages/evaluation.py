"""Evaluating attacks on a defence over a grid of settings: a shard of test images, batch by batch, resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from robustgen.data import ImageSet, load_split
from robustgen.errors import UserError
from robustgen.io import load_arrays, save_arrays
from robustgen.progress import INTERVAL, log

if TYPE_CHECKING:
    from robustgen.attacks.eot import EotAttack, Outcome

Point = TypeVar("Point")  # a grid point: a dataclass whose fields are arrays of the result

FOLDER = Path(".cache/defense")  # finished parts of evaluations under way


def shard(data: Path, offset: int, images: int) -> ImageSet:
    """`images` test images of `data`, the first being number `offset`."""
    if offset < 0 or images < 1:
        raise UserError(f"offset is {offset} and images {images}; give offset >= 0 and images >= 1")
    last = offset + images
    test = load_split(data, "test", limit=last)
    if len(test) < last:
        raise UserError(f"{data} holds {len(test)} test images, not the {last} that offset and images ask for")
    rows = slice(offset, last)
    return ImageSet(
        images=test.images[rows], labels=test.labels[rows], indices=test.indices[rows], classes=test.classes
    )


def evaluate_grid(
    points: Sequence[Point],
    attacks: Sequence[EotAttack],
    images: ImageSet,
    store: Store,
    *,
    label: str,
    defense: Callable[[Point], Hashable],
) -> list[Outcome]:
    """The outcome of each point's attack.

    Points with the same `defense(point)` share which natural images are right: it is computed for the first of them,
    so this must tell all defences and numbers of verifying draws apart.
    """
    natural: defaultdict[Hashable, dict[int, np.ndarray]] = defaultdict(dict)
    outcomes = []
    for number, (point, attack) in enumerate(zip(points, attacks, strict=True)):
        name = f"{label} {number + 1}/{len(points)} ({point})"
        outcomes.append(evaluate(attack, images, natural[defense(point)], store.below(str(number)), name))
    return outcomes


def evaluate(attack: EotAttack, images: ImageSet, natural: dict[int, np.ndarray], store: Store, label: str) -> Outcome:
    """The outcome of one attack, batch by batch; batches that `store` holds are not computed again.

    `natural` holds, by a batch's first image, which of its natural images are right, and is added to.
    """
    from robustgen.attacks.eot import Outcome

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
    points: Sequence[Any], images: ImageSet, outcomes: Sequence[Outcome], offset: int, config: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """What is written: G grid points, N images.

    The fields of a point, each (G,); labels, indices int64 (N,), indices being rows of the test split; the fields of
    `Outcome`, each (G, N, ...), adversarial as float32; config as JSON.
    """
    grid = {f.name: np.array([getattr(point, f.name) for point in points]) for f in fields(points[0])}
    found = {f.name: np.stack([getattr(each, f.name) for each in outcomes]) for f in fields(outcomes[0])}
    found["adversarial"] = found["adversarial"].astype(np.float32)
    rows = np.arange(offset, offset + len(images))
    written = np.array(json.dumps(config, sort_keys=True, default=str))
    return {**grid, **found, "labels": images.labels.numpy(), "indices": rows, "config": written}


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
        from robustgen.attacks.eot import Outcome

        path = self.folder / f"{first}.npz"
        if not path.is_file():
            return None
        try:
            return Outcome(**load_arrays(path, *(f.name for f in fields(Outcome))))
        except UserError:
            return None

    def kept(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """What `compute` finds, from the file where an earlier run has left it."""
        return self.all_kept(name, lambda: {"found": compute()})["found"]

    def all_kept(self, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays that `compute` finds, from the file where an earlier run has left them."""
        path = self.folder / f"{name}.npz"
        try:
            return load_arrays(path)
        except UserError:  # missing, or damaged
            found = compute()
        save_arrays(path, found)
        return found

    def clear(self) -> None:
        """Forget everything; called once the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
