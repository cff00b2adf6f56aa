"""Attacks on classifiers whose decision boundaries are known, and what confirms their errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.ball import ball_of
from robustgen.attacks.following import Following
from robustgen.attacks.synthesis import ATTACKS, Options, check_attack, confirmed, fresh_logits, run_attack, settled
from robustgen.errors import UserError
from robustgen.papers.e_abs import words

from .planes import CLIMBS, NETWORKS, SEARCHES, SHAPE, SHORT, K, Linear, N, images, nearest, run, synthesis


@pytest.mark.parametrize("network", NETWORKS, ids=["linear", "synthesis"])
@pytest.mark.parametrize(("name", "beyond"), [("pgd", 1.02), ("estimated", 1.4)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_climb_breaks_an_image_where_the_plane_is_in_the_ball(
    network: nn.Module, name: str, beyond: float, norm: str
) -> None:
    x, y = images(network)
    bound = nearest(network, x, y, norm)
    for row in range(N):
        one, label = x[row : row + 1], y[row : row + 1]
        for factor, broken in ((0.98, False), (beyond, True)):
            found = run(name, network, one, label, norm=norm, eps=factor * float(bound[row]), queries=20, follow=1)
            assert bool(found.broken_seen) == broken


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize(("name", "norm"), SEARCHES + CLIMBS)
def test_outcome_is_an_error_at_its_distance_and_the_same_in_any_batch(name: str, norm: str, variational: bool) -> None:
    network = synthesis(0.3, variational=variational)
    x, y = images(network)
    options = {"norm": norm, "runs": 2, "draws": 2}
    if ATTACKS[name].radius:
        options |= {"eps": 0.2 if norm == "linf" else 0.8, "queries": 10}
    elif name != "noise":
        options["steps"] = 40
    x[0] = network.model.b[(y[0] + 1) % K].detach().view(SHAPE)  # type: ignore[union-attr, index]
    found = run(name, network, x, y, **options)
    ball = ball_of(norm, 1)
    seen = found.broken_seen
    assert seen[1:].any()
    assert torch.equal(found.adversarial[0], x[0])
    assert seen[0]
    assert found.distance[0] == 0
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    torch.testing.assert_close(ball.distance(found.adversarial, x)[seen], found.distance[seen])
    if not variational:
        assert torch.equal(confirmed(network, found.adversarial, y, range(N))[seen], seen[seen])
    # foolbox's DeepFool asks again about an image while another of its batch stands: a random answer may move it
    for rows in () if name == "deepfool" and variational else ([3], [1, 4]):
        o = Options(**{"steps": SHORT.get(name), "restarts": 2, "seed": 7, **options})  # type: ignore[arg-type]
        alone = run_attack(name, network, x[rows], y[rows], rows, o)
        torch.testing.assert_close(alone.adversarial, found.adversarial[rows], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone.distance, found.distance[rows], atol=1e-6, rtol=0)
    again = run(name, network, x, y, **options)
    assert torch.equal(again.adversarial, found.adversarial)


@pytest.mark.parametrize(("name", "norm"), SEARCHES + CLIMBS)
def test_network_stays_as_it_was(name: str, norm: str) -> None:
    network = nn.Sequential(nn.Dropout(), Linear()) if name != "latent-descent" else synthesis()
    x, y = images(network.eval())
    network.train()
    run(name, network, x, y, norm=norm, steps=20, **({"eps": 0.1, "queries": 4} if ATTACKS[name].radius else {}))
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["pgd", "estimated"])
def test_zero_radius_is_a_control(name: str) -> None:
    network = synthesis()
    x, y = images(network)
    y[0] = (y[0] + 1) % K
    found = run(name, network, x, y, norm="linf", eps=0.0)
    assert torch.equal(found.adversarial, x)
    assert not found.distance.any()
    assert found.broken_seen.tolist() == [True] + [False] * (N - 1)


def test_caller_may_say_which_images_are_errors() -> None:
    network = Linear()
    x, y = images(network)
    wrong = torch.tensor([True] + [False] * (N - 1))
    found = run_attack("deepfool", network, x, y, range(N), Options(), wrong=wrong)
    assert found.broken_seen.all()
    assert (found.distance > 0).tolist() == (~wrong).tolist()
    assert torch.equal(found.adversarial[0], x[0])
    y[1] = (y[1] + 1) % K  # an error by chance, it seems to the search: it goes on
    none = torch.zeros(N, dtype=torch.bool)
    found = run_attack("ddn", network, x, y, range(N), Options(steps=160), wrong=none)
    assert found.broken_seen.all()
    assert (found.distance > 0).all()


def test_settled_changes_are_errors_by_fresh_inference() -> None:
    network = synthesis(0.3, variational=True)
    x, y = images(network, 30)
    found = run("deepfool", network, x, y, norm="l2", draws=1)
    assert not confirmed(network, found.adversarial, y, range(30), runs=4)[found.broken_seen].all()
    after = settled(network, found, x, y, range(30), norm="l2", runs=4)
    assert after.broken_seen.any()
    assert confirmed(network, after.adversarial, y, range(30), runs=4)[after.broken_seen].all()
    kept = after.broken_seen
    assert (after.distance[kept] <= 1.5 * found.distance[kept] + 1e-9).all()
    assert (after.distance[kept] >= found.distance[kept] - 1e-9).all()
    assert after.distance[~kept].isinf().all()
    assert torch.equal(after.adversarial[~kept], x[~kept])
    torch.testing.assert_close(ball_of("l2", 1).distance(after.adversarial, x)[kept], after.distance[kept])


def test_confirmation_has_streams_of_its_own() -> None:
    network = synthesis(0.3, variational=True)
    x, y = images(network)
    edge = run("ddn", network, x, y, norm="l2").adversarial.repeat(8, 1, 1, 1)
    labels = y.repeat(8)
    one, same, other = (confirmed(network, edge, labels, range(len(edge)), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("network", [Linear(), synthesis(0.5, variational=True)], ids=["linear", "synthesis"])
def test_fresh_logits_are_the_images_own(network: nn.Module) -> None:
    x, y = images(network, 12)
    logits = fresh_logits(network, x, range(12), runs=2)
    assert logits.shape == (12, K)
    assert not logits.requires_grad
    assert torch.equal(confirmed(network, x, y, range(12), runs=2), logits.argmax(1) != y)
    torch.testing.assert_close(fresh_logits(network, x[3:5], [3, 4], runs=2), logits[3:5])
    if isinstance(network, Linear):
        assert torch.equal(logits, network(x))
    else:
        often = [fresh_logits(network, x, range(12), runs=200, seed=seed) for seed in (0, 1)]
        assert (often[0] - often[1]).abs().mean() < 0.3 * (logits - often[1]).abs().mean()


@pytest.mark.parametrize(("name", "norm"), [each for each in SEARCHES + CLIMBS if each[0] != "latent-descent"])
def test_logits_that_are_not_finite_are_refused(name: str, norm: str) -> None:
    class Lost(Linear):
        def forward(self, x: Tensor) -> Tensor:
            moved = ((x - 0.5).abs().flatten(1).amax(1) > 0.0501)[:, None]
            return super().forward(x).masked_fill(moved, math.nan)

    x, y = images(Linear())
    given = {"eps": 0.5, "queries": 4} if ATTACKS[name].radius else {}
    with pytest.raises(UserError, match=r"NaN.*train the attacked network"):
        run(name, Lost(), x, y, norm=norm, steps=20, **given)


def test_options_that_make_no_attack_are_refused() -> None:
    network = Linear()
    x, y = images(network)
    with pytest.raises(UserError, match="unknown attack 'fgsm'; known are pgd, deepfool"):
        check_attack("fgsm", "l2")
    with pytest.raises(UserError, match="ddn is an attack in l2, not linf"):
        run("ddn", network, x, y, norm="linf")
    with pytest.raises(UserError, match="pgd needs eps"):
        run("pgd", network, x, y)
    with pytest.raises(UserError, match="cw finds the smallest change; leave eps out"):
        run("cw", network, x, y, eps=0.1)
    with pytest.raises(UserError, match="unknown norm"):
        Options(norm="l1")  # type: ignore[arg-type]
    for wrong in (
        {"restarts": 0},
        {"steps": 0},
        {"candidates": 1},
        {"queries": 3},
        {"eps": -1.0},
        {"gamma": 1.0},
        {"step": 0.0},
    ):
        with pytest.raises(UserError, match="need"):
            Options(**wrong)  # type: ignore[arg-type]
    for wrong in ({"iterations": -1}, {"runs": 0}, {"draws": 0}):
        with pytest.raises(UserError, match="an attacker needs"):
            Following(network, range(N), **wrong)
    for wrong in ({"follow": -1}, {"runs": 0}, {"draws": 0}):
        with pytest.raises(UserError, match="an attacker needs"):
            Options(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [0.1, 0.5])
def test_a_step_is_a_multiple_of_eps_by_steps(step: float) -> None:
    network = Linear()
    x, y = images(network)
    given = {"norm": "linf", "eps": 0.04, "restarts": 1}
    start = run("pgd", network, x, y, **given, steps=1, step=1e-9).adversarial
    for steps in (1, 2):
        moved = (run("pgd", network, x, y, **given, steps=steps, step=step).adversarial - start).abs().flatten(1)
        torch.testing.assert_close(moved.amax(1), torch.full_like(moved[:, 0], step * 0.04), atol=1e-8, rtol=0)


def test_paper_s_words_name_the_attacks() -> None:
    assert set(words.ATTACKS) == set(ATTACKS)
    assert set(words.SEARCHES) == {name for name, kind in ATTACKS.items() if not kind.radius}
    assert set(words.STARTED) == {name for name, kind in ATTACKS.items() if kind.radius}
