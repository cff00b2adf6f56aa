from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.training import density
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.density import Networks, Recipe, Trained, total_variation, train_densities

RECIPE = Recipe(hidden=8, layers=2, updates=6, warmup=2, batch=10, lr=0.01, eps=0.3, steps=3, alpha=0.05, check_every=2)
GRID = ((torch.arange(50) + 0.5) / 50)[:, None]
TARGET = torch.exp(-((GRID - torch.tensor([0.35, 0.65])) ** 2) / (2 * 0.04**2)).sum(1).double()
TARGET /= TARGET.sum()


def points(seeds: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Two narrow Gaussians, and points on either side of both; (S, 24, 1) each."""
    sets = []
    for seed in seeds:
        draws = torch.Generator().manual_seed(seed)
        own = 0.35 + 0.04 * torch.randn(24, 1, generator=draws)
        others = torch.rand(24, 1, generator=draws) * 0.2
        left = torch.arange(24)[:, None] % 2 == 0
        sets.append((torch.where(left, own, 1 - own), torch.where(left, others, 1 - others)))
    return torch.stack([own for own, _ in sets]), torch.stack([others for _, others in sets])


def train(recipe: Recipe = RECIPE, seeds: tuple[int, ...] = (0, 1), checkpoint: Checkpoint | None = None) -> Trained:
    return train_densities(*points(seeds), seeds, recipe, grid=GRID, target=TARGET, checkpoint=checkpoint)


def alone(networks: Networks, b: int) -> nn.Sequential:
    """Network b of the stack by itself."""
    layers: list[nn.Module] = []
    for weight, bias in zip(networks.weights, networks.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[2])
        layer.load_state_dict({"weight": weight[b].T, "bias": bias[b, 0]})
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_stack_equals_networks_alone() -> None:
    networks = Networks((3, 4, 3), 2, 7, 3)
    x = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(0))
    found = networks(x)
    for b in range(3):
        torch.testing.assert_close(found[b], alone(networks, b)(x[b])[:, 0])
    torch.testing.assert_close(networks(x[:2]), found[:2])
    assert torch.equal(networks(x[:1])[0], networks(x[:1].expand(3, -1, -1))[2])  # equal seeds start alike


def test_update_is_equation_5_for_each_network() -> None:
    networks, seeds = Networks((0, 1, 0, 1), 1, 8, 2), (0, 1)
    own, others = points(seeds)
    singles = [alone(networks, b) for b in range(4)]
    moved = density.perturbed(networks, others, seeds, 5, RECIPE)
    optimizer = torch.optim.SGD(networks.parameters(), lr=0.1)
    found = density.train_step(networks, optimizer, own, others, seeds, 5, RECIPE)
    for b, single in enumerate(singles):
        negatives = moved[b] if b < 2 else others[b - 2]  # the first two are generative
        loss = F.softplus(-single(own[b % 2])).mean() + F.softplus(single(negatives)).mean()
        assert found[b % 2, b // 2] == pytest.approx(loss.item(), abs=1e-6)
        loss.backward()
        first: Any = single[0]
        torch.testing.assert_close(networks.weights[0][b], (first.weight - 0.1 * first.weight.grad).T)


def test_perturbation_raises_logits_within_ball_and_domain() -> None:
    networks = Networks((0, 1, 0, 1), 1, 8, 2)
    _, others = points((0, 1))
    recipe = dataclasses.replace(RECIPE, steps=20)
    found = density.perturbed(networks, others, (0, 1), 5, recipe)
    assert float((found - others).abs().max()) <= recipe.eps + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    with torch.no_grad():
        assert (networks(found) >= networks(others) - 1e-4).all()
    assert not torch.equal(*(density.perturbed(networks, others, (0, 1), update, RECIPE) for update in (5, 6)))
    assert all(p.requires_grad and p.grad is None for p in networks.parameters())


def test_adversarial_training_finds_the_density_and_ordinary_training_does_not() -> None:
    recipe = dataclasses.replace(
        RECIPE, hidden=32, layers=3, updates=200, warmup=20, batch=24, steps=6, alpha=0.1, check_every=100
    )
    found = train(recipe)
    assert found.updates == [100, 200]
    assert found.logits.shape == (2, 2, 50)
    gat, natural = found.distances[-1].T
    assert (gat < natural - 0.1).all()
    assert (gat < total_variation(torch.zeros(50), TARGET)).all()
    assert torch.equal(found.distances[-1], total_variation(found.logits, TARGET))
    assert (found.losses[-1][:, 1] < found.losses[-1][:, 0]).all()  # ordinary training has the easier task


def test_warmup_is_ordinary_training_for_both() -> None:
    found = train(dataclasses.replace(RECIPE, warmup=6))
    torch.testing.assert_close(found.logits[:, 0], found.logits[:, 1], atol=1e-5, rtol=1e-4)
    found = train()
    torch.testing.assert_close(found.losses[0][:, 0], found.losses[0][:, 1], atol=1e-6, rtol=0)
    assert (found.losses[1][:, 0] > found.losses[1][:, 1] + 1e-4).all()


def test_seeds_train_as_if_alone() -> None:
    both, second = train(seeds=(0, 1)), train(seeds=(1,))
    torch.testing.assert_close(both.logits[1:], second.logits, atol=1e-5, rtol=1e-4)
    assert not torch.equal(both.logits[0], both.logits[1])


@pytest.mark.parametrize("stopped_in", [1, 3, 5])
def test_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stopped_in: int
) -> None:
    expected = train()
    checkpoint = Checkpoint("x", tmp_path)
    steps, real = iter(range(1000)), density.train_step

    def interrupted(*args: Any) -> Tensor:
        if next(steps) == stopped_in:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(density, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=checkpoint)
    monkeypatch.setattr(density, "train_step", real)
    capsys.readouterr()
    for _ in range(2):  # the second finds a finished training
        found = train(checkpoint=checkpoint)
        assert torch.equal(found.logits, expected.logits)
        assert found.updates == expected.updates
        for name in ("losses", "distances"):
            assert torch.equal(torch.stack(getattr(found, name)), torch.stack(getattr(expected, name)))
    assert "resuming after update 6 of 6" in capsys.readouterr().err


def test_total_variation_by_hand() -> None:
    target = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    logits = torch.stack(
        [torch.zeros(4), torch.tensor([0.0, 0.0, -90.0, -90.0]), torch.tensor([-90.0, -90.0, 0.0, 0.0])]
    )
    torch.testing.assert_close(total_variation(logits + 7, target), torch.tensor([0.5, 0.0, 1.0]).double())


def test_loss_that_is_lost() -> None:
    with pytest.raises(UserError, match=r"the loss is no longer finite; lower --lr"):
        train(dataclasses.replace(RECIPE, lr=1e30))


def test_last_update_that_spoils_the_weights() -> None:
    with pytest.raises(UserError, match=r"the logits on the grid are no longer finite; lower --lr"):
        train(dataclasses.replace(RECIPE, lr=1e30, updates=1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": 0}, "hidden, layers, updates, batch and check_every >= 1"),
        ({"layers": 0}, "hidden, layers, updates, batch and check_every >= 1"),
        ({"updates": 0}, "hidden, layers, updates, batch and check_every >= 1"),
        ({"batch": 0}, "hidden, layers, updates, batch and check_every >= 1"),
        ({"check_every": 0}, "hidden, layers, updates, batch and check_every >= 1"),
        ({"lr": 0.0}, "lr > 0"),
        ({"eps": 0.0}, "eps > 0"),
        ({"alpha": 0.0}, "alpha > 0"),
        ({"steps": -1}, "steps >= 0"),
        ({"warmup": -1}, "warmup >= 0"),
        ({"rule": "sgd"}, "unknown rule 'sgd'"),
    ],
)
def test_recipe_that_cannot_be_meant(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(RECIPE, **wrong)
