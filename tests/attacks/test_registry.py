"""The registry of attacks on random defences, and what every one of them must keep."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.eot import EotAttack, Outcome
from robustgen.attacks.registry import EOT_ATTACKS, build_attack, eot_attack_type, modules
from robustgen.errors import UserError
from robustgen.seeding import ImageStreams

from .conftest import Fake, Pair, Scored, gaussian, part, same

SHARED: dict[str, Any] = {"steps": 5, "draws": 3, "verify": 15, "step": 0.3, "queries": 12, "expectation": "mean"}
NAMES = sorted(EOT_ATTACKS)


def attack(name: str, defense: nn.Module, **options: Any) -> EotAttack:
    batch = options.pop("batch", 64)
    return build_attack(name, defense, shared={**SHARED, **options}, batch=batch)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.6)])
def test_images_stay_in_ball_and_box(noisy: Scored, images: Pair, name: str, norm: str, eps: float) -> None:
    x, y = images
    for radius in (eps / 4, 10 * eps):
        tried = attack(name, noisy, eps=radius, norm=norm)
        found = torch.from_numpy(tried.evaluate(x, y).adversarial)
        assert float(tried.ball.distance(found, x).max()) <= radius + 1e-6
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        assert (found != x).flatten(1).any(1).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_zero_radius_changes_nothing(noisy: Scored, images: Pair, name: str, norm: str) -> None:
    x, y = images
    outcome = attack(name, noisy, eps=0, norm=norm, verify=201, restarts=2).evaluate(x, y)
    np.testing.assert_array_equal(outcome.adversarial, x.numpy())
    assert not outcome.broken.any()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_meets_the_same_fate_in_any_company(noisy: Scored, images: Pair, name: str) -> None:
    x, y = images
    indices = torch.arange(100, 100 + len(x))
    options: dict[str, Any] = {"eps": 0.05, "restarts": 2}
    whole = attack(name, noisy, **options).evaluate(x, y, indices)
    assert 0 < whole.broken.sum() < whole.natural_correct.sum()  # so that company leaves along the way
    for batch in (1, 4):
        same(attack(name, noisy, batch=batch, **options).evaluate(x, y, indices), whole)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    again = attack(name, noisy, batch=5, **options).evaluate(x[order], y[order], indices[order])
    same(again, part(whole, order.numpy()))


@pytest.mark.parametrize("name", NAMES)
def test_one_draw_of_a_defence_without_chance_is_enough(toy: nn.Module, images: Pair, name: str) -> None:
    x, y = images
    defense = Scored(toy, lambda x, draws, _: (0.9 * x + 0.05)[:, None].expand(-1, draws, *x.shape[1:]))
    y = defense(x).argmax(1)
    one, many = (attack(name, defense, eps=0.1, steps=8, draws=n, verify=n, queries=80).evaluate(x, y) for n in (1, 4))
    assert one.natural_correct.all()
    assert one.broken.any()
    if name == "spsa":  # its directions come from the draws' stream
        return
    for field in (f.name for f in fields(Outcome)):
        np.testing.assert_allclose(getattr(one, field), getattr(many, field), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_breaks_are_real(noisy: Scored, images: Pair, name: str) -> None:
    x, y = images
    tried = attack(name, noisy, eps=0.15, steps=10, verify=41, queries=60)
    outcome = tried.evaluate(x, y)
    assert outcome.broken.sum() >= 5
    found = torch.from_numpy(outcome.adversarial)[outcome.broken]
    again = tried.large_sample(found, ImageStreams(99, range(len(found))))
    assert float((again != y[outcome.broken]).double().mean()) > 0.7
    assert (outcome.checks[outcome.broken] >= 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_logits_that_are_not_finite_are_an_error_of_the_user(toy: nn.Module, images: Pair, name: str) -> None:
    def diverge(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        return gaussian(0.05)(x, draws, streams) + torch.nan

    known = np.ones(11, dtype=bool)
    with pytest.raises(UserError, match="the defence's logits are NaN or infinite for"):
        attack(name, Scored(toy, diverge)).evaluate(*images, natural_correct=known)


@pytest.mark.parametrize("name", NAMES)
def test_classifier_is_left_as_it_was(noisy: Scored, images: Pair, name: str) -> None:
    expected = attack(name, noisy, eps=0.05).evaluate(*images)
    noisy.train()
    same(attack(name, noisy, eps=0.05).evaluate(*images), expected)
    assert noisy.classifier.training
    assert all(p.grad is None for p in noisy.parameters())


def test_names_stand_for_attacks_and_their_options(noisy: Scored) -> None:
    assert build_attack("full", noisy).options.gradient == "full"
    assert build_attack("bpda", noisy, expectation="vote", batch=3).batch == 3
    apgd = build_attack("apgd", noisy, shared={"step": 0.3, "weight": 0.1, "steps": 7, "loss": "cw"})
    assert (apgd.options.steps, apgd.options.loss) == (7, "cw")
    assert not hasattr(apgd.options, "step")
    assert build_attack("joint-full", noisy, shared={"steps": 7}, weight=0.2).options.weight == 0.2
    assert eot_attack_type("spsa").__name__ == "SPSA"


def test_shared_options_are_known_to_some_attack(noisy: Scored) -> None:
    for name in NAMES:
        options = {f.name for f in fields(eot_attack_type(name).Options)}
        taken = attack(name, noisy).options
        assert all(getattr(taken, key) == value for key, value in SHARED.items() if key in options)


@pytest.mark.parametrize(
    ("name", "shared", "options", "message"),
    [
        ("square", {}, {}, "unknown attack 'square'; known are classifier, bpda, joint-score"),
        ("bpda", {}, {"queries": 4}, "attack bpda has no option queries; known are draws, eps, expectation, norm,"),
        ("bpda", {}, {"gradient": "full"}, "attack bpda has no option gradient; known"),  # that is what names are for
        ("apgd", {}, {"step": 0.1}, "attack apgd has no option step; known"),
        ("bpda", {"querries": 4}, {}, "no attack has option querries; known are at, delta, draws"),
        ("bpda", {"steps": 4}, {"steps": 4}, "steps given to attack bpda twice; give it as shared or as its own"),
        ("full", {"expectation": "vote"}, {}, "take expectation mean"),
    ],
)
def test_no_option_is_ignored_silently(
    noisy: Scored, name: str, shared: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_attack(name, noisy, shared=shared, **options)


def test_attack_that_needs_a_score_says_so(toy: nn.Module) -> None:
    with pytest.raises(UserError, match="Fake has no score"):
        build_attack("joint-score", Fake(toy, gaussian(0.1)))


def test_modules_are_those_that_results_depend_on() -> None:
    assert modules(["bpda"]) == [f"attacks.{m}" for m in ("ball", "base", "bpda_eot", "eot", "objectives", "registry")]
    assert set(modules(["joint-full", "spsa"])) == {*modules(["bpda"]), "attacks.joint", "attacks.spsa"}
