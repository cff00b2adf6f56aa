"""The bound against decoders for which inference has a closed form: nothing found below it changes their decision."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustgen.defenses.e_abs import Options
from robustgen.errors import UserError
from robustgen.evaluation.e_abs_bound import Bounds, lower_bound

K, M, SHAPE, BETA = 4, 2, (1, 4, 4), 0.1
OPTIONS = Options(candidates=200, iterations=500, encoder=False, beta=BETA, variational=True)


class Linear(nn.Module):
    """G_k(z) = A_k z + b_k, a variational autoencoder."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(2)
        size = math.prod(SHAPE)
        self.a = nn.Parameter(0.1 * torch.randn(K, size, M, generator=random, dtype=torch.float64))
        self.b = nn.Parameter(torch.rand(K, size, generator=random, dtype=torch.float64))
        self.config = SimpleNamespace(latent=M, adversarial=False)
        self.num_classes = K

    def decode(self, z: Tensor) -> Tensor:
        return (torch.einsum("kdm,nkm->nkd", self.a, z) + self.b).unflatten(2, SHAPE)

    def quadratic(self, beta: float) -> Tensor:
        """P_k (K, D, D): min_z ‖x − G_k(z)‖² + β/2 ‖z‖² = (x − b_k)ᵀ P_k (x − b_k)."""
        a = self.a.detach()
        inverse = torch.linalg.inv(a.mT @ a + beta / 2 * torch.eye(M, dtype=a.dtype))
        return torch.eye(a.shape[1], dtype=a.dtype) - a @ inverse @ a.mT

    def losses(self, x: Tensor, beta: float = BETA) -> Tensor:
        residual = x.flatten(1)[:, None] - self.b.detach()
        return torch.einsum("nkd,kde,nke->nk", residual, self.quadratic(beta), residual)

    def residuals(self, x: Tensor) -> Tensor:
        """‖x − G_k(z_k*)‖ (N, K): a gradient of the loss in x is twice x − G_k(z_k*)."""
        residual = x.flatten(1)[:, None] - self.b.detach()
        return torch.einsum("kde,nke->nkd", self.quadratic(BETA), residual).norm(dim=2)


def images(model: Linear, n: int = 12) -> tuple[Tensor, Tensor]:
    """Images near what the decoders of their labels make."""
    random = torch.Generator().manual_seed(4)
    y = torch.arange(n) % K
    z = torch.randn(n, 1, M, generator=random, dtype=torch.float64).expand(-1, K, -1)
    x = model.decode(z)[torch.arange(n), y].detach()
    return (x + 0.05 * torch.randn(x.shape, generator=random, dtype=torch.float64)).clamp(0, 1), y


def search(model: Linear, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """(N,) the least l_k − l_y, k ≠ y, that projected descent meets within `radius` (N,), from many starts."""
    random = torch.Generator().manual_seed(6)
    least = torch.full((len(x),), math.inf, dtype=x.dtype)
    for k in range(K):
        for start in range(6):
            delta = torch.randn(x.shape, generator=random, dtype=x.dtype) * (start > 0)
            for _ in range(60):
                length = delta.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
                delta = (delta * (radius.view(-1, 1, 1, 1) / length).clamp(max=1)).requires_grad_()
                found = model.losses(x + delta)
                margin = found[:, k] - found.gather(1, y[:, None])[:, 0]
                least = torch.where(y == k, least, torch.minimum(least, margin.detach()))
                (gradient,) = torch.autograd.grad(margin.sum(), delta)
                unit = gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
                delta = delta.detach() - 0.3 * radius.view(-1, 1, 1, 1) * unit
    return least


def test_nothing_below_the_bound_changes_the_decision_of_exact_inference() -> None:
    model = Linear()
    x, y = images(model)
    distances = model.losses(x, 0.0).clamp_min(0).sqrt()
    bound = lower_bound(model.losses(x), model.residuals(x).gather(1, y[:, None])[:, 0], distances, y)
    eps = torch.from_numpy(bound.eps)
    assert (eps > 0).all()
    assert set(bound.reasons) == {""}
    assert (search(model, x, y, 0.999 * eps) > 0).all()
    assert (search(model, x, y, 2 * eps) < 0).any()  # what searches is able to find


def test_inference_finds_the_bound_that_closed_forms_give() -> None:
    model = Linear()
    x, y = images(model)
    distances = model.losses(x, 0.0).clamp_min(0).sqrt()
    exact = lower_bound(model.losses(x), model.residuals(x).gather(1, y[:, None])[:, 0], distances, y)
    found = Bounds(model, OPTIONS)(x, y)
    np.testing.assert_allclose(found.eps, exact.eps, rtol=1e-3)
    assert found.nearest.tolist() == exact.nearest.tolist()
    size = math.prod(SHAPE)
    mean = Bounds(model, Options(**{**vars(OPTIONS), "cost": "mean", "beta": BETA / size}))(x, y)
    np.testing.assert_allclose(mean.eps, exact.eps, rtol=1e-3)


def test_bounds_of_an_image_are_the_same_in_any_batch_and_candidates_are_made_once() -> None:
    model = Linear()
    x, y = images(model)
    decoded: list[int] = []
    real = model.decode

    def counted(z: Tensor) -> Tensor:
        decoded.append(len(z))
        return real(z)

    model.decode = counted  # type: ignore[method-assign]
    bounds = Bounds(model, OPTIONS)
    whole = bounds(x, y)
    made = 2 * OPTIONS.candidates  # with and without the regulariser
    assert sum(decoded) >= made
    decoded.clear()
    parts = [bounds(x[rows], y[rows]) for rows in (slice(1), slice(1, 12))]
    np.testing.assert_allclose(np.concatenate([part.eps for part in parts]), whole.eps)
    assert [reason for part in parts for reason in part.reasons] == list(whole.reasons)
    assert max(decoded) < 64 <= OPTIONS.candidates


def test_formula_and_condition() -> None:
    """By hand: l_y = 1, r = 0.5; d = 3 and 2 for the others, so (9 − 1) / 7 and (4 − 1) / 5."""
    bound = lower_bound(tensor([1, 9, 4]), torch.tensor([0.5]), tensor([0.5, 3, 2]), torch.tensor([0]))
    assert bound.eps.tolist() == pytest.approx([0.6])
    assert bound.nearest.tolist() == [2]
    random = torch.Generator().manual_seed(0)
    losses, distances = torch.rand(2, 500, K, generator=random, dtype=torch.float64)
    y = losses.argmin(1)
    many = lower_bound(losses, torch.rand(500, generator=random), distances, y)
    others = distances.scatter(1, y[:, None], math.inf).amin(1).numpy()
    positive = many.eps > 0
    assert positive.any()
    assert (many.eps[positive] <= others[positive] / 2).all()


def test_where_there_is_no_bound() -> None:
    losses = torch.tensor([[2.0, 1.0], [1.0, 2.0], [0.0, 0.0]])
    distances = torch.tensor([[1.0, 0.5], [0.5, 0.9], [0.0, 0.0]])
    residual = torch.tensor([1.0, 0.5, 0.0])
    bound = lower_bound(losses, residual, distances, torch.tensor([0, 0, 0]))
    np.testing.assert_equal(bound.eps, [np.nan, 0, 0])
    assert bound.reasons == ("misclassified", "too near another class", "too near another class")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_values_that_cannot_be_are_refused(bad: float) -> None:
    with pytest.raises(UserError, match="finite and not negative"):
        lower_bound(tensor([1, bad]), torch.tensor([0.5]), tensor([1, 2]), torch.tensor([0]))


def test_labels_are_checked() -> None:
    with pytest.raises(UserError, match="labels"):
        lower_bound(tensor([1, 2]), torch.tensor([0.5]), tensor([1, 2]), torch.tensor([2]))
    with pytest.raises(UserError, match="2 classes at least"):
        lower_bound(tensor([1]), torch.tensor([0.5]), tensor([1]), torch.tensor([0]))


def tensor(row: list[float]) -> Tensor:
    return torch.tensor([row], dtype=torch.float64)
