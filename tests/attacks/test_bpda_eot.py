from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.attacks.bpda_eot import BpdaEot
from robustgen.attacks.pgd import PGD
from robustgen.defenses.identity import Undefended
from robustgen.errors import UserError
from robustgen.seeding import ImageStreams

from .conftest import Fake, Limited, Margin, Pair, gaussian, langevin, same


def test_gradient_is_taken_at_the_purified_image_and_applied_to_the_image() -> None:
    # the purification inverts; a loss that is steep at 0.2 and falls at 0.8 tells all candidates apart
    model = Margin(lambda z: torch.where(z < 0.5, 3 * z, 5 - 7 * z))
    defense = Fake(model, lambda x, draws, _: (1 - x)[:, None].expand(-1, draws, *x.shape[1:]))
    x, y = torch.full((1, 1, 1, 1), 0.2, dtype=torch.float64), torch.tensor([0])
    attack = BpdaEot(defense, eps=0.1, draws=4)
    _, gradient = attack.attack_gradient(x, y, ImageStreams(0, [0]))
    at_purified = torch.sigmoid(torch.tensor(5 - 7 * 0.8, dtype=torch.float64)) * -7
    at_image = torch.sigmoid(torch.tensor(3 * 0.2, dtype=torch.float64)) * 3
    assert gradient.item() == pytest.approx(at_purified.item())
    assert gradient.sign() != at_image.sign()
    _, through = BpdaEot(defense, eps=0.1, draws=4, gradient="full").attack_gradient(x, y, ImageStreams(0, [0]))
    assert through.item() == pytest.approx(-at_purified.item())
    moved = attack(torch.full((1, 1, 1, 1), 0.2, dtype=torch.float64), y)
    assert moved.item() == pytest.approx(0.1)  # down, as the gradient at the purified image says


def test_loss_is_of_the_mean_logits() -> None:
    # the replicates at 0.25 and 0.75: margins −7.5 with slope 30 and 8 with slope −10
    model = Margin(lambda z: torch.where(z < 0.5, 30 * (z - 0.5), 8 - 10 * (z - 0.75)))
    offsets = torch.tensor([-0.25, 0.25], dtype=torch.float64).view(1, 2, 1, 1, 1)
    defense = Fake(model, lambda x, draws, _: x[:, None] + offsets)
    x, y = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64), torch.tensor([0])
    logits, gradient = BpdaEot(defense, draws=2).attack_gradient(x, y, ImageStreams(0, [0]))
    assert logits.tolist() == [[0, 0.25]]
    assert gradient.item() == pytest.approx((30 - 10) / 2 / (1 + math.exp(-0.25)))
    leaf = (x[:, None] + offsets).requires_grad_()
    mean_of_losses = F.cross_entropy(model(leaf.flatten(0, 1)), y.expand(2))
    (other,) = torch.autograd.grad(mean_of_losses, leaf)
    assert other.sum().sign() == -gradient.sign()


@pytest.mark.parametrize(
    ("slope", "expected"),
    [
        (30.0, {"combined": 1, "mean": -1, "vote": 1}),
        (1.0, {"combined": -1, "mean": -1, "vote": 1}),
    ],
)
def test_expectations_disagree(slope: float, expected: dict[str, int]) -> None:
    # two replicates at 0.25, right by a wide margin, and one at 0.75 that is wrong and falls
    model = Margin(lambda z: torch.where(z < 0.5, slope * (z - 0.25) - 7.5, 8 - 10 * (z - 0.75)))
    offsets = torch.tensor([-0.25, -0.25, 0.25], dtype=torch.float64).view(1, 3, 1, 1, 1)
    defense = Fake(model, lambda x, draws, _: x[:, None] + offsets)
    x, y = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64), torch.tensor([0])
    found = {
        expectation: BpdaEot(defense, draws=3, expectation=expectation).attack_gradient(x, y, ImageStreams(0, [0]))
        for expectation in expected
    }
    assert {name: int(gradient.sign().item()) for name, (_, gradient) in found.items()} == expected
    assert len({str(logits.tolist()) for logits, _ in found.values()}) == 1  # the screen is the same


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_mean_and_vote_are_over_the_draws_of_each_image(noisy: Fake, images: Pair, norm: str) -> None:
    x, y = images
    leaf = noisy.purify_draws(x, 4, ImageStreams(0, range(11))).requires_grad_()
    logits = noisy.classifier(leaf.flatten(0, 1))
    losses = F.cross_entropy(logits, torch.tensor([int(label) for label in y for _ in range(4)]), reduction="sum")
    (each,) = torch.autograd.grad(losses, leaf)
    units = each.sign() if norm == "linf" else each / each.flatten(2).norm(dim=2).view(11, 4, 1, 1, 1)
    for expectation, expected in (("mean", each.mean(1)), ("vote", units.sum(1))):
        attack = BpdaEot(noisy, draws=4, norm=norm, expectation=expectation)
        _, gradient = attack.attack_gradient(x, y, ImageStreams(0, range(11)))
        torch.testing.assert_close(gradient, expected)
    full = BpdaEot(noisy, draws=4, expectation="mean", gradient="full")
    _, gradient = full.attack_gradient(x, y, ImageStreams(0, range(11)))
    torch.testing.assert_close(gradient, each.mean(1))  # noise only shifts an image


def test_full_gradient_in_parts_where_memory_is_short(noisy: Fake, images: Pair) -> None:
    x, y = images
    expected = BpdaEot(noisy, draws=3, gradient="full").attack_gradient(x, y, ImageStreams(0, range(11)))
    sizes = []

    def short(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        sizes.append(len(x))
        found = gaussian(0.05)(x, draws, streams)
        if len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return found

    attack = BpdaEot(Fake(noisy.classifier, short), draws=3, gradient="full")
    found = attack.attack_gradient(x, y, ImageStreams(0, range(11)))
    assert sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)

    def never(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    attack = BpdaEot(Fake(noisy.classifier, never), gradient="full")
    with pytest.raises(UserError, match="out of memory taking one image's gradient through the purification; lower d"):
        attack.attack_gradient(x, y, ImageStreams(0, range(11)))


def test_full_gradient_that_is_not_finite_is_an_error_of_the_user(toy: nn.Module, images: Pair) -> None:
    defense = Fake(toy, lambda x, draws, _: (x + (x - x).sqrt())[:, None].expand(-1, draws, *x.shape[1:]))
    with pytest.raises(UserError, match="gradients through the purification are NaN or infinite for 11 of 11 images; "):
        BpdaEot(defense, gradient="full", verify=1, draws=1).evaluate(*images)


def test_options_out_of_range(noisy: Fake) -> None:
    with pytest.raises(UserError, match="gradient is 'none'; bpda or full"):
        BpdaEot(noisy, gradient="none")
    with pytest.raises(UserError, match="expectation is 'median'; one of combined, mean, vote"):
        BpdaEot(noisy, expectation="median")
    with pytest.raises(UserError, match="a vote needs each draw's own gradient, which gradient full has not"):
        BpdaEot(noisy, expectation="vote", gradient="full")


def test_gradient_of_the_noise_defence_has_a_closed_form() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(12, 3).double()
    defense = Fake(nn.Sequential(nn.Flatten(), linear), gaussian(0.3))
    x, y = torch.rand(5, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    logits, gradient = BpdaEot(defense, draws=5000).attack_gradient(x, y, ImageStreams(3, range(5)))
    expected = linear(x.flatten(1)).detach()
    torch.testing.assert_close(logits, expected, atol=0.02, rtol=0)  # F̂ of Eq. 5 approaches F of Eq. 4
    slope = (logits.softmax(1) - F.one_hot(y, 3)) @ linear.weight.detach()
    torch.testing.assert_close(gradient.flatten(1), slope, atol=1e-10, rtol=0)


def test_full_gradient_agrees_with_finite_differences(toy: nn.Module, images: Pair) -> None:
    def warp(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        return torch.sin(3 * x)[:, None] + 0.2 * torch.cos(x[:, None] * streams.uniform((draws, 1, 1, 1)))

    defense = Fake(toy, warp)
    x, y = images[0][:2], images[1][:2]
    full = BpdaEot(defense, draws=3, gradient="full")
    logits, gradient = full.attack_gradient(x, y, ImageStreams(0, [4, 9]))

    def loss(x: Tensor) -> float:
        with torch.no_grad():
            purified = defense.unrolled(x, 3, ImageStreams(0, [4, 9]))
            return F.cross_entropy(full.combined(purified), y, reduction="sum").item()

    h = 1e-6
    for pixel in [(0, 0, 0, 0), (0, 1, 2, 3), (1, 0, 4, 4), (1, 1, 1, 0)]:
        step = torch.zeros_like(x)
        step[pixel] = h
        assert gradient[pixel].item() == pytest.approx((loss(x + step) - loss(x - step)) / (2 * h), rel=1e-5)
    other_logits, other = BpdaEot(defense, draws=3).attack_gradient(x, y, ImageStreams(0, [4, 9]))
    torch.testing.assert_close(other_logits, logits)
    assert (other.sign() != gradient.sign()).any()


def test_full_gradient_through_langevin_steps(eights: Pair) -> None:
    x, y = eights
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 4))
    curved = langevin(classifier, "jem", classes=4, depth=10, widen=1, base=8, tau=0.1, step=20.0)
    linear = langevin(classifier, "nijkamp", width=4, tau=0.1)
    for defense, agree in ((curved, False), (linear, True)):
        (_, bpda), (_, full) = (
            BpdaEot(defense, draws=3, gradient=gradient).attack_gradient(x, y, ImageStreams(0, range(6)))
            for gradient in ("bpda", "full")
        )
        far = float((bpda - full).abs().max() / bpda.abs().max())
        assert (far < 1e-6) is agree


@pytest.mark.parametrize("gradient", ["bpda", "full"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.6)])
def test_images_stay_in_ball_and_box(noisy: Fake, images: Pair, norm: str, eps: float, gradient: str) -> None:
    x, y = images
    for radius in (eps / 4, eps, 10 * eps):
        attack = BpdaEot(noisy, eps=radius, norm=norm, steps=6, step=0.4, draws=3, verify=9, gradient=gradient)
        found = torch.from_numpy(attack.evaluate(x, y).adversarial)
        assert found.shape == x.shape
        assert float(attack.ball.distance(found, x).max()) <= radius + 1e-6
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        assert (found != x).flatten(1).any(1).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_a_defence_it_is_pgd(toy: nn.Module, images: Pair, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = images
    monkeypatch.setattr(BpdaEot, "start", lambda self, x, streams: x.clone())
    eps = 0.04 if norm == "linf" else 0.2
    attack = BpdaEot(Undefended(toy), norm=norm, eps=eps, steps=12, step=0.25, draws=1, verify=1)
    outcome = attack.evaluate(x, y)
    assert 0 < outcome.broken.sum() < len(x)
    states = [PGD(toy, norm=norm, eps=eps, alpha=eps / 4, steps=steps, random_start=False)(x, y) for steps in range(13)]
    wrong = np.stack([(toy(state).argmax(1) != y).numpy() for state in states])
    np.testing.assert_array_equal(outcome.broken_step, np.where(wrong.any(0), wrong.argmax(0), -1))
    ends = np.where(outcome.broken, outcome.broken_step, 12)
    expected = torch.stack([states[step][i] for i, step in enumerate(ends)])
    torch.testing.assert_close(torch.from_numpy(outcome.adversarial), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("average", ["logits", "softmax"])
def test_replicates_are_classified_in_parts_where_memory_is_short(eights: Pair, average: Any) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 4))
    defense = langevin(network, "nijkamp", width=4, tau=0.1)
    defense.average = average
    x, y = eights[0], defense(eights[0]).argmax(1)
    expected = BpdaEot(defense, draws=5).attack_gradient(x, y, ImageStreams(0, range(6)))
    whole = BpdaEot(defense, eps=0.1, steps=3, draws=5, verify=9).evaluate(x, y)
    defense.classifier = Limited(network, 26)
    attack = BpdaEot(defense, draws=5)
    found = attack.attack_gradient(x, y, ImageStreams(0, range(6)))
    assert attack.parts.size == 7  # 30, 15, 7
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    defense.classifier.sizes.clear()
    attack.attack_gradient(x, y, ImageStreams(0, range(6)))
    assert defense.classifier.sizes == [8] * 10  # remembered: nothing is tried in vain; a few have company
    same(BpdaEot(defense, eps=0.1, steps=3, draws=5, verify=9).evaluate(x, y), whole)


def test_memory_for_no_image_is_an_error_of_the_user(eights: Pair) -> None:
    defense = langevin(Limited(nn.Flatten(), 2), "nijkamp", width=4, tau=0.1)
    with pytest.raises(UserError, match="out of memory classifying one purified image; free the accelerator"):
        BpdaEot(defense, draws=5).attack_gradient(*eights, ImageStreams(0, range(6)))
