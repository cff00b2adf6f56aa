from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.defenses.langevin import Average, LangevinDefense
from robustgen.errors import UserError
from robustgen.models import igebm
from robustgen.models.nijkamp import Config, Model
from robustgen.protocols import RandomDefense
from robustgen.seeding import ImageStreams, generator

K = 4


def parts(steps: int = 6, draws: int = 3, average: Average = "logits") -> LangevinDefense:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, K))
    ebm = Model(Config(size=8, channels=1, width=4, tau=0.1))
    with torch.no_grad():
        ebm.head.weight.mul_(30)  # a force that is felt within a few steps
    return LangevinDefense(classifier, ebm, steps=steps, draws=draws, average=average, seed=5)


def images(n: int = 5) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=generator(1))


def test_it_is_a_random_defense() -> None:
    assert isinstance(parts(), RandomDefense)


def test_no_steps_is_the_classifier_itself() -> None:
    defense, x = parts(steps=0), images()
    torch.testing.assert_close(defense(x), defense.classifier(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(defense.purify(x), x)


def test_purification_keeps_the_shape_and_is_not_clamped() -> None:
    defense = parts(steps=40)
    purified = defense.purify(images())
    assert purified.shape == (5, 1, 8, 8)
    assert purified.max() > 1
    assert purified.min() < 0


def test_draws_of_an_image_stand_together() -> None:
    defense = parts(steps=1, draws=3)
    x = torch.zeros(2, 1, 8, 8)
    x[1] = 1
    drawn = defense.purify_draws(x, 3, ImageStreams(0, [0, 1]))
    assert drawn.shape == (2, 3, 1, 8, 8)
    means = drawn.mean((2, 3, 4))
    assert (means[0] < 0.5).all()
    assert (means[1] > 0.5).all()
    logits = defense.logits(drawn).detach()
    torch.testing.assert_close(logits[1, 2], defense.classifier(drawn[1, 2][None]).detach()[0], rtol=1e-5, atol=1e-6)


def test_predictions_belong_to_images_not_to_batches() -> None:
    defense, x = parts(), images()
    whole = defense.predict(x, [10, 11, 12, 13, 14])
    torch.testing.assert_close(defense.predict(x[[3, 0]], [13, 10]), whole[[3, 0]], rtol=0, atol=1e-6)
    torch.testing.assert_close(defense.predict(x[[2]], [12]), whole[[2]], rtol=0, atol=1e-6)
    assert not torch.allclose(defense.predict(x, [0, 1, 2, 3, 4]), whole)


def test_more_draws_come_nearer_to_the_expectation() -> None:
    defense, x = parts(steps=10), images(2)
    spread = [
        torch.stack([defense.predict(x, [2 * k, 2 * k + 1], draws).detach() for k in range(40)]).std(0).mean()
        for draws in (1, 16)
    ]
    assert float(spread[1]) == pytest.approx(float(spread[0]) / 4, rel=0.25)


@pytest.mark.parametrize("average", ["logits", "softmax", "log_softmax"])
def test_what_is_averaged(average: Average) -> None:
    logits = torch.randn(3, 5, K, generator=generator(0)) * 4
    expected = {
        "logits": logits.mean(1),
        "softmax": logits.softmax(2).mean(1).log(),
        "log_softmax": logits.log_softmax(2).mean(1),
    }[average]
    torch.testing.assert_close(parts(average=average).combine(logits), expected)


def test_softmax_averages_survive_extreme_logits() -> None:
    logits = torch.tensor([[[1000.0, 0, 0, 0], [1000.0, 0, 0, 0]]]).requires_grad_()
    loss = F.cross_entropy(parts(average="softmax").combine(logits), torch.tensor([1]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


class Smooth(nn.Module):
    """An energy with curvature everywhere, which the leaky ReLU's network has not."""

    tau = 0.3

    def scaled_energy(self, v: Tensor) -> Tensor:
        return torch.cos(3 * v).flatten(1).sum(1) / 20


def test_unrolled_has_the_gradient_of_finite_differences() -> None:
    defense, x = LangevinDefense(nn.Identity(), Smooth(), steps=4), images(2).double()

    def value(x: Tensor) -> Tensor:
        return defense.unrolled(x, 3, ImageStreams(0, [0, 1])).square().sum()

    purified = defense.purify_draws(x, 3, ImageStreams(0, [0, 1]))
    torch.testing.assert_close(defense.unrolled(x, 3, ImageStreams(0, [0, 1])), purified)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    direction, h = torch.randn(x.shape, generator=generator(3)).double(), 1e-6
    numeric = (value(x + h * direction) - value(x - h * direction)) / (2 * h)
    assert float((gradient * direction).sum()) == pytest.approx(float(numeric.detach()), rel=1e-6)
    assert (gradient - 2 * purified.sum(1)).abs().max() > 0.1  # not the gradient that BPDA takes


def test_through_a_piecewise_linear_energy_the_exact_gradient_is_the_one_that_bpda_takes() -> None:
    defense, x = parts(steps=8), images(2)
    leaf = x.clone().requires_grad_()
    unrolled = defense.unrolled(leaf, 3, ImageStreams(0, [0, 1]))
    torch.testing.assert_close(unrolled, defense.purify_draws(x, 3, ImageStreams(0, [0, 1])), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(unrolled.square().sum(), leaf)
    torch.testing.assert_close(gradient, 2 * unrolled.detach().sum(1))  # a leaky ReLU's force has no derivative


def test_no_gradient_reaches_the_networks_weights() -> None:
    defense = parts()
    defense(images())
    leaf = images().requires_grad_()
    torch.autograd.grad(defense.unrolled(leaf, 2, ImageStreams(0, range(5))).sum(), leaf)
    assert all(p.grad is None for p in defense.parameters())


@pytest.mark.parametrize(("options", "message"), [({"steps": -1}, "steps >= 0"), ({"draws": 0}, "draws >= 1")])
def test_counts_are_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parts(**options)


def test_what_is_no_energy_model_is_refused() -> None:
    with pytest.raises(UserError, match="Linear has no scaled_energy"):
        LangevinDefense(nn.Identity(), nn.Linear(2, 2), steps=1)
    with pytest.raises(UserError, match="one of logits"):
        LangevinDefense(nn.Identity(), parts().ebm, steps=1, average="votes")  # type: ignore[arg-type]


class Limited(Smooth):
    """The energy where memory holds so many states."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.calls = 0

    def scaled_energy(self, v: Tensor) -> Tensor:
        self.calls += 1
        if len(v) > self.limit and self.calls > 2:  # not before some noise was drawn
            raise torch.OutOfMemoryError("out of memory")
        return super().scaled_energy(v)


def test_images_are_purified_in_parts_where_memory_is_short() -> None:
    x, streams, expected_streams = images(7), ImageStreams(0, range(7)), ImageStreams(0, range(7))
    whole = LangevinDefense(nn.Identity(), Smooth(), steps=30)
    defense = LangevinDefense(nn.Identity(), Limited(7), steps=30)
    for _ in range(2):  # the second time, streams go on where the first left them
        expected = whole.purify_draws(x, 3, expected_streams)
        torch.testing.assert_close(defense.purify_draws(x, 3, streams), expected, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="out of memory purifying one image; lower draws, for an attack verify too"):
        defense.purify_draws(x, 8, streams)


def test_looks_along_a_chain() -> None:
    defense, x = LangevinDefense(nn.Identity(), Limited(9), steps=30), images()
    at = (0, 3, 26, 30)
    along = defense.chain(x, 3, ImageStreams(0, range(5)), at, lambda purified: purified.flatten(2).mean(2))
    assert [each.shape for each in along] == [(5, 3)] * 4
    torch.testing.assert_close(along[0], x.flatten(1).mean(1, keepdim=True).expand(-1, 3))
    for steps, found in zip(at, along, strict=True):
        if steps in (0, 30):  # a shorter chain draws its noise in other chunks
            expected = LangevinDefense(nn.Identity(), Smooth(), steps=steps).purify_draws(
                x, 3, ImageStreams(0, range(5))
            )
            torch.testing.assert_close(found, expected.flatten(2).mean(2), rtol=0, atol=1e-6)


def test_clipped_dynamics_are_not_unrolled() -> None:
    ebm = igebm.Model(igebm.Config(size=8, channels=1, width=2))
    with pytest.raises(UserError, match="needs an energy without clipping"):
        LangevinDefense(nn.Identity(), ebm, steps=1).unrolled(images(), 1, ImageStreams(0, range(5)))
