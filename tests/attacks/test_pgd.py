from __future__ import annotations

import copy

import foolbox
import pytest
import torch
import torch.nn.functional as F
import torchattacks
from foolbox.models.pytorch import PyTorchModel
from scipy import stats
from torch import Tensor, nn

from robustgen.attacks.pgd import PGD

Pair = tuple[Tensor, Tensor]


@pytest.fixture
def single(toy: nn.Module) -> tuple[nn.Module, Tensor, Tensor]:
    """The toy classifier in single precision, and a batch of 32."""
    x = torch.rand(32, 2, 5, 5, generator=torch.Generator().manual_seed(2))
    model = copy.deepcopy(toy).float()
    return model, x, model(x).argmax(1).detach()


def loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return F.cross_entropy(model(x), y).item()


def test_linear_model_has_a_closed_form() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(12, 2)
    model = nn.Sequential(nn.Flatten(), linear)
    x, y = torch.rand(6, 3, 2, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    towards = (linear.weight[1 - y] - linear.weight[y]).view_as(x)
    expected = (x + 0.1 * towards.sign()).clamp(0, 1).detach()
    for random_start in (True, False):
        found = PGD(model, eps=0.1, alpha=0.05, steps=5, random_start=random_start)(x, y)
        torch.testing.assert_close(found, expected)


def test_more_steps_raise_the_loss(toy: nn.Module, images: Pair) -> None:
    losses = [
        loss(toy, PGD(toy, eps=0.1, alpha=0.01, steps=k, random_start=False)(*images), images[1]) for k in (0, 2, 5, 20)
    ]
    assert losses == sorted(losses)
    assert losses[-1] > losses[0] + 0.1


def test_without_steps_only_the_start_moves(toy: nn.Module, images: Pair) -> None:
    x, y = images
    assert torch.equal(PGD(toy, eps=0.1, steps=0, random_start=False)(x, y), x)
    moved = PGD(toy, eps=0.1, steps=0)(x, y)
    inside = (x > 0.1) & (x < 0.9)
    offsets = ((moved - x) / 0.1)[inside]
    assert offsets.abs().max() <= 1 + 1e-9
    assert abs(float(offsets.mean())) < 0.1
    assert float(offsets.std()) == pytest.approx(3**-0.5, abs=0.05)  # of U[-1, 1]


def test_target_is_never_the_true_class_and_is_uniform(toy: nn.Module) -> None:
    n = 900
    x = torch.rand(n, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(n) % 4
    attack = PGD(toy, targeted=True, steps=0, random_start=False)
    attack(x, y)
    target = attack.random_target(x, y)
    assert not (target == y).any()
    shares = torch.bincount((target - y) % 4, minlength=4)[1:] / n
    assert shares.min() > 0.28
    assert shares.max() < 0.39


def test_targeted_attack_lowers_the_target_class_loss(toy: nn.Module, images: Pair) -> None:
    x, y = images
    attack = PGD(toy, eps=0.3, alpha=0.03, steps=30, targeted=True, random_start=False)
    targets: list[Tensor] = []
    draw = attack.random_target
    attack.random_target = lambda x, y: targets.append(draw(x, y)) or targets[-1]  # type: ignore[func-returns-value, method-assign]
    found = attack(x, y)
    assert loss(toy, found, targets[0]) < loss(toy, x, targets[0]) - 0.5
    assert float((toy(found).argmax(1) == targets[0]).double().mean()) > 0.6


def test_equal_to_torchattacks(single: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = single
    ours = PGD(model, eps=8 / 255, alpha=2 / 255, steps=10, random_start=False)(x, y)
    theirs = torchattacks.PGD(model, eps=8 / 255, alpha=2 / 255, steps=10, random_start=False)(x, y)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert float((ours - x).abs().max()) == pytest.approx(8 / 255, abs=1e-6)


def test_equal_to_foolbox(single: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = single
    ours = PGD(model, eps=8 / 255, alpha=2 / 255, steps=10, random_start=False)(x, y)
    peer = foolbox.attacks.LinfPGD(abs_stepsize=2 / 255, steps=10, random_start=False)
    theirs = peer.run(PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilon=8 / 255)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_l2_equal_to_torchattacks_and_foolbox(single: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = single
    for eps, alpha in ((0.5, 0.1), (3.0, 0.7), (0.05, 1.0)):
        ours = PGD(model, eps=eps, alpha=alpha, steps=10, random_start=False, norm="l2")(x, y)
        theirs = torchattacks.PGDL2(model, eps=eps, alpha=alpha, steps=10, random_start=False)(x, y)
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
        peer = foolbox.attacks.L2PGD(abs_stepsize=alpha, steps=10, random_start=False)
        theirs = peer.run(PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilon=eps)
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
        assert 0.9 * eps < float((ours - x).flatten(1).norm(dim=1).max()) < eps * (1 + 1e-5)  # the box may shorten


def test_l2_on_a_linear_model_has_a_closed_form() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(12, 2).double()
    model = nn.Sequential(nn.Flatten(), linear)
    x, y = 0.4 + 0.2 * torch.rand(6, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 0, 1])
    towards = linear.weight[1 - y] - linear.weight[y]
    expected = x + 0.3 * (towards / towards.norm(dim=1, keepdim=True)).view_as(x).detach()
    found = PGD(model, eps=0.3, alpha=0.1, steps=3, random_start=False, norm="l2")(x, y)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    # from anywhere in the ball the gradient leads to the same point of its surface, step by step closer
    found = PGD(model, eps=0.3, alpha=0.1, steps=60, norm="l2")(x, y)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_l2_start_fills_the_ball(toy: nn.Module) -> None:
    x = torch.full((400, 2, 5, 5), 0.5, dtype=torch.float64)
    moved = PGD(toy, eps=0.4, steps=0, norm="l2")(x, torch.zeros(400, dtype=torch.int64))
    radius = (moved - x).flatten(1).norm(dim=1) / 0.4
    assert stats.kstest((radius**50).numpy(), "uniform").pvalue > 0.01


def test_trace_has_one_entry_a_step(toy: nn.Module, images: Pair) -> None:
    attack = PGD(toy, eps=0.1, steps=6)
    plain = attack(*images)
    seen: dict[int, Tensor] = {}
    attack.callback = lambda step, logits: seen.update({step: logits})
    assert torch.equal(attack(*images), plain)
    assert list(seen) == list(range(7))
    torch.testing.assert_close(seen[6], toy(plain))
