from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustgen import models
from robustgen.errors import UserError
from robustgen.models.nijkamp import Config
from robustgen.seeding import generator
from robustgen.training import ebm
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.ebm import Recipe, Trained, train_ebm

CONFIG = Config(size=8, channels=1, width=4, tau=0.1)
RECIPE = Recipe(
    updates=12, switch=6, batch=8, steps=3, data_noise=0.2, lr_adam=1e-3, lr_sgd=5e-4, save_every=4, log_every=5
)


def images(n: int = 24) -> Tensor:
    """Bright squares on a dark ground."""
    x = torch.rand(n, 1, 8, 8, generator=generator(0)) * 0.2
    x[:, :, 2:6, 2:6] += 0.6
    return x


def train(recipe: Recipe = RECIPE, checkpoint: Checkpoint | None = None) -> Trained:
    return train_ebm(lambda: models.build(CONFIG), images(), recipe, checkpoint=checkpoint, label="toy")


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[key]) for key, x in a.state_dict().items())


def test_the_states_learn_what_the_images_look_like() -> None:
    recipe = dataclasses.replace(RECIPE, updates=300, switch=200, steps=10, log_every=50)
    trained = train(recipe)
    middle, edge = trained.bank[:, :, 3:5, 3:5].mean(), trained.bank[:, :, 0].mean()
    assert middle > 0.2
    assert edge < -0.4  # the data have 0.4 and -0.8
    noisier, data = (trained.model(v) for v in (torch.rand(24, 1, 8, 8) * 2 - 1, 2 * images() - 1))
    assert data.mean() < noisier.mean()  # low energy means likely
    spread = float((2 * images() - 1).std())
    assert abs(trained.curve[-1].bank_std - spread) < 0.3 < abs(trained.curve[0].bank_std - spread)


def test_curve_phases_and_snapshots() -> None:
    trained = train(dataclasses.replace(RECIPE, snapshots=3))
    assert [row.update for row in trained.curve] == [5, 10, 12]
    assert [(s.update, s.phase) for s in trained.snapshots] == [(4, "adam"), (6, "adam"), (8, "sgd"), (12, "sgd")]
    last = models.build(CONFIG)
    last.load_state_dict(trained.snapshots[-1].weights)
    assert same(last, trained.model)
    assert not same(trained.model, train_until(4))
    assert not trained.model.training


def test_the_end_of_the_first_phase_is_a_snapshot() -> None:
    assert ebm.snapshot_updates(Recipe(updates=100, switch=30, snapshots=2)) == {30, 50, 100}
    assert ebm.snapshot_updates(Recipe(updates=100, switch=0, snapshots=2)) == {50, 100}
    assert ebm.snapshot_updates(Recipe(updates=20, switch=30, snapshots=2)) == {10, 20}
    assert ebm.snapshot_updates(Recipe(updates=100, switch=30)) == set()


def train_until(updates: int) -> nn.Module:
    return train(dataclasses.replace(RECIPE, updates=updates)).model


def test_the_twin_shares_the_first_phase_and_only_that() -> None:
    twin = dataclasses.replace(RECIPE, second="adam")
    first = dataclasses.replace(RECIPE, updates=6)
    assert same(train(first).model, train(dataclasses.replace(twin, updates=6)).model)
    assert not same(train().model, train(twin).model)
    assert {row.phase for row in train(twin).curve} == {"adam"}


def test_sgd_moves_by_its_rate_times_the_gradient_of_the_scaled_energy() -> None:
    recipe = dataclasses.replace(RECIPE, updates=1, switch=0, lr_sgd=0.25)
    torch.manual_seed(ebm.derive(recipe.seed, "init"))
    before = models.build(CONFIG)
    after = train(recipe)
    # the same update once more, literally: the drawn rows of the bank hold the states after the Langevin steps
    draws = generator(0, "update", 0, 0)
    data = 2 * images()[torch.randperm(24, generator=draws)[:8]] - 1
    data = data + 0.2 * torch.randn(data.shape, generator=draws)
    states = after.bank[torch.randperm(24, generator=draws)[:8]]
    (before(data).mean() - before(states).mean()).backward()
    for old, new in zip(before.parameters(), after.model.parameters(), strict=True):
        assert old.grad is not None
        torch.testing.assert_close(new, old - 0.25 * old.grad)


def test_only_the_drawn_states_of_the_bank_move() -> None:
    bank = torch.rand(24, 1, 8, 8, generator=generator(0, "bank")) * 2 - 1
    moved = train(dataclasses.replace(RECIPE, updates=1, switch=0)).bank
    assert sum(not torch.equal(a, b) for a, b in zip(bank, moved, strict=True)) == 8
    assert moved.max() > 1 or moved.min() < -1  # and they are not clamped


def test_equal_seeds_give_equal_weights() -> None:
    torch.manual_seed(1)
    first = train()
    torch.manual_seed(2)
    assert same(first.model, train().model)
    assert not same(first.model, train(dataclasses.replace(RECIPE, seed=1)).model)


@pytest.mark.parametrize("stop", [5, 9, 12])
def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    recipe = dataclasses.replace(RECIPE, snapshots=4)
    checkpoint, real = Checkpoint("toy", tmp_path), ebm.train_step

    def interrupted(state: ebm.State, images: Tensor, recipe: Recipe) -> float:
        if state.update == stop - 1:
            raise KeyboardInterrupt
        return real(state, images, recipe)

    with monkeypatch.context() as patch:
        patch.setattr(ebm, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, checkpoint)
    assert checkpoint.path.is_file()
    resumed, whole = train(recipe, checkpoint), train(recipe)
    assert same(resumed.model, whole.model)
    assert torch.equal(resumed.bank, whole.bank)
    assert resumed.curve == whole.curve
    assert [s.update for s in resumed.snapshots] == [s.update for s in whole.snapshots] == [3, 6, 9, 12]
    for a, b in zip(resumed.snapshots, whole.snapshots, strict=True):
        assert all(torch.equal(value, b.weights[name]) for name, value in a.weights.items())
        assert torch.equal(a.bank, b.bank)


def diverging(monkeypatch: pytest.MonkeyPatch, bad: dict[int, float]) -> list[tuple[int, int]]:
    """Let the first pass over the updates in `bad` end with that energy difference; the updates made, with restarts."""
    made, real = [], ebm.train_step

    def train_step(state: ebm.State, images: Tensor, recipe: Recipe) -> float:
        made.append((state.update, state.restarts))
        difference = real(state, images, recipe)
        return bad.pop(state.update - 1, difference)

    monkeypatch.setattr(ebm, "train_step", train_step)
    return made


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9, -1e9])
def test_a_divergence_goes_back_to_the_last_good_state(
    monkeypatch: pytest.MonkeyPatch, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    made = diverging(monkeypatch, {6: value})
    trained = train()
    assert made == [(k, 0) for k in range(7)] + [(k, 1) for k in range(4, 12)]
    assert [row.restarts for row in trained.curve] == [1, 1, 1]  # the first row was made anew after the restart
    assert all(torch.isfinite(p).all() for p in trained.model.parameters())
    assert "back to update 4" in capsys.readouterr().err


def test_the_band_is_in_nats(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dataclasses.replace(RECIPE, band=100.0)  # a scaled difference of 0.5 at this tau
    diverging(monkeypatch, {5: 99.0, 6: -101.0})
    assert train(recipe).curve[-1].restarts == 1


def test_after_too_many_divergences_the_message_says_what_to_change() -> None:
    with pytest.raises(UserError, match=r"left its band at update 1 .* after 2 restarts .*; lower --recipe.lr-adam"):
        train(dataclasses.replace(RECIPE, band=1e-12, restarts=2))


def test_schedules_of_the_paper_and_of_its_code() -> None:
    assert Recipe().schedule == (150_000, 50_000)
    assert Recipe(fidelity="released").schedule == (250_000, 125_000)
    assert Recipe(fidelity="released", updates=10, switch=0).schedule == (10, 0)
    assert [Recipe().phase(k) for k in (0, 49_999, 50_000)] == ["adam", "adam", "sgd"]


@pytest.mark.parametrize(
    "change", [{"batch": 0}, {"steps": -1}, {"lr_sgd": 0.0}, {"data_noise": -1.0}, {"updates": -3}, {"updates": 0}]
)
def test_impossible_recipes_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UserError, match="EBM recipe needs"):
        dataclasses.replace(RECIPE, **change)


def test_fewer_images_than_a_batch() -> None:
    with pytest.raises(UserError, match="24 training images are fewer than one batch of 100"):
        train(dataclasses.replace(RECIPE, batch=100))


def test_one_update_of_the_papers_training() -> None:
    x = torch.rand(100, 3, 32, 32, generator=generator(0))
    recipe = Recipe(updates=1, steps=2)  # of 100 Langevin steps
    trained = train_ebm(lambda: models.build(Config()), x, recipe)
    assert torch.isfinite(torch.cat([p.flatten() for p in trained.model.parameters()])).all()
    assert trained.curve[0].phase == "adam"
