from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.attacks.bpda_eot import BpdaEot
from robustgen.attacks.eot import Climb, Outcome
from robustgen.attacks.spsa import SPSA
from robustgen.defenses.identity import Undefended
from robustgen.errors import UserError
from robustgen.protocols import Attack, RandomDefense
from robustgen.seeding import ImageStreams

from .conftest import Bright, Fake, Pair, coin, gaussian, langevin, part, same


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
    with pytest.raises(
        UserError, match=r"NaN or infinite for 1 of 11 images: its purification diverged; lower its step"
    ):
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
        ({"batch": 0}, "batch is 0; give at least 1 image"),
    ],
)
def test_options_out_of_range(noisy: Fake, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BpdaEot(noisy, **options)


def test_objective_keeps_images_and_draws_apart(noisy: Fake) -> None:
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([2, 0, 4])
    attack = SPSA(noisy)  # it keeps the base's objective
    expected = [sum(F.cross_entropy(draw, label) for draw in image) / 4 for image, label in zip(logits, y, strict=True)]
    torch.testing.assert_close(attack.objective(logits, y), torch.stack(expected))
    mixed = F.cross_entropy(logits.flatten(0, 1), y.repeat(4), reduction="none").unflatten(0, (3, 4)).mean(1)
    assert not torch.isclose(mixed, attack.objective(logits, y)).any()  # what a wrong layout would give


def test_a_part_of_a_climb_goes_on_as_it_was(images: Pair) -> None:
    x, y = images
    draws, fresh = ImageStreams(0, range(11)), ImageStreams(1, range(11))
    climb = Climb(rows=torch.arange(11), x=x, y=y, state=x + 0.1, draws=draws, fresh=fresh)
    climb.gradient = torch.rand_like(x)
    chosen = climb.subset(torch.tensor([7, 2]))
    assert chosen.rows.tolist() == [7, 2]
    for name in ("x", "y", "state", "gradient"):
        assert torch.equal(getattr(chosen, name), getattr(climb, name)[[7, 2]])
    expected = ImageStreams(0, [7, 2]).normal((3,))
    assert torch.equal(chosen.draws.normal((3,)), expected)
    assert len(climb.x) == 11
    assert len(climb.subset(torch.empty(0, dtype=torch.long)).y) == 0


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
