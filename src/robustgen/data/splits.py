"""Train, validation and test: stratified by class, fixed by a seed, similar frames kept together."""

from __future__ import annotations

from collections.abc import Mapping
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


def split(parts: Mapping[str, Part], *, validation: float, test: float | None, seed: int) -> dict[str, Rows]:
    """Divide a source's parts into the three splits.

    validation: fraction of the training part (of what the test split leaves of it); unused where the source has a
    validation part. test: fraction of the images, only where the source has no test part; None means 0.2 there.
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
        rest, held = _hold_out(train, rest, TEST_FRACTION if test is None else test, seed, "--test")
        tested = Rows(part="train", indices=held)
    if "validation" in parts:
        validated = Rows(part="validation", indices=np.arange(len(parts["validation"].labels)))
    else:
        rest, held = _hold_out(train, rest, validation, seed, "--validation")
        validated = Rows(part="train", indices=held)
    found = {"train": Rows(part="train", indices=rest), "validation": validated, "test": tested}
    return {
        name: Rows(part=rows.part, indices=_interleaved(rows.indices, parts[rows.part].labels, (seed, number)))
        for number, (name, rows) in enumerate(found.items())
    }


def _hold_out(part: Part, rows: np.ndarray, fraction: float, seed: int, option: str) -> tuple[np.ndarray, np.ndarray]:
    """Divide `rows` into those kept and the stratified `fraction` held out; groups go to one side whole."""
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise UserError(f"{option} is {fraction:g}; give a fraction between 0 and 1")
    labels = part.labels[rows]
    groups = np.arange(len(rows)) if part.groups is None else part.groups[rows]
    units, first = np.unique(groups, return_index=True)  # a group has one class, so its first image tells it
    try:
        _, held = train_test_split(units, test_size=fraction, random_state=seed, stratify=labels[first])
    except ValueError as error:
        raise UserError(f"{option} {fraction:g} cannot be divided by class: {error}") from error
    chosen = np.isin(groups, held)
    return rows[~chosen], rows[chosen]


def _interleaved(rows: np.ndarray, labels: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """`rows` in random order, the classes spread evenly: any first n rows hold each class in proportion."""
    random = np.random.default_rng(seed)
    place = np.empty(len(rows))
    for label in np.unique(labels[rows]):
        members = np.flatnonzero(labels[rows] == label)
        place[members] = (random.permutation(len(members)) + 0.5) / len(members)
    return rows[np.lexsort((random.random(len(rows)), place))]
