"""Train, validation and test: stratified by class, fixed by a seed, similar frames kept together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robustgen.data.parts import Part
from robustgen.data.registry import TEST_FRACTION
from robustgen.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A split: `indices` (N,) int64 into the source's part `part`."""

    part: str
    indices: np.ndarray


def split(
    parts: Mapping[str, Part], *, validation: float, test: float | None, seed: int, classes: Sequence[str] = ()
) -> dict[str, Rows]:
    """Divide a source's parts into the three splits.

    validation: fraction of the training part (of what the test split leaves of it); unused where the source has a
    validation part. test: fraction of the images, only where the source has no test part; None means 0.2 there.
    classes: names by which an error tells of classes, else their numbers do.
    Rows are ordered so that every prefix of a split is itself stratified. Raises UserError for fractions out of
    range, a test fraction where an official test part exists, and classes too small to divide.
    """
    train = parts["train"]
    rest = np.arange(len(train.labels))
    if "test" in parts:
        if test is not None:
            raise UserError("--test is for sets without an official test part; leave it out")
        tested = Rows(part="test", indices=np.arange(len(parts["test"].labels)))
    else:
        rest, held = _hold_out(train, rest, TEST_FRACTION if test is None else test, seed, "--test", classes)
        tested = Rows(part="train", indices=held)
    if "validation" in parts:
        validated = Rows(part="validation", indices=np.arange(len(parts["validation"].labels)))
    else:
        rest, held = _hold_out(train, rest, validation, seed, "--validation", classes)
        validated = Rows(part="train", indices=held)
    found = {"train": Rows(part="train", indices=rest), "validation": validated, "test": tested}
    return {
        name: Rows(part=rows.part, indices=_interleaved(rows.indices, parts[rows.part].labels, (seed, number)))
        for number, (name, rows) in enumerate(found.items())
    }


def check_fraction(fraction: float, option: str) -> None:
    """Raise UserError unless `fraction`, the value of the command line's `option`, lies between 0 and 1."""
    if not 0 < fraction < 1:
        raise UserError(f"{option} is {fraction:g}; give a fraction between 0 and 1")


def _hold_out(
    part: Part, rows: np.ndarray, fraction: float, seed: int, option: str, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Divide `rows` into those kept and the stratified `fraction` held out; groups go to one side whole."""
    from sklearn.model_selection import train_test_split

    check_fraction(fraction, option)
    labels = part.labels[rows]
    groups = np.arange(len(rows)) if part.groups is None else part.groups[rows]
    units, first = np.unique(groups, return_index=True)  # a group has one class, so its first image tells it
    problem = _too_few(labels[first], fraction, classes, "image" if part.groups is None else "group of like images")
    if problem:
        raise UserError(f"{option} {fraction:g} cannot be divided by class: {problem}")
    _, held = train_test_split(units, test_size=fraction, random_state=seed, stratify=labels[first])
    chosen = np.isin(groups, held)
    return rows[~chosen], rows[chosen]


def _too_few(labels: np.ndarray, fraction: float, classes: Sequence[str], unit: str) -> str | None:
    """Why units of these labels (N,) have no stratified `fraction`, in a few words; None where they have one."""
    found, counts = np.unique(labels, return_counts=True)
    single = [str(classes[label] if classes else label) for label in found[counts < 2]]
    if single:
        return f"{', '.join(single)} {'has' if len(single) == 1 else 'have'} 1 {unit}, and each class needs 2 at least"
    held, n, k = math.ceil(fraction * len(labels)), len(labels), len(found)
    if min(held, n - held) >= k:
        return None
    needed = max(math.floor((k - 1) / fraction) + 1, math.ceil(k / (1 - fraction)))
    return (
        f"of {n} {unit}s it holds out {held} and keeps {n - held}, and either must be as many as the {k} classes; "
        f"add to them until there are about {needed}, or give another fraction"
    )


def _interleaved(rows: np.ndarray, labels: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """`rows` in random order, the classes spread evenly: any first n rows hold each class in proportion."""
    random = np.random.default_rng(seed)
    place = np.empty(len(rows))
    for label in np.unique(labels[rows]):
        members = np.flatnonzero(labels[rows] == label)
        place[members] = (random.permutation(len(members)) + 0.5) / len(members)
    return rows[np.lexsort((random.random(len(rows)), place))]
