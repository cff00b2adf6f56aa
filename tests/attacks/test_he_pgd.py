from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.attacks.ascent import ascend
from robustgen.attacks.ball import Linf
from robustgen.attacks.he_pgd import HePGD
from robustgen.models.energy import energy
from robustgen.seeding import ImageStreams

Pair = tuple[Tensor, Tensor]


def by_hand(model: nn.Module, x: Tensor, objective: object, steps: int = 10) -> Tensor:
    """Plain PGD up `objective`, from the start that HE-PGD with seed 0 draws."""
    start = ImageStreams(0, range(len(x))).uniform(x.shape[1:]) * 2 - 1
    assert callable(objective)
    return ascend(model, x, objective, ball=Linf(0.1), alpha=0.02, steps=steps, start=start)


def test_at_lambda_one_it_is_exactly_minimise_the_true_logit(toy: nn.Module, images: Pair) -> None:
    x, y = images
    expected = by_hand(toy, x, lambda logits: -logits[torch.arange(len(y)), y])
    assert torch.equal(HePGD(toy, eps=0.1, alpha=0.02, steps=10, lam=1.0)(x, y), expected)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.2, 3.0])
def test_it_follows_equation_10(toy: nn.Module, images: Pair, lam: float) -> None:
    x, y = images
    expected = by_hand(toy, x, lambda z: F.cross_entropy(z, y, reduction="none") - lam * z.logsumexp(1))
    found = HePGD(toy, eps=0.1, alpha=0.02, steps=10, lam=lam)(x, y)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_greater_lambda_means_higher_energy(toy: nn.Module, images: Pair) -> None:
    energies = [
        energy(toy(HePGD(toy, eps=0.2, alpha=0.02, steps=20, lam=lam)(*images))).mean().item()
        for lam in (0.0, 1.2, 5.0)
    ]
    assert energies == sorted(energies)
    assert energies[-1] > energies[0] + 0.5


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_large_logits_stay_finite(scale: float) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(8, 3, bias=False)
    with torch.no_grad():
        linear.weight.copy_(scale * linear.weight.sign())
    model = nn.Sequential(nn.Flatten(), linear)
    x, y = torch.rand(5, 2, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    assert model(x).abs().max() >= 1e4
    found = HePGD(model, eps=0.05, alpha=0.01, steps=5, lam=1.5)(x, y)
    assert torch.isfinite(found).all()
    before, after = (model(v)[torch.arange(5), y].mean() for v in (x, found))
    assert after < before
    assert (found != x).any()
