from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from torch import nn

from robustgen.attacks import synthesis
from robustgen.data import load_split

from .conftest import AAE, CNN, EXAMPLES, MIXED, PER_IMAGE, PER_POINT, Stage

STAGE = "attack-synthesis"

GRID = {"attack", "norm", "eps", "steps", "restarts", "draws"}
SHOWN = {"shown", "shown_images", "shown_adversarial", "shown_predicted"}


def test_file_is_what_it_says(run: Stage) -> None:
    found = run(f"{AAE} {MIXED} --offset 4 --shown 2 --bound")
    assert set(found) == GRID | {*PER_IMAGE, *PER_POINT} | SHOWN | EXAMPLES | {"bound", "bound_reason", "config"}
    assert found["attack"].tolist() == ["pgd"] * 3 + ["deepfool"] * 2 + ["ddn", "noise"]
    assert found["norm"].tolist() == ["linf", "linf", "l2", "linf", "linf", "l2", "l2"]
    assert found["eps"].tolist() == [0.1, 0.1, 0.8, 0.05, 0.2, 0.6, 1.0]
    assert [found[name].tolist() for name in ("steps", "restarts")] == [[3, 3, 3, 8, 8, 8, 10], [1, 3, 2, 1, 1, 1, 1]]
    assert found["draws"].tolist() == [2] * 7
    test = load_split("data.npz", "test")
    assert found["labels"].tolist() == test.labels[4:11].tolist()
    assert found["indices"].tolist() == list(range(4, 11))
    shapes = {
        "robust": (7, 7),
        "chosen": (7, 7),
        "seen": (7, 7),
        "distance": (7, 7),
        "natural_logits": (7, 4),
        "shown_predicted": (7, 2),
    }
    assert {name: found[name].shape for name in shapes} == shapes
    assert found["shown_adversarial"].shape == (7, 2, 1, 8, 8)
    kinds = {"robust": bool, "natural_correct": bool, "distance": np.float32, "natural_logits": np.float32}
    assert {name: found[name].dtype for name in kinds} == {name: np.dtype(kind) for name, kind in kinds.items()}
    assert found["natural_correct"].tolist() == (found["natural_logits"].argmax(1) == found["labels"]).tolist()
    assert found["shown"].tolist() == np.flatnonzero(found["natural_correct"])[:2].tolist()
    np.testing.assert_array_equal(found["shown_images"], test.images[4:11][found["shown"]])
    config = json.loads(str(found["config"]))
    assert config["trained"]["epochs"] == 15
    assert [config["arch"], config["inference"]["candidates"], config["details"]["c"]] == ["aae", 20, 0.001]


@pytest.mark.parametrize("base", [CNN, AAE, f"{AAE} --inference.no-variational"], ids=["cnn", "aae", "exact"])
def test_outcomes_are_what_they_say(run: Stage, base: str) -> None:
    found = run(f"{base} {MIXED} --images 16 --batch 16 --shown 16")
    right = found["natural_correct"]
    assert right.sum() > 8
    assert not (found["robust"] & ~right).any()
    assert (~found["robust"] & right).any()
    assert found["robust"].any()
    for g, (name, norm, eps) in enumerate(
        zip(*(found[key].tolist() for key in ("attack", "norm", "eps")), strict=True)
    ):
        rows, change = found["shown"], found["shown_adversarial"][g] - found["shown_images"]
        length = np.abs(change).max((1, 2, 3)) if norm == "linf" else np.sqrt(np.square(change).sum((1, 2, 3)))
        finite = np.isfinite(found["distance"][g, rows])
        np.testing.assert_allclose(length[finite], found["distance"][g, rows][finite], atol=1e-5)
        assert not length[~finite].any()
        wrong = found["shown_predicted"][g] != found["labels"][rows]
        if name == "pgd":
            assert (found["distance"][g] <= eps + 1e-6).all()
            assert wrong.tolist() == (~found["robust"][g, rows]).tolist()
        else:
            assert not (wrong & ~finite & right[rows]).any()
            assert found["robust"][g, rows].tolist() == (~wrong | (right & (found["distance"][g] > eps))[rows]).tolist()
            assert found["chosen"][g].tolist() == (found["distance"][g] <= eps).tolist()
        if "cnn" in base and name != "deepfool":
            np.testing.assert_array_equal(found["seen"][g], ~found["robust"][g])


def test_attacker_of_a_random_classifier_sees_errors_that_are_none(run: Stage) -> None:
    found = run(f"{AAE} --images 32 --batch 32 --attack noise pgd --norm l2 --eps 1.0 0.5 --steps 40 3 --draws 1")
    false = found["seen"] & found["robust"]
    assert false.any()
    assert not (found["seen"][0] & found["robust"][0] & (found["distance"][0] <= 1.0)).any()


def test_search_is_judged_at_every_radius(run: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    radii = [0.0, 0.05, 0.1, 0.2, 0.4]
    found = run(f"{AAE} --batch 7 --attack deepfool --norm linf --steps 8 --eps {' '.join(map(str, radii))}")
    assert calls == ["deepfool"]
    assert (found["robust"][1:] <= found["robust"][:-1]).all()
    assert (found["seen"][1:] >= found["seen"][:-1]).all()
    assert found["robust"][0].sum() > found["robust"][-1].sum()
    assert (found["distance"] == found["distance"][0]).all()


def test_shared_runs_are_not_redone(run: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    found = run(f"{CNN} {MIXED} --batch 7 --steps 2 --restarts 1 3 1 1 3 1 1")
    assert [calls.count(name) for name in ("deepfool", "ddn", "noise")] == [1, 1, 1]
    assert 2 <= calls.count("pgd") <= 4  # three restarts in one norm at most, one in the other
    assert found["restarts"].tolist() == [1, 3, 1, 1, 1, 1, 1]
    assert (found["robust"][1] <= found["robust"][0]).all()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The attacks that are run, one name a call."""
    calls: list[str] = []
    real = synthesis.run_attack

    def call(name: str, *args: Any, **options: Any) -> Any:
        calls.append(name)
        return real(name, *args, **options)

    monkeypatch.setattr(synthesis, "run_attack", call)
    return calls


def test_restarts_attack_what_stands(run: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked: list[int] = []
    real = synthesis.run_attack

    def call(name: str, model: nn.Module, x: Any, *args: Any, **options: Any) -> Any:
        attacked.append(len(x))
        return real(name, model, x, *args, **options)

    monkeypatch.setattr(synthesis, "run_attack", call)
    options = f"{AAE} --images 24 --batch 24 --attack pgd --norm linf --eps 0.12 --steps 2"
    found = run(f"{options} --restarts 1 2 4")
    unbroken = (~found["chosen"]).sum(1)
    assert attacked[:3] == [found["natural_correct"].sum(), unbroken[0], unbroken[1]]
    assert unbroken[0] > unbroken[2]
    assert found["robust"][0].sum() > found["robust"][2].sum()
    one = run(f"{options} --restarts 1")
    for name in PER_POINT:
        np.testing.assert_array_equal(one[name][0], found[name][0])


@pytest.mark.parametrize("base", [CNN, AAE], ids=["cnn", "aae"])
def test_no_radius_is_the_control(run: Stage, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    found = run(f"{base} --images 16 --attack pgd estimated ddn --norm l2 --eps 0 --steps 3 --restarts 4 --runs 2")
    right = found["natural_correct"]
    np.testing.assert_array_equal(found["robust"], np.tile(right, (3, 1)))
    np.testing.assert_array_equal(found["seen"], ~found["robust"])
    assert not found["distance"][:2].any()
    np.testing.assert_array_equal(found["shown_adversarial"][0], found["shown_images"])
    assert len([name for name in calls if name != "ddn"]) <= 2 * 6


def test_steps_are_the_papers_where_none_are_given(run: Stage) -> None:
    names = ("pgd", "deepfool", "ddn")
    found = run(f"{CNN} --images 2 --attack {' '.join(names)} --norm l2 --eps 0.2")
    assert found["steps"].tolist() == [synthesis.ATTACKS[name].steps for name in names]


def test_details_reach_their_attack(run: Stage) -> None:
    boundary = f"{CNN} --attack boundary --norm l2 --eps 1 --steps 5"
    distances = [run(f"{boundary}{more}")["distance"] for more in ("", " --starts 0", " --details.tries 1")]
    right = np.isfinite(distances[0][0]) & (distances[0][0] > 0)
    assert right.any()
    assert (distances[0] != distances[1]).any()
    assert (distances[0] != distances[2]).any()
    noise = f"{CNN} --images 16 --attack noise --norm l2 --eps 1 --steps 20"
    few, many = (run(f"{noise} --details.directions {count}")["distance"] for count in (1, 5))
    assert (many <= few).all()
    assert (many < few).any()


@pytest.mark.parametrize(("attack", "more"), [("pgd", ""), ("estimated", " --details.queries 4")])
def test_length_of_a_step_is_an_option(run: Stage, attack: str, more: str) -> None:
    options = f"{CNN} --images 16 --batch 16 --attack {attack} --norm l2 --eps 1.5 --steps 4{more}"
    usual, same, short = (run(f"{options}{step}") for step in ("", " --details.step 5/2", " --details.step 0.01"))
    for name in PER_POINT:
        np.testing.assert_array_equal(same[name], usual[name])
    assert json.loads(str(short["config"]))["details"]["step"] == 0.01
    assert usual["robust"].sum() < short["robust"].sum()  # too short to get anywhere
