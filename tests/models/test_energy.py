import pytest
import torch
from torch.nn import functional as F

from robustgen.errors import UserError
from robustgen.models.energy import energy, joint_energy


@pytest.fixture
def logits():
    return 5 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0))


def test_cross_entropy_is_joint_energy_minus_energy(logits):
    labels = torch.arange(64) % 10
    difference = joint_energy(logits, labels) - energy(logits)
    torch.testing.assert_close(difference, F.cross_entropy(logits, labels, reduction="none"), atol=1e-5, rtol=1e-5)


def test_energy_sums_the_joint_density(logits):
    joint = torch.stack([joint_energy(logits, torch.full((64,), k)) for k in range(10)], dim=1)
    torch.testing.assert_close((-energy(logits)).exp(), (-joint).exp().sum(1), rtol=1e-4, atol=0)


def test_large_logits_stay_finite():
    logits = torch.tensor([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]])
    expected = torch.tensor([-1e4, 1e4 - torch.log(torch.tensor(3.0))])
    torch.testing.assert_close(energy(logits), expected)
    assert torch.isfinite(energy(logits, 0.1)).all()


def test_temperature_interpolates_between_maximum_and_shifted_mean(logits):
    torch.testing.assert_close(energy(logits, 1e-3), -logits.amax(1), atol=1e-2, rtol=0)
    hot = energy(logits.double(), 1e4) + 1e4 * torch.log(torch.tensor(10.0, dtype=torch.float64))
    torch.testing.assert_close(hot, -logits.double().mean(1), atol=1e-2, rtol=0)


def test_gradient_of_energy_is_minus_softmax(logits):
    logits.requires_grad_()
    energy(logits).sum().backward()
    torch.testing.assert_close(logits.grad, -logits.detach().softmax(1))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(logits, temperature):
    with pytest.raises(UserError, match="temperature"):
        energy(logits, temperature)
