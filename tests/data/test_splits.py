from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgen.data.parts import Part
from robustgen.data.splits import split
from robustgen.errors import UserError


def part(labels: list[int] | np.ndarray, groups: np.ndarray | None = None) -> Part:
    labels = np.asarray(labels, dtype=np.int64)
    return Part(images=np.zeros((len(labels), 1, 1, 1), dtype=np.uint8), labels=labels, groups=groups)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(12, 60), min_size=2, max_size=5),
    validation=st.floats(0.15, 0.5),
    test=st.floats(0.15, 0.5),
    seed=st.integers(0, 2**31 - 1),
)
def test_three_splits_divide_the_images(counts: list[int], validation: float, test: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = split({"train": part(labels)}, validation=validation, test=test, seed=seed)
    together = np.concatenate([each.indices for each in rows.values()])
    assert sorted(together.tolist()) == list(range(len(labels)))
    for name, fraction in (("test", test), ("validation", (1 - test) * validation)):
        found = np.bincount(labels[rows[name].indices], minlength=len(counts))
        assert (np.abs(found - fraction * np.array(counts)) <= 2.5).all()  # stratified up to rounding


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(10, 60), min_size=2, max_size=5), seed=st.integers(0, 1000), data=st.data())
def test_every_prefix_is_stratified(counts: list[int], seed: int, data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    ordered = labels[
        split({"train": part(labels), "test": part(labels)}, validation=0.2, test=None, seed=seed)["test"].indices
    ]
    n = data.draw(st.integers(1, len(labels)))
    found = np.bincount(ordered[:n], minlength=len(counts))
    assert (np.abs(found - n * np.array(counts) / len(labels)) <= 1.5).all()


def test_the_seed_fixes_everything() -> None:
    parts = {"train": part(np.arange(300) % 10), "test": part(np.arange(100) % 10)}
    first, again, other = (split(parts, validation=0.1, test=None, seed=seed) for seed in (3, 3, 4))
    for name in first:
        np.testing.assert_array_equal(first[name].indices, again[name].indices)
    assert set(first["validation"].indices.tolist()) != set(other["validation"].indices.tolist())


def test_official_parts_are_kept() -> None:
    parts = {"train": part([0, 1] * 10), "validation": part([0, 1] * 3), "test": part([0, 1] * 4)}
    rows = split(parts, validation=0.5, test=None, seed=0)
    for name, n in (("train", 20), ("validation", 6), ("test", 8)):
        assert rows[name].part == name
        assert sorted(rows[name].indices.tolist()) == list(range(n))


def test_a_group_never_straddles() -> None:
    labels = np.repeat(np.arange(4), 60)
    groups = np.arange(240) // 5
    rows = split({"train": part(labels, groups), "test": part([0])}, validation=0.25, test=None, seed=1)
    kept, held = (set(groups[rows[name].indices].tolist()) for name in ("train", "validation"))
    assert not kept & held
    assert np.bincount(labels[rows["validation"].indices]).tolist() == [15] * 4


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0])
def test_fractions_lie_between_zero_and_one(fraction: float) -> None:
    with pytest.raises(UserError, match=r"--validation is .*between 0 and 1"):
        split({"train": part([0, 1] * 10), "test": part([0, 1])}, validation=fraction, test=None, seed=0)
    with pytest.raises(UserError, match=r"--test is .*between 0 and 1"):
        split({"train": part([0, 1] * 10)}, validation=0.2, test=fraction, seed=0)


def test_fractions_that_cannot_be() -> None:
    with pytest.raises(UserError, match="leave it out"):
        split({"train": part([0, 1] * 10), "test": part([0, 1])}, validation=0.2, test=0.2, seed=0)
    with pytest.raises(UserError, match=r"--validation 0.2 cannot be divided by class"):
        split({"train": part([0] * 20 + [1]), "test": part([0, 1])}, validation=0.2, test=None, seed=0)


@pytest.mark.parametrize(
    ("counts", "validation", "groups", "message"),
    [
        ([20, 1], 0.2, None, "0.2 cannot be divided by class: dog has 1 image, and each class needs 2 at least"),
        ([1, 1], 0.5, None, "cat, dog have 1 image, and each"),
        ([4, 4], 0.1, None, r"of 8 images it holds out 1 and keeps 7.* as the 2 classes; .* about 11,"),
        ([3, 3], 0.9, None, r"of 6 images it holds out 6 and keeps 0.* about 2[01],"),
        ([20, 20], 0.2, np.arange(40) // 20, "cat, dog have 1 group of like images"),
    ],
)
def test_too_few_images_are_told_by_the_names_of_classes(
    counts: list[int], validation: float, groups: np.ndarray | None, message: str
) -> None:
    parts = {"train": part(np.repeat(np.arange(2), counts), groups), "test": part([0, 1])}
    with pytest.raises(UserError, match=message):
        split(parts, validation=validation, test=None, seed=0, classes=("cat", "dog"))


@pytest.mark.parametrize(("count", "validation"), [(11, 0.1), (20, 0.9), (4, 0.5)])
def test_as_many_images_as_are_asked_for_suffice(count: int, validation: float) -> None:
    parts = {"train": part(np.arange(count) % 2), "test": part([0, 1])}
    rows = split(parts, validation=validation, test=None, seed=0)
    assert min(len(rows[name].indices) for name in ("train", "validation")) >= 2
