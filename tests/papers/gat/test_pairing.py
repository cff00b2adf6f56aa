"""Two models' images side by side: they must have begun alike, and only shared classes count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustgen.errors import UserError
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.pairing import (
    fooling,
    from_one_noise,
    from_one_start,
    natural_median,
    same_images,
    shared_classes,
)
from robustgen.papers.gat.study import Synthesis


@pytest.fixture
def ours(right: Measured) -> Synthesis:
    assert right.cifar.synthesis is not None
    return right.cifar.synthesis


@pytest.fixture
def theirs(right: Measured) -> Synthesis:
    assert right.cifar.synthesis_softmax is not None
    return right.cifar.synthesis_softmax


def changed(study: Synthesis, **arrays: np.ndarray) -> Synthesis:
    return replace(study, arrays={**study.arrays, **arrays})


def of_classes(study: Synthesis, rows: list[int]) -> Synthesis:
    """A study of some outputs alone, in another order."""
    first = {name: study[name][rows] for name in ("model_labels", "start")}
    second = {name: study[name][:, rows] for name in ("noise", "noise_judged", "natural")}
    return changed(study, **first, **second)


def test_positions_are_of_the_same_classes(ours: Synthesis, theirs: Synthesis) -> None:
    few = of_classes(theirs, [3, 1])
    for rows in (shared_classes(ours, few), from_one_start(ours, few), from_one_noise(ours, few)):
        assert rows == ([1, 3], [1, 0])
    foreign = changed(theirs, model_labels=theirs["model_labels"] + 100)
    assert shared_classes(ours, foreign) == from_one_start(ours, foreign) == from_one_noise(ours, foreign) == ([], [])


@pytest.mark.parametrize("name", ["images", "image_labels"])
def test_other_images_are_refused(name: str, ours: Synthesis, theirs: Synthesis) -> None:
    same_images(ours, theirs)
    with pytest.raises(UserError, match=rf"'tuned' and 'softmax' differ in {name}; make both of one data file"):
        same_images(ours, changed(theirs, **{name: theirs[name][1:]}))


def test_other_samples_are_refused(ours: Synthesis, theirs: Synthesis) -> None:
    start = theirs["start"].copy()
    start[2, 0] += 1
    with pytest.raises(UserError, match="differ in start; make both"):
        from_one_start(ours, changed(theirs, start=start))
    assert from_one_start(ours, of_classes(changed(theirs, start=start), [0, 1])) == ([0, 1], [0, 1])


def test_other_noise_is_refused(ours: Synthesis, theirs: Synthesis) -> None:
    noise = theirs["noise"].copy()
    noise[2] = 0  # what became of it may differ
    assert from_one_noise(ours, changed(theirs, noise=noise))[0] == list(range(len(ours.targets)))
    noise[0, 1] += 1
    for name, values in (
        ("noise", noise),
        ("noise_steps", theirs["noise_steps"] + 1),
        ("noises", theirs["noise_judged"][..., 1:]),
    ):
        other = changed(theirs, **{"noise_judged" if name == "noises" else name: values})
        with pytest.raises(UserError, match=rf"differ in {name}; make both"):
            from_one_noise(ours, other)


def test_images_fool_that_score_high_and_look_like_nothing(ours: Synthesis) -> None:
    """Of two classes and two images each; the median of natural logits is 1 of the first class, 3 of the second."""
    own = np.array([[2.0, 2.0], [2.0, 4.0]])
    logits = np.full((2, 2, 2), 9.0)  # of the class that it was not made for
    logits[[0, 1], :, [0, 1]] = own
    judged = np.array([[0, 5], [5, 5]])  # one is taken for its class
    study = changed(
        ours,
        model_labels=np.array([0, 1]),
        labels=np.array([0, 0, 0, 1]),
        natural=np.array([[0.0, 9], [1, 9], [2, 9], [9, 3]]),
        generated_logits=logits,
        generated_judged=judged,
        noise_logits=np.stack([own, np.zeros((2, 2))]),
        noise_judged=np.stack([judged, judged]),
    )
    for part in ("generated", "noise"):  # of noise one step kept is enough
        assert fooling(study, part, [0, 1]).tolist() == [[False, True], [False, True]]
        assert fooling(study, part, [1]).tolist() == [[False, True]]
    assert [natural_median(study, row) for row in (0, 1)] == [1, 3]
    rare = changed(study, labels=np.zeros(4, np.int64))
    assert natural_median(rare, 1) == np.inf
    assert not fooling(rare, "generated", [1]).any()
