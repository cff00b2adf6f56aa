from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from robustgen.errors import UserError
from robustgen.evaluation.lyapunov import Growth, lyapunov
from robustgen.models.nijkamp import Config, Nijkamp
from robustgen.sampling.langevin import Force, force, langevin, stream_noise
from robustgen.seeding import ImageStreams


def draws(chains: int, *shape: int) -> object:
    return stream_noise(ImageStreams(0, range(chains)), shape, 1, "cpu")


def exponents(
    drift: Force, v: Tensor, *, steps: int, tau: float = 0.0, noisy: bool = True, **options: object
) -> Growth:
    def silence(count: int) -> Tensor:
        return torch.zeros(count, *v.shape, dtype=v.dtype)

    noise = draws(len(v), *v.shape[1:]) if noisy and tau else silence
    settings = {"distances": (1e-3,), "burn_in": 50} | options
    return lyapunov(drift, v, noise, steps=steps, tau=tau, **settings)  # type: ignore[arg-type]


def logistic(v: Tensor) -> Tensor:
    """v − 4v(1 − v): the map is the logistic one at r = 4, with exponent ln 2."""
    return v - 4 * v * (1 - v)


class TestClosedForms:
    @pytest.mark.parametrize("curvatures", [(0.5, 0.1, 0.9), (0.5, 2.5, 0.3), (-0.2, 0.1, 0.4), (1.9, 1.0, 1.0)])
    @pytest.mark.parametrize("eta", [0.0, 1.0, 5.0])
    def test_quadratic_energy(self, curvatures: tuple[float, ...], eta: float) -> None:
        """Scaled energy Σ c_i v_i² / 2: direction i multiplies by 1 − c_i, whatever the noise and the distance."""
        c = torch.tensor(curvatures).view(1, 1, 3)
        v = torch.randn(4, 1, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        found = exponents(lambda v: c * v, v, steps=30, tau=0.1, eta=eta, distances=(1e-2, 1.0), burn_in=30)
        expected = max(math.log(abs(1 - value) or 1e-300) for value in curvatures)
        torch.testing.assert_close(
            found.exponents, torch.full((2, 4), expected, dtype=torch.float64), atol=2e-3, rtol=0
        )
        assert found.steps.tolist() == [30] * 4

    @pytest.mark.parametrize("every", [1, 3, 7])
    def test_logistic_map(self, every: int) -> None:
        v = torch.rand(8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
        found = exponents(logistic, v, steps=3000, distances=(1e-11, 1e-9), every=every)
        assert found.exponents.mean().item() == pytest.approx(math.log(2), abs=0.01)

    def test_smooth_energies_do_not_depend_on_the_distance(self) -> None:
        """A double well with noise that sends the chain over its barrier."""
        v = torch.zeros(6, 1, dtype=torch.float64)
        found = exponents(lambda v: 0.1 * (v**3 - v), v, steps=400, tau=0.3, distances=(1e-8, 1e-6, 1e-4))
        exact = found.exponents[:1].expand(2, -1)
        torch.testing.assert_close(found.exponents[1:], exact, atol=1e-3, rtol=0)
        assert (found.exponents < 0).all()  # two chains in one noise meet

    def test_piecewise_linear_energies_do(self) -> None:
        """The tangent of a leaky-ReLU network's dynamics never changes; only chains far enough apart part or meet."""
        torch.manual_seed(0)
        model = Nijkamp(Config(size=8, channels=1, width=4, tau=0.05)).double()
        for weight in model.parameters():
            weight.data *= 2
        v = torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        found = exponents(force(model), v, steps=60, tau=0.05, distances=(1e-12, 0.4), burn_in=0).exponents
        assert (found[0].abs() < 1e-9).all()
        assert (found[1].abs() > 1e-5).all()
        leaf = v.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.scaled_energy(leaf).sum(), leaf, create_graph=True)
        assert not gradient.requires_grad or not torch.autograd.grad(gradient.sum(), leaf)[0].any()


class TestChains:
    def setup_method(self) -> None:
        torch.manual_seed(0)
        self.model = Nijkamp(Config(size=8, channels=1, width=4, tau=0.05))
        self.v = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def test_the_chain_is_the_samplers(self) -> None:
        found = exponents(force(self.model), self.v, steps=40, tau=0.05, eta=2.0, burn_in=20)
        expected = langevin(force(self.model), self.v, draws(4, 1, 8, 8), steps=60, tau=0.05, eta=2.0)  # type: ignore[arg-type]
        torch.testing.assert_close(found.states, expected, atol=1e-5, rtol=0)

    def test_chains_do_not_depend_on_each_other(self) -> None:
        both = exponents(force(self.model), self.v, steps=30, tau=0.05, distances=(0.1, 1.0)).exponents
        some = exponents(force(self.model), self.v[:2], steps=30, tau=0.05, distances=(1.0,)).exponents
        torch.testing.assert_close(both[1:, :2], some, atol=1e-6, rtol=0)

    def test_progress_is_seen_after_every_step(self) -> None:
        seen: list[int] = []
        exponents(force(self.model), self.v, steps=3, tau=0.05, burn_in=2, callback=lambda k, _: seen.append(k))
        assert seen == [1, 2, 3, 4, 5]


class TestExtremes:
    def test_a_chain_that_leaves_the_numbers_counts_while_it_is_there(self) -> None:
        """v ← v² from 2 overflows; from 0.5 it goes on. The exponents stay finite."""
        v = torch.tensor([[2.0], [0.5]])
        found = exponents(lambda v: v - v * v, v, steps=20, burn_in=0, distances=(1e-6,))
        assert found.exponents.isfinite().all()
        assert found.states.isfinite().all()
        assert 0 < found.steps[0] < found.steps[1] == 20
        assert found.exponents[0, 0] > 0 > found.exponents[0, 1]
        lost = exponents(lambda v: v - v * v, v, steps=20, burn_in=30, distances=(1e-6,))
        assert lost.steps.tolist() == [0, 20]
        assert lost.exponents[0, 0] == 0

    def test_a_separation_that_vanishes(self) -> None:
        found = exponents(lambda v: v, torch.zeros(2, 3, dtype=torch.float64), steps=10, burn_in=0)
        assert found.exponents.isfinite().all()
        assert (found.exponents < -100).all()

    @pytest.mark.parametrize(
        "wrong", [{"steps": 0}, {"burn_in": -1}, {"every": 0}, {"distances": ()}, {"distances": (1.0, 0.0)}]
    )
    def test_unfit_options(self, wrong: dict[str, object]) -> None:
        with pytest.raises(UserError, match="exponents need"):
            exponents(logistic, torch.rand(2, 1), **({"steps": 5} | wrong))  # type: ignore[arg-type]
