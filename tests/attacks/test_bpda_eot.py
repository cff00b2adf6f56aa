from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen import models
from robustgen.attacks.bpda_eot import BpdaEot, Outcome
from robustgen.attacks.pgd import PGD
from robustgen.defenses.identity import Undefended
from robustgen.defenses.langevin import LangevinDefense
from robustgen.errors import UserError
from robustgen.protocols import Attack, RandomDefense
from robustgen.seeding import ImageStreams

Pair = tuple[Tensor, Tensor]


class Fake(nn.Module):
    """A random defence around a classifier: `transform(x, draws, streams)` is its purification, logits are averaged."""

    draws = 3

    def __init__(self, classifier: nn.Module, transform: Callable[[Tensor, int, ImageStreams], Tensor]) -> None:
        super().__init__()
        self.classifier = classifier
        self.transform = transform
        self.largest = 0  # most replicates asked for at once

    def forward(self, x: Tensor) -> Tensor:
        streams = ImageStreams(0, range(len(x)))
        logits: Tensor = self.classifier(self.purify_draws(x, self.draws, streams).flatten(0, 1))
        return self.combine(logits.unflatten(0, (len(x), self.draws)))

    def purify(self, x: Tensor) -> Tensor:
        return self.purify_draws(x, 1, ImageStreams(0, range(len(x))))[:, 0]

    @torch.no_grad()
    def purify_draws(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        self.largest = max(self.largest, len(x) * draws)
        return self.unrolled(x, draws, streams)

    def unrolled(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        found = self.transform(x, draws, streams)
        assert found.shape == (len(x), draws, *x.shape[1:])
        return found

    def combine(self, logits: Tensor) -> Tensor:
        return logits.mean(1)


def gaussian(sigma: float) -> Callable[[Tensor, int, ImageStreams], Tensor]:
    """x plus normal noise: a linear classifier's expected logits are those of x itself."""
    return lambda x, draws, streams: x[:, None] + sigma * streams.normal((draws, *x.shape[1:]))


def coin(chance: float) -> Callable[[Tensor, int, ImageStreams], Tensor]:
    """Replaces an image by a white one with probability `chance`, else by a black one."""

    def toss(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        heads = (streams.uniform((draws, 1, 1, 1)) < chance).to(x)
        return heads.expand(-1, -1, *x.shape[1:])

    return toss


class Bright(nn.Module):
    """Class 0 for bright images, class 1 for dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        brightness = self.weight * x.flatten(1).mean(1)
        return torch.stack([brightness, 1 - brightness], 1)


class Margin(nn.Module):
    """Two classes whose logits are 0 and `margin` of the only pixel."""

    def __init__(self, margin: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.margin = margin
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        margin = self.weight * self.margin(x.flatten())
        return torch.stack([torch.zeros_like(margin), margin], 1)


@pytest.fixture
def noisy(toy: nn.Module) -> Fake:
    return Fake(toy, gaussian(0.05))


def same(one: Outcome, other: Outcome) -> None:
    """Assert that two outcomes are equal, up to how a sum is rounded."""
    for name in (f.name for f in fields(Outcome)):
        if name == "adversarial":
            np.testing.assert_allclose(one.adversarial, other.adversarial, atol=1e-12)
        else:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def part(outcome: Outcome, rows: Any) -> Outcome:
    return Outcome(**{f.name: getattr(outcome, f.name)[rows] for f in fields(Outcome)})


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


def test_replicates_stay_with_their_image() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return F.one_hot((x[:, 0, 0, 0] * 10).round().long(), 6) * 2.0 + self.weight * x.flatten(1).sum(1)[:, None]

    x = torch.arange(6).div(10).view(6, 1, 1, 1).expand(6, 2, 2, 3).contiguous()
    attack = BpdaEot(Fake(Counting(), gaussian(0.001)), eps=0, draws=5, verify=7, batch=4, steps=1)
    logits, _ = attack.attack_gradient(x, torch.zeros(6, dtype=torch.long), ImageStreams(0, range(6)))
    assert logits.argmax(1).tolist() == list(range(6))
    assert attack.large_sample(x, ImageStreams(0, range(6))).tolist() == list(range(6))
    outcome = attack.evaluate(x, torch.arange(6))
    assert outcome.natural_correct.all()
    assert not outcome.checks.any()


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


def langevin(classifier: nn.Module, arch: str, **parameters: Any) -> LangevinDefense:
    """The real defence with an untrained energy model for 1x8x8 images, in double precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.config_type(arch)(size=8, channels=1, **parameters)
        return LangevinDefense(classifier, models.build(config), steps=5).double().eval()


@pytest.fixture
def eights() -> Pair:
    x = torch.rand(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return x, torch.arange(6) % 4


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


def test_langevin_defence_treats_an_image_alike_in_any_company(eights: Pair) -> None:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    defense = langevin(classifier, "nijkamp", width=4, tau=0.1)
    x = eights[0]
    y = defense(x).argmax(1)
    whole, split = (
        BpdaEot(defense, eps=0.1, steps=4, draws=3, verify=9, batch=batch).evaluate(x, y) for batch in (6, 2)
    )
    same(whole, split)
    assert whole.broken.any()


def test_coin_is_suspected_often_and_confirmed_never() -> None:
    defense = Fake(Bright(), coin(0.7))
    x, y = torch.rand(200, 1, 2, 2), torch.zeros(200, dtype=torch.long)
    outcome = BpdaEot(defense, eps=0, steps=3, draws=1, verify=301).evaluate(x, y)
    assert outcome.natural_correct.all()
    assert outcome.checks.mean() == pytest.approx(4 * 0.3, abs=0.25)  # X_0 to X_3, three in ten of them suspect
    assert not outcome.broken.any()  # the false-break rate of the zero-eps control


def test_one_draw_of_a_coin_confirms_by_chance_and_on_fresh_noise() -> None:
    x, y = torch.rand(2000, 1, 2, 2), torch.zeros(2000, dtype=torch.long)
    outcome = BpdaEot(Fake(Bright(), coin(0.7)), eps=0, steps=0, draws=1, verify=1, batch=500).evaluate(x, y)
    assert outcome.natural_correct.mean() == pytest.approx(0.7, abs=0.04)
    asked = outcome.checks.sum() / outcome.natural_correct.sum()
    assert asked == pytest.approx(0.3, abs=0.05)
    assert outcome.broken.sum() / outcome.checks.sum() == pytest.approx(0.3, abs=0.08)  # the screen's draw would say 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_zero_radius_changes_nothing(noisy: Fake, images: Pair, norm: str) -> None:
    x, y = images
    outcome = BpdaEot(noisy, eps=0, norm=norm, steps=4, draws=2, verify=200, restarts=2).evaluate(x, y)
    np.testing.assert_array_equal(outcome.adversarial, x.numpy())
    assert not outcome.broken.any()


@pytest.mark.parametrize("gradient", ["bpda", "full"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.6)])
def test_images_stay_in_ball_and_box(noisy: Fake, images: Pair, norm: str, eps: float, gradient: str) -> None:
    x, y = images
    for radius in (eps / 4, eps, 20 * eps):
        attack = BpdaEot(noisy, eps=radius, norm=norm, steps=6, step=0.4, draws=3, verify=9, gradient=gradient)
        found = torch.from_numpy(attack.evaluate(x, y).adversarial)
        assert found.shape == x.shape
        assert float(attack.ball.distance(found, x).max()) <= radius + 1e-6
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        assert (found != x).flatten(1).any(1).any()


def test_attack_breaks_more_than_chance_and_the_break_is_real(noisy: Fake, images: Pair) -> None:
    x, y = images
    attack = BpdaEot(noisy, eps=0.15, steps=15, draws=5, verify=41)
    outcome = attack.evaluate(x, y)
    assert outcome.natural_correct.sum() >= 9
    assert outcome.broken.sum() >= 6
    found = torch.from_numpy(outcome.adversarial)[outcome.broken]
    again = attack.large_sample(found, ImageStreams(99, range(len(found))))
    assert float((again != y[outcome.broken]).double().mean()) > 0.8  # one on the border may fall either way
    torch.testing.assert_close(attack(x, y), torch.from_numpy(outcome.adversarial), atol=0, rtol=0)


def test_fields_of_an_outcome_agree(noisy: Fake, images: Pair) -> None:
    x, y = images
    y = y.clone()
    y[:3] = (y[:3] + 1) % 4  # wrong to begin with
    outcome = BpdaEot(noisy, eps=0.04, steps=5, draws=3, verify=31, restarts=3).evaluate(x, y)
    assert not outcome.natural_correct[:3].any()
    assert not outcome.broken[~outcome.natural_correct].any()
    assert not outcome.checks[~outcome.natural_correct].any()
    np.testing.assert_array_equal(outcome.adversarial[:3], x[:3].numpy())
    for numbers, limit in ((outcome.broken_step, 5), (outcome.broken_restart, 2)):
        assert numbers.dtype == np.int64
        np.testing.assert_array_equal(numbers >= 0, outcome.broken)
        assert numbers.min() >= -1
        assert numbers.max() <= limit
    assert (outcome.checks[outcome.broken] >= 1).all()
    assert (outcome.checks <= 18).all()
    assert outcome.broken.any()
    assert (outcome.natural_correct & ~outcome.broken).any()


def test_longer_attacks_and_more_restarts_only_add_breaks(noisy: Fake, images: Pair) -> None:
    options = {"eps": 0.04, "draws": 3, "verify": 31}
    longest = BpdaEot(noisy, steps=8, restarts=1, **options).evaluate(*images)
    for steps in (0, 3):
        shorter = BpdaEot(noisy, steps=steps, restarts=1, **options).evaluate(*images)
        within = longest.broken & (longest.broken_step <= steps)
        np.testing.assert_array_equal(shorter.broken, within)
        np.testing.assert_array_equal(shorter.broken_step[within], longest.broken_step[within])
    often = BpdaEot(noisy, steps=8, restarts=4, **options).evaluate(*images)
    first = often.broken & (often.broken_restart == 0)
    np.testing.assert_array_equal(first, longest.broken)
    np.testing.assert_array_equal(often.broken_step[first], longest.broken_step[first])


def test_every_restart_starts_elsewhere(noisy: Fake, images: Pair) -> None:
    ends = [
        BpdaEot(noisy, eps=0.001, steps=0, restarts=restarts, draws=3, verify=31)(*images) for restarts in (1, 2, 3)
    ]
    assert not (ends[0] == ends[1]).all()
    assert not (ends[1] == ends[2]).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_image_meets_the_same_fate_in_any_company(noisy: Fake, images: Pair, norm: str) -> None:
    x, y = images
    y = y.clone()
    y[2] = (y[2] + 1) % 4  # one that is dropped at once
    indices = torch.arange(100, 100 + len(x))

    def attack(batch: int) -> BpdaEot:
        return BpdaEot(
            noisy, batch=batch, norm=norm, eps=0.04 if norm == "linf" else 0.2, steps=6, draws=3, verify=7, restarts=2
        )

    whole = attack(64).evaluate(x, y, indices)
    assert 0 < whole.broken.sum() < whole.natural_correct.sum()  # so that company leaves along the way
    for batch in (1, 4):
        same(attack(batch).evaluate(x, y, indices), whole)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    same(attack(5).evaluate(x[order], y[order], indices[order]), part(whole, order.numpy()))
    stands = np.flatnonzero(whole.natural_correct & ~whole.broken)
    same(attack(64).evaluate(x[stands], y[stands], indices[stands]), part(whole, stands))
    shards = [attack(3).evaluate(x[rows], y[rows], indices[rows]) for rows in (slice(4), slice(4, None))]
    same(Outcome.join(shards), whole)


def test_seed_and_index_name_the_random_streams(noisy: Fake, images: Pair) -> None:
    x, y = images
    options = {"eps": 0.05, "steps": 2, "draws": 2, "verify": 5}
    first = BpdaEot(noisy, seed=1, **options)(x, y)
    assert torch.equal(BpdaEot(noisy, seed=1, **options)(x, y, range(len(x))), first)
    assert not torch.equal(BpdaEot(noisy, seed=2, **options)(x, y), first)
    assert not torch.equal(BpdaEot(noisy, seed=1, **options)(x, y, range(1, len(x) + 1)), first)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert torch.equal(BpdaEot(noisy, seed=1, **options)(x, y), first)
    assert torch.equal(torch.get_rng_state(), state)


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


def test_replicates_in_flight_do_not_grow_with_the_images(toy: nn.Module, images: Pair) -> None:
    x, y = images
    seen = []
    for repeats in (1, 5):
        defense = Fake(toy, gaussian(0.05))
        many = BpdaEot(defense, batch=4, eps=0.1, steps=3, draws=5, verify=12)
        outcome = many.evaluate(x.repeat(repeats, 1, 1, 1), y.repeat(repeats))
        assert outcome.checks.any()
        seen.append(defense.largest)
    assert seen == [4 * 5, 4 * 5]  # the confirmations are cut to the size of an attack step


def test_known_natural_images_are_not_checked_again(noisy: Fake, images: Pair) -> None:
    attack = BpdaEot(noisy, eps=0.08, steps=3, draws=3, verify=9, batch=4)
    whole = attack.evaluate(*images)
    same(attack.evaluate(*images, natural_correct=whole.natural_correct), whole)
    none = attack.evaluate(*images, natural_correct=np.zeros(len(images[0]), dtype=bool))
    assert not none.natural_correct.any()
    assert not none.broken.any()


def test_progress_is_told_after_every_check(noisy: Fake, images: Pair) -> None:
    told: list[tuple[int, int, int]] = []
    attack = BpdaEot(noisy, eps=0.04, steps=4, draws=3, verify=31, restarts=2)
    outcome = attack.evaluate(*images, progress=lambda *state: told.append(state))
    standing = int((outcome.natural_correct & ~outcome.broken).sum())
    assert [state[:2] for state in told] == [(restart, step) for restart in (0, 1) for step in range(5)]
    assert told[-1][2] == standing
    counts = [state[2] for state in told]
    assert counts == sorted(counts, reverse=True)


def test_classifier_is_evaluated_and_left_as_it_was(toy: Any, images: Pair) -> None:
    x, y = images
    attack = BpdaEot(Fake(toy, gaussian(0.05)), eps=0.05, steps=2, draws=2, verify=3)
    expected = attack.evaluate(x, y)
    toy.train()
    toy.head.eval()
    before = {key: value.clone() for key, value in toy.state_dict().items()}
    same(attack.evaluate(x, y), expected)
    assert toy.norm.training
    assert not toy.head.training
    assert all(torch.equal(value, before[key]) for key, value in toy.state_dict().items())
    assert all(p.grad is None for p in toy.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_diverged_chain_is_named_and_the_mode_restored(toy: nn.Module, images: Pair, value: float) -> None:
    x, y = images

    def diverge(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        found = gaussian(0.05)(x, draws, streams)
        found[1, 0] = value
        return found

    toy.train()
    with pytest.raises(UserError, match=r"NaN or infinite for 1 of 11 images: a Langevin chain diverged; lower tau"):
        BpdaEot(Fake(toy, diverge), steps=1, draws=2, verify=2).evaluate(x, y)
    assert toy.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": -0.1}, "eps >= 0"),
        ({"steps": -1}, "steps >= 0"),
        ({"step": 0}, "step > 0"),
        ({"draws": 0}, "draws, verify and restarts >= 1"),
        ({"verify": 0}, "draws, verify and restarts >= 1"),
        ({"restarts": 0}, "draws, verify and restarts >= 1"),
        ({"norm": "l1"}, "unknown norm 'l1'"),
        ({"gradient": "none"}, "gradient is 'none'; bpda or full"),
        ({"batch": 0}, "batch is 0; give at least 1 image"),
    ],
)
def test_options_out_of_range(noisy: Fake, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BpdaEot(noisy, **options)


def test_needs_a_random_defence_and_images(noisy: Fake, toy: nn.Module, images: Pair) -> None:
    with pytest.raises(UserError, match="Toy has no classifier, purify_draws, unrolled, combine; bpda_eot attacks"):
        BpdaEot(toy)
    with pytest.raises(UserError, match=r"must lie in \[0, 1\]"):
        BpdaEot(noisy).evaluate(images[0] + 1, images[1])


def test_it_is_an_attack_and_its_targets_are_random_defences(noisy: Fake, toy: nn.Module) -> None:
    assert isinstance(BpdaEot(noisy), Attack)
    assert "eps=0.1" in repr(BpdaEot(noisy, eps=0.1))
    assert isinstance(noisy, RandomDefense)
    assert isinstance(Undefended(toy), RandomDefense)


class Limited(nn.Module):
    """A classifier whose memory holds so many images, with a graph a third of that."""

    def __init__(self, network: nn.Module, limit: int) -> None:
        super().__init__()
        self.network = network
        self.limit = limit
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > (self.limit // 3 if torch.is_grad_enabled() else self.limit):
            raise torch.OutOfMemoryError("out of memory")
        self.sizes.append(len(x))
        logits: Tensor = self.network(x)
        return logits


@pytest.mark.parametrize("average", ["logits", "softmax"])
def test_replicates_are_classified_in_parts_where_memory_is_short(eights: Pair, average: Any) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 4))
    defense = langevin(network, "nijkamp", width=4, tau=0.1)
    defense.average = average
    x, y = eights[0], defense(eights[0]).argmax(1)
    expected = BpdaEot(defense, draws=5).attack_gradient(x, y, ImageStreams(0, range(6)))
    whole = BpdaEot(defense, eps=0.1, steps=3, draws=5, verify=9).evaluate(x, y)
    defense.classifier = Limited(network, 21)
    attack = BpdaEot(defense, draws=5)
    found = attack.attack_gradient(x, y, ImageStreams(0, range(6)))
    assert attack.parts.size == 7  # 30, 15, 7
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    defense.classifier.sizes.clear()
    attack.attack_gradient(x, y, ImageStreams(0, range(6)))
    assert defense.classifier.sizes == [7, 7, 7, 7, 2] * 2  # remembered: nothing is tried in vain
    same(BpdaEot(defense, eps=0.1, steps=3, draws=5, verify=9).evaluate(x, y), whole)


def test_memory_for_no_image_is_an_error_of_the_user(eights: Pair) -> None:
    defense = langevin(Limited(nn.Flatten(), 2), "nijkamp", width=4, tau=0.1)
    with pytest.raises(UserError, match="out of memory classifying one purified image; free the accelerator"):
        BpdaEot(defense, draws=5).attack_gradient(*eights, ImageStreams(0, range(6)))
