from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.defenses.adp import ADP, EnergyScore, Options, sigma_of
from robustgen.errors import UserError
from robustgen.models import ncsnv2, nijkamp
from robustgen.protocols import RandomDefense
from robustgen.sampling.langevin import force, langevin
from robustgen.sampling.purification import step_sizes
from robustgen.seeding import ImageStreams, generator

K = 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return ncsnv2.Model(ncsnv2.Config(size=8, channels=1, width=4, levels=5)).eval()


def defense(score: nn.Module | None = None, **options: object) -> ADP:
    torch.manual_seed(1)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, K))
    chosen: dict[str, object] = {"sigma": 0.2, "steps": 3, "draws": 3, **options}
    return ADP(classifier, score or network(), Options(**chosen), seed=5)  # type: ignore[arg-type]


def images(n: int = 5) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=generator(1))


def streams(n: int, first: int = 0) -> ImageStreams:
    return ImageStreams(7, range(first, first + n))


def test_it_is_a_random_defense() -> None:
    found = defense()
    assert all(hasattr(found, name) for name in ("classifier", "purify_draws", "unrolled", "combine", "draws"))
    if not hasattr(RandomDefense, "__non_callable_proto_members__"):  # before Python 3.12
        assert isinstance(found, RandomDefense)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fidelity": "released"},
        {"updates": "langevin", "step": 0.02, "temperature": 0.1},
        {"sigma": 0.0, "step": 0.05},
        {"detect": 3.0},
    ],
)
def test_results_do_not_depend_on_the_batch(options: dict[str, object]) -> None:
    found, x = defense(**options), images(7)
    whole = found.purify_draws(x, 2, streams(7))
    split = [found.purify_draws(x[a:b], 2, streams(b - a, a)) for a, b in ((0, 1), (1, 3), (3, 7))]
    assert torch.equal(torch.cat(split), whole)
    assert whole.shape == (7, 2, 1, 8, 8)
    assert torch.equal(found.unrolled(x, 2, streams(7)), whole)
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1


class Curved(nn.Module):
    """A score whose Eq. 18 gives step sizes between the bounds, other ones for each state."""

    sigmas = torch.tensor([1.0, 0.1])

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(3 * (0.4 - x)) + 0.1 * x.flatten(1).mean(1).view(-1, 1, 1, 1)

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self(x) / sigma.view(-1, 1, 1, 1)


def test_it_equals_algorithm_1_written_out() -> None:
    found, x = defense(Curved(), lam=0.02), images(3).double()
    noise, sizes = streams(3).normal((2, 1, 8, 8)).double(), []
    for i in range(3):
        for draw in range(2):
            state = (x[i] + 0.2 * noise[i, draw]).clamp(0, 1)[None]
            for _ in range(3):
                s = found.score_model(state)
                probed = found.score_model(state + 1e-5 * s)
                sizes.append(0.02 * 1e-5 / (1 - float((s * probed).sum() / s.square().sum())))
                state = (state + sizes[-1] * s).clamp(0, 1)
            got = found.purify_draws(x, 2, streams(3))[i, draw]
            torch.testing.assert_close(got, state[0], rtol=0, atol=1e-8)
    assert 1e-5 < min(sizes) < max(sizes) < 0.1
    assert max(sizes) / min(sizes) > 1.05


@pytest.mark.parametrize("hold", [True, False])
def test_the_gradient_of_noisy_adaptive_steps(hold: bool) -> None:
    """With held step sizes that of the map whose sizes are constants; without, that of the whole computation."""
    found, x = defense(Curved(), delta=1e-3), images(2).double()
    found.hold_steps = hold
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(found.unrolled(leaf, 2, streams(2)).square().sum(), leaf)
    held = hold_sizes(found, x)

    def value(x: Tensor) -> float:
        states = found.noisy(x, 2, streams(2)).flatten(0, 1)
        for sizes in held:
            states = (states + sizes * found.score_model(states)).clamp(0, 1)
        return float(states.square().sum())

    def whole(x: Tensor) -> float:
        return float(found.purify_draws(x, 2, streams(2)).square().sum())

    of = value if hold else whole
    differences = []
    for position in ((0, 0, 2, 3), (1, 0, 5, 5), (1, 0, 0, 7)):
        shift = torch.zeros_like(x)
        shift[position] = 1e-6
        numeric = (of(x + shift) - of(x - shift)) / 2e-6
        assert float(gradient[position]) == pytest.approx(numeric, rel=1e-4, abs=1e-6)
        differences.append(
            abs((whole(x + shift) - whole(x - shift)) / 2e-6 - (value(x + shift) - value(x - shift)) / 2e-6)
        )
    assert max(differences) > 1e-3  # the two are not the same


def hold_sizes(found: ADP, x: Tensor) -> list[Tensor]:
    """The step sizes (N · draws, 1, 1, 1) of every step of two draws."""
    scheme = found.options.scheme()
    states, sizes = found.noisy(x, 2, streams(2)).flatten(0, 1), []
    for _ in range(scheme.steps):
        s = found.score_model(states)
        sizes.append(step_sizes(found.score_model, states, s, scheme).view(-1, 1, 1, 1))
        states = (states + sizes[-1] * s).clamp(0, 1)
    return sizes


def test_the_prediction_is_the_mean_softmax() -> None:
    found, x = defense(), images()
    purified = found.purify_draws(x, 3, ImageStreams(5, range(5)))
    mean = torch.stack([F.softmax(found.classifier(purified[:, s]), 1) for s in range(3)]).mean(0)
    torch.testing.assert_close(found(x).exp(), mean)
    torch.testing.assert_close(found(x).exp().sum(1), torch.ones(5))


def test_combining_logits_beyond_the_exponential() -> None:
    logits = torch.tensor([[[900.0, 0.0], [0.0, 900.0]]])
    torch.testing.assert_close(defense().combine(logits), torch.full((1, 2), math.log(0.5)))


def test_without_noise_one_draw_is_all_there_is() -> None:
    found, x = defense(sigma=0.0, draws=9), images()
    assert not found.random
    assert found.draws == 1
    assert torch.equal(found.purify(x), found.purify_draws(x, 2, streams(5))[:, 1])
    assert defense(sigma=0.0, updates="langevin", step=0.01).random


def test_detected_images_take_less_noise() -> None:
    found, x = defense(), images()
    norms = found.score(x).flatten(1).norm(dim=1)
    middle = float(norms.median())
    scale = defense(detect=middle, calm=0.25).noise_scale(x)
    assert torch.equal(scale, torch.where(norms <= middle, 0.05, 0.2))
    assert torch.equal(found.noise_scale(x), torch.full((5,), 0.2))


def test_the_gradient_goes_through_the_steps() -> None:
    found, x = defense(sigma=0.0, step=0.3, steps=2).double(), images(2).double()
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(found.unrolled(leaf, 1, streams(2)).square().sum(), leaf)

    def value(x: Tensor) -> float:
        return float(found.purify_draws(x, 1, streams(2)).square().sum())

    for position in ((0, 0, 2, 3), (1, 0, 5, 5)):
        shift = torch.zeros_like(x)
        shift[position] = 1e-6
        numeric = (value(x + shift) - value(x - shift)) / 2e-6
        assert float(gradient[position]) == pytest.approx(numeric, rel=1e-4, abs=1e-6)
    assert (gradient - 2 * x).abs().max() > 0.01  # it is not BPDA's


def test_an_energy_model_purifies_by_its_own_langevin_steps() -> None:
    torch.manual_seed(0)
    ebm = nijkamp.Model(nijkamp.Config(size=8, channels=1, width=4, tau=0.1))
    with torch.no_grad():
        ebm.head.weight.mul_(30)
    score, x = EnergyScore(ebm), images(2)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(ebm.scaled_energy(2 * leaf - 1).sum() * 2 / 0.1**2, leaf)
    torch.testing.assert_close(score(x), -slope, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(score(leaf), -slope, rtol=1e-4, atol=1e-5)

    found = defense(ebm, sigma=0.0, updates="langevin", step=score.own_step, steps=2)
    drawn = streams(2)
    noise = torch.stack([drawn.normal((1, 8, 8)) for _ in range(2)])

    def same(count: int) -> Tensor:
        assert count == 2
        return noise

    chain = langevin(force(ebm), 2 * x - 1, same, steps=2, tau=0.1)
    torch.testing.assert_close(found.purify_draws(x, 1, streams(2))[:, 0], (chain + 1) / 2, rtol=1e-4, atol=1e-5)


def test_the_gradient_through_an_energy_models_steps() -> None:
    torch.manual_seed(0)
    ebm = nijkamp.Model(nijkamp.Config(size=8, channels=1, width=4, tau=0.1))
    with torch.no_grad():
        ebm.head.weight.mul_(30)
    found, x = defense(ebm.double(), sigma=0.0, step=0.01, steps=3).double(), images(2).double()
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(found.unrolled(leaf, 1, streams(2)).square().sum(), leaf)
    shift = torch.zeros_like(x)
    shift[1, 0, 3, 4] = 1e-6
    up, down = (float(found.unrolled(x + d, 1, streams(2)).square().sum()) for d in (shift, -shift))
    assert float(gradient[1, 0, 3, 4]) == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-6)


def test_the_median_heuristic() -> None:
    x = torch.zeros(4, 1, 2, 2)
    x[1], x[2], x[3] = 1, 2, 4  # distances over √D: 1, 2, 4, 1, 3, 2
    assert sigma_of(x) == pytest.approx(2)
    many = torch.rand(300, 1, 4, 4, generator=generator(0))
    assert sigma_of(many, limit=100) == sigma_of(many, limit=100)
    assert sigma_of(many, limit=100) == pytest.approx(sigma_of(many), rel=0.05)
    with pytest.raises(UserError, match="2 images"):
        sigma_of(x[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": None}, "sigma is unset"),
        ({"sigma": -0.1}, "sigma >= 0"),
        ({"steps": -1}, "steps >= 0"),
        ({"draws": 0}, "draws >= 1"),
        ({"lam": 0.0}, "lam"),
        ({"step": 0.0}, "step > 0"),
        ({"delta": 0.0}, "delta > 0"),
        ({"calm": 1.5}, "calm"),
        ({"largest": 1e-6}, "largest"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        defense(**options)


def test_a_score_that_is_not_finite() -> None:
    score = network()
    with torch.no_grad():
        next(score.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match="score is NaN or infinite"):
        defense(score).purify(images())
    with pytest.raises(UserError, match="score is NaN or infinite"):
        defense(score).score(images())


def test_fidelity_released() -> None:
    released = Options(fidelity="released", sigma=0.25).scheme()
    assert (released.delta, released.rule, released.grid) == (1e-3, "step", True)
    paper = Options(sigma=0.25).scheme()
    assert (paper.delta, paper.rule, paper.grid, paper.lam, paper.stop) == (1e-5, "norm", False, 0.05, 0.001)


def test_memory_that_does_not_suffice_halves_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found, x = defense(), images(4)
    whole = found.purify_draws(x, 2, streams(4))
    inner, sizes = found._purify, []

    def scarce(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        result = inner(x, draws, streams)  # the streams have moved on by now
        sizes.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError
        return result

    monkeypatch.setattr(found, "_purify", scarce)
    assert torch.equal(found.purify_draws(x, 2, streams(4)), whole)
    assert sizes == [4, 2, 1, 1, 1, 1]
