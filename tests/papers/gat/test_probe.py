"""Detectors attacked one by one: sets, areas, and which attack is which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.metrics import roc_auc_score

from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.probe import PROBE, Probe


def tiny() -> Probe:
    """Two detectors, five images, one attack; image 1 is of class 0 but taken for class 1."""
    natural = np.array([[2.0, -1.0], [0.5, 1.0], [0.0, 3.0], [-1.0, -2.0], [1.5, -3.0]])
    return Probe(
        "tiny",
        {
            **{
                name: np.array([value])
                for name, value in zip(PROBE, ("l2", 0.5, "adam", 3, 0.1, 1, "image"), strict=True)
            },
            "labels": np.array([0, 0, 1, 2, 0]),
            "predicted": np.array([0, 1, 1, 2, 2]),
            "indices": np.arange(5),
            "natural": natural,
            "adversarial": (natural + 1)[None],
            "detectors": np.array([0, 1]),
            "config": np.array('{"seed": 4}'),
        },
    )


def test_the_sets_are_those_of_the_classifiers_predictions() -> None:
    study = tiny()
    assert study.positive(0).tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]  # image 4 is of class 0, but not taken for it
    assert study.negative(0).tolist() == [False, False, True, True, False]  # neither of the class nor taken for it
    assert study.positive(1).tolist() == [False, True, True, False, False]  # image 1 is taken for class 1
    assert study.negative(1).tolist() == [True, False, False, True, True]
    assert study.usable == [0, 1]


def test_the_area_is_of_clean_positives_over_attacked_negatives() -> None:
    study = tiny()
    assert study.area(0, 0).value == 1  # 2 above 1 and 0
    assert study.area(0, 1).value == roc_auc_score([1, 1, 0, 0, 0], [1.0, 3.0, 0.0, -1.0, -2.0])
    raised = replace(study, arrays={**study.arrays, "adversarial": study.arrays["adversarial"] + 1})
    assert raised.area(0, 0).value == 0.75  # 2 above 1, equal to 2
    assert raised.area(None, 0).value == 1
    assert raised.area(0, 0).n == 3


def test_detectors_without_positives_are_left_out() -> None:
    study = tiny()
    predicted = np.array([1, 1, 1, 2, 2])
    assert replace(study, arrays={**study.arrays, "predicted": predicted}).usable == [1]


def test_which_attack_is_which(right: Measured) -> None:
    study = right.mnist.linf_large
    assert study is not None
    assert study.ball == ("linf", 0.5)
    short, long, pair = study.short("adam"), study.long("steepest"), study.restarted()
    assert short is not None
    assert long is not None
    assert pair is not None
    assert study.options(short) == {
        "norm": "linf", "eps": 0.5, "rule": "adam", "steps": 200, "alpha": 0.01, "restarts": 1, "starts": "image"
    }  # fmt: skip
    assert (study.options(long)["steps"], study.options(long)["rule"]) == (2000, "steepest")
    assert [study.options(point)["restarts"] for point in pair] == [50, 1]
    other = study.under("l2", 5.0)
    assert other is not None
    assert study.options(other)["norm"] == "l2"
    assert study.under("l2", 7.0) is None
    assert tiny().long() is None
    assert tiny().restarted() is None


def test_the_ball_and_the_attack_of_training(right: Measured) -> None:
    study = right.cifar.large
    assert study is not None
    own = study.own()
    assert own is not None
    assert [study.options(own)[name] for name in ("steps", "alpha", "starts")] == [40, 0.002, "image"]
    swapped = replace(study, arrays={**study.arrays, "eps": np.full(study.points, 0.5)})
    assert swapped.ball == ("linf", 0.03)
    assert swapped.own() is None
    assert tiny().ball == ("l2", 0.5)
    assert tiny().own() is None


def test_float32_radii_are_found() -> None:
    study = tiny()
    kept = replace(study, arrays={**study.arrays, "eps": np.array([0.1], np.float32)})
    assert kept.matching(eps=0.1, norm="l2") == [0]
    assert kept.matching(eps=0.11) == []
