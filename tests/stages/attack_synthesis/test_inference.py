from __future__ import annotations

import numpy as np
import pytest

from robustgen import io, models
from robustgen.attacks import synthesis
from robustgen.data import load_split
from robustgen.defenses.e_abs import Options as Inference
from robustgen.evaluation.e_abs_bound import Bounds
from robustgen.seeding import derive

from .conftest import AAE, CNN, EXAMPLES, INFERENCE, PGD, Stage, network

STAGE = "attack-synthesis"


def test_inference_is_that_of_the_models_training(run: Stage) -> None:
    found = run(f"{AAE} {PGD}")
    test = load_split("data.npz", "test", limit=7)
    indices = test.indices.tolist()
    for name, stream in (("natural_correct", "natural"), ("control_correct", "control")):
        logits = synthesis.fresh_logits(network(INFERENCE), test.images, indices, seed=derive(2, stream))
        assert found[name].tolist() == (logits.argmax(1) == test.labels).tolist()
        if stream == "natural":
            np.testing.assert_allclose(found["natural_logits"], logits, rtol=1e-5)
    _, header = io.load_weights("aae.safetensors")
    assert header["training"]["beta"] == INFERENCE.beta
    changed = {"training": {**header["training"], "beta": 9.0, "cost": "mean"}}
    models.save("changed.safetensors", models.load("aae.safetensors"), **changed)
    other = run(f"{AAE} {PGD} --model changed.safetensors")["natural_logits"]
    options = Inference(**{**vars(INFERENCE), "beta": 9.0, "cost": "mean"})
    logits = synthesis.fresh_logits(network(options), test.images, indices, seed=derive(2, "natural"))
    np.testing.assert_allclose(other, logits, rtol=1e-5)


def test_natural_images_that_inference_gets_wrong_are_errors_at_no_distance(run: Stage) -> None:
    poor = "--inference.candidates 2 --inference.iterations 1 --inference.no-encoder --images 32 --batch 32"
    found = run(f"{AAE} {poor} --attack pgd noise --norm l2 --eps 0.1 --steps 2 --runs 2")
    wrong = ~found["natural_correct"]
    assert wrong.any()
    assert (wrong != ~found["control_correct"]).any()
    assert not found["robust"][:, wrong].any()
    assert not found["distance"][:, wrong].any()
    assert found["seen"][:, wrong].all()
    assert found["robust"].any()
    test = load_split("data.npz", "test")
    options = Inference(**{**vars(INFERENCE), "candidates": 2, "iterations": 1, "encoder": False})
    logits = synthesis.fresh_logits(
        network(options), test.images, test.indices.tolist(), runs=2, seed=derive(2, "natural")
    )
    np.testing.assert_allclose(found["natural_logits"], logits, rtol=1e-5)


def test_bound_is_that_of_exact_inference(run: Stage) -> None:
    found = run(f"{AAE} {PGD} --bound")
    test = load_split("data.npz", "test", limit=7)
    bound = Bounds(models.load("aae.safetensors"), INFERENCE)(test.images, test.labels)
    np.testing.assert_allclose(found["bound"], bound.eps, rtol=1e-4)
    assert found["bound_reason"].tolist() == list(bound.reasons)
    assert (found["bound"] > 0).any()
    exact = run(f"{AAE} {PGD} --bound --inference.no-variational")
    np.testing.assert_array_equal(exact["bound"], found["bound"])
    np.testing.assert_array_equal(np.isnan(exact["bound"]), ~exact["natural_correct"])


def test_examples_are_the_first_of_their_classes(run: Stage) -> None:
    found = run(f"{AAE} {PGD} --images 3 --inference.iterations 40")
    assert found["example_rows"].tolist() == [found["labels"].tolist().index(k) for k in sorted(set(found["labels"]))]
    np.testing.assert_array_equal(
        found["example_images"], load_split("data.npz", "test").images[found["example_rows"]].numpy()
    )
    assert found["example_reconstructions"].shape == (3, 4, 1, 8, 8)
    distance = np.square(found["example_images"][:, None] - found["example_reconstructions"]).sum((2, 3, 4))
    assert (found["example_losses"] >= distance - 1e-4).all()
    assert (
        found["example_losses"].argmin(1).tolist() == found["natural_logits"][found["example_rows"]].argmax(1).tolist()
    )


def test_what_draws_nothing_averages_nothing(run: Stage) -> None:
    for base in (CNN, f"{AAE} --inference.no-variational"):
        found = run(f"{base} {PGD} --draws 7 --runs 2")
        assert found["draws"].tolist() == [1]
        np.testing.assert_array_equal(found["control_correct"], found["natural_correct"])
    assert not EXAMPLES & set(run(f"{CNN} {PGD}"))


def test_no_image_shown(run: Stage) -> None:
    found = run(f"{AAE} {PGD} --shown 0")
    assert found["shown_adversarial"].shape == (1, 0, 1, 8, 8)
    assert found["shown_predicted"].shape == (1, 0)


@pytest.mark.parametrize("base", [CNN, AAE], ids=["cnn", "aae"])
def test_no_attack(run: Stage, base: str) -> None:
    found, attacked = run(base), run(f"{base} {PGD}")
    for name in ("natural_logits", "natural_correct", "control_correct", "labels", "indices", "shown_images"):
        np.testing.assert_array_equal(found[name], attacked[name])
    for name in ("attack", "eps", "robust", "distance", "shown_adversarial", "shown_predicted"):
        assert found[name].shape == (0, *attacked[name].shape[1:])
