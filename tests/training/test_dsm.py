from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.models.ncsnv2 import Config, NCSNv2, noise_levels
from robustgen.protocols import ScoreModel
from robustgen.seeding import generator
from robustgen.training import dsm
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.dsm import Recipe, Window, level_losses, losses, train_dsm, validation_loss
from robustgen.training.perturbations import Perturbation, perturb

CONFIG = Config(size=8, channels=1, width=2, sigma_first=2.0, sigma_last=0.02, levels=6)
SIGMAS = noise_levels(CONFIG)
RECIPE = Recipe(updates=12, batch=8, lr=1e-3, ema=0.9, save_every=4, log_every=5)


class Toy(nn.Module):
    """A score network that knows one image, for what is tested of the training of any."""

    sigmas: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sigmas", SIGMAS.clone(), persistent=False)
        self.image = nn.Parameter(torch.rand(1, 1, 8, 8))
        self.mix = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        noise = x - self.image
        unit = noise / noise.square().mean((1, 2, 3), keepdim=True).sqrt()
        found: Tensor = self.mix(unit) - unit
        return found

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self(x) / sigma.view(-1, 1, 1, 1)


def images(n: int = 24) -> Tensor:
    """Bright squares on a dark ground, to the left."""
    x = torch.rand(n, 1, 8, 8, generator=generator(0)) * 0.2
    x[:, :, 2:6, 1:4] += 0.6
    return x


def train(recipe: Recipe = RECIPE, checkpoint: Checkpoint | None = None) -> tuple[nn.Module, list[Window]]:
    return train_dsm(Toy, images(), images(9), recipe, checkpoint=checkpoint, label="toy")


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[key]) for key, x in a.state_dict().items())


class Oracle(nn.Module):
    """The best that a network can answer where all images are one image: it sees x̃ and knows the image's noise."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image
        self.register_buffer("sigmas", torch.tensor([2.0, 0.5, 0.1]))

    def forward(self, x: Tensor) -> Tensor:
        noise = x - self.image
        return -noise / noise.square().flatten(1).mean(1).sqrt().view(-1, 1, 1, 1)


class Silent(Oracle):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_the_loss_is_the_score_matching_objective_weighted_by_the_variance() -> None:
    torch.manual_seed(0)
    model = NCSNv2(CONFIG)
    x, sigma = images(6), model.sigmas
    z = torch.randn(x.shape, generator=generator(1))
    noisy = x + sigma.view(-1, 1, 1, 1) * z
    target = -(noisy - x) / sigma.view(-1, 1, 1, 1) ** 2  # ∇ log q(x̃|x)
    objective = (model.score(noisy, sigma) - target).square().flatten(1).sum(1) / 2
    torch.testing.assert_close(losses(model, x, sigma, z), sigma**2 * objective, rtol=1e-4, atol=1e-4)


def test_losses_of_networks_that_know_all_and_nothing() -> None:
    image = torch.rand(1, 1, 16, 16, generator=generator(0))
    batch = image.expand(600, -1, -1, -1)
    for model, expected in ((Oracle(image), 0.002), (Silent(image), 1.0)):
        found = level_losses(model, batch)  # type: ignore[arg-type]
        assert found.shape == (3,)
        torch.testing.assert_close(found, torch.full((3,), expected), atol=0.01, rtol=0)
        assert validation_loss(model, batch) == pytest.approx(128 * expected, abs=1.5)  # type: ignore[arg-type]


def test_the_network_learns_to_tell_noise_from_images() -> None:
    recipe = dataclasses.replace(RECIPE, updates=300, batch=16, lr=1e-2, flip=False, log_every=50)
    model, curve = train(recipe)
    assert curve[-1].validation_loss < 0.7 * curve[0].validation_loss
    assert curve[-1].loss < 0.7 * curve[0].loss < 32  # a network that always answers 0 has 32
    x = images(9)
    noise = 0.3 * torch.randn(x.shape, generator=generator(1))
    with torch.no_grad():
        denoised = x + noise + 0.3 * model(x + noise)
    assert (denoised - x).square().mean() < 0.4 * noise.square().mean()
    assert not model.training
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", ["none", "dct", "augmix", "dct-augmix"])
def test_a_step_regresses_on_the_score_around_the_perturbed_image(
    monkeypatch: pytest.MonkeyPatch, kind: Perturbation
) -> None:
    recipe = dataclasses.replace(RECIPE, flip=False, perturbation=kind)
    seen, real = [], dsm.losses

    def spy(model: ScoreModel, centre: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
        seen.append((centre, sigma, z))
        return real(model, centre, sigma, z)

    monkeypatch.setattr(dsm, "losses", spy)
    train(dataclasses.replace(recipe, updates=1))
    centre, sigma, z = seen[0]
    draws = generator(0, "update", 0, 0)
    rows = torch.randperm(24, generator=draws)[:8]
    levels = torch.randint(6, (8,), generator=draws)
    assert torch.equal(sigma, SIGMAS[levels])
    assert torch.equal(centre, perturb(images()[rows], kind, draws))
    assert abs(float(z.std()) - 1) < 0.2


def test_levels_are_drawn_evenly_and_half_of_the_images_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(model: nn.Module, centre: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
        seen.append((centre, sigma))
        return sum(p.sum() for p in model.parameters()) * torch.zeros(len(centre))

    monkeypatch.setattr(dsm, "losses", spy)
    train(dataclasses.replace(RECIPE, updates=100, log_every=1000, save_every=1000))
    seen = seen[:100]
    drawn = torch.cat([sigma for _, sigma in seen])
    shares = [float((drawn == sigma).float().mean()) for sigma in SIGMAS]
    assert all(abs(share - 1 / 6) < 4 * (5 / 36 / 800) ** 0.5 for share in shares)
    mirrored = torch.cat([x[:, 0, 4, 6] > x[:, 0, 4, 1] for x, _ in seen]).float().mean()
    assert abs(mirrored - 0.5) < 4 * (0.25 / 800) ** 0.5
    seen.clear()
    train(dataclasses.replace(RECIPE, flip=False))
    assert all((x[:, 0, 4, 6] < x[:, 0, 4, 1]).all() for x, _ in seen)


def test_the_average_follows_the_weights() -> None:
    recipe = dataclasses.replace(RECIPE, updates=3, ema=0.2)  # in update 0 the ramp has 1/10, then 2/11 and 0.2
    weights = []
    torch.manual_seed(dsm.derive(0, "init"))
    weights.append(Toy().state_dict())
    for updates in (1, 2, 3):
        model, _ = train(dataclasses.replace(recipe, updates=updates, weights="raw"))
        weights.append(model.state_dict())
    found, _ = train(recipe)
    for name, value in found.state_dict().items():
        expected = weights[0][name]
        for decay, new in zip((0.1, 2 / 11, 0.2), weights[1:], strict=True):
            expected = decay * expected + (1 - decay) * new[name]
        torch.testing.assert_close(value, expected)
    assert not same(found, model)


def test_warmup_and_milestones() -> None:
    recipe = Recipe(lr=1.0, warmup=4, milestones=(6, 8), gamma=0.5)
    assert [recipe.rate(k) for k in range(10)] == [0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert Recipe(lr=0.1).rate(0) == 0.1
    _, curve = train(dataclasses.replace(RECIPE, lr=0.01, warmup=10, milestones=(11,), gamma=0.1))
    assert [row.lr for row in curve] == pytest.approx([0.005, 0.01, 0.001])


def test_the_curve_has_the_means_of_its_updates() -> None:
    _, rows = train(dataclasses.replace(RECIPE, log_every=1))
    _, curve = train()
    assert [row.update for row in curve] == [5, 10, 12]
    assert curve[0].loss == pytest.approx(sum(row.loss for row in rows[:5]) / 5)
    assert curve[2].loss == pytest.approx(sum(row.loss for row in rows[10:]) / 2)
    assert curve[1].validation_loss == rows[9].validation_loss


def test_equal_seeds_give_equal_weights() -> None:
    torch.manual_seed(1)
    first, _ = train()
    torch.manual_seed(2)
    assert same(first, train()[0])
    assert not same(first, train(dataclasses.replace(RECIPE, seed=1))[0])


@pytest.mark.parametrize("stop", [5, 9, 12])
def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    recipe = dataclasses.replace(RECIPE, perturbation="dct-augmix", warmup=3)
    checkpoint, real = Checkpoint("toy", tmp_path), dsm.train_step

    def interrupted(state: dsm.State, images: Tensor, recipe: Recipe) -> float:
        if state.update == stop - 1:
            raise KeyboardInterrupt
        return real(state, images, recipe)

    with monkeypatch.context() as patch:
        patch.setattr(dsm, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, checkpoint)
    assert checkpoint.path.is_file()
    (resumed, curve), (whole, expected) = train(recipe, checkpoint), train(recipe)
    assert same(resumed, whole)
    assert curve == expected


def diverging(monkeypatch: pytest.MonkeyPatch, bad: dict[int, float]) -> list[tuple[int, int]]:
    """Let the first pass over the updates in `bad` end with that loss; the updates made, with restarts."""
    made, real = [], dsm.train_step

    def train_step(state: dsm.State, images: Tensor, recipe: Recipe) -> float:
        made.append((state.update, state.restarts))
        loss = real(state, images, recipe)
        return bad.pop(state.update - 1, loss)

    monkeypatch.setattr(dsm, "train_step", train_step)
    return made


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_a_divergence_goes_back_to_the_last_good_state(
    monkeypatch: pytest.MonkeyPatch, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    made = diverging(monkeypatch, {6: value})
    _, curve = train()
    assert made == [(k, 0) for k in range(7)] + [(k, 1) for k in range(4, 12)]
    assert [row.restarts for row in curve] == [1, 1, 1]  # the first row was made anew after the restart
    assert "back to update 4" in capsys.readouterr().err


def test_after_a_restart_other_draws_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    diverging(monkeypatch, {6: float("nan")})
    found, _ = train()
    monkeypatch.undo()
    assert not same(found, train()[0])


def test_a_weight_that_is_no_number_counts_as_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    real, broken = dsm.train_step, []

    def train_step(state: dsm.State, images: Tensor, recipe: Recipe) -> float:
        if state.update == 6 and not broken:
            broken.append(True)
            with torch.no_grad():
                next(state.model.parameters()).fill_(float("nan"))
        return real(state, images, recipe)

    monkeypatch.setattr(dsm, "train_step", train_step)
    model, curve = train()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert curve[-1].restarts == 1


def test_the_band_is_a_multiple_of_knowing_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    diverging(monkeypatch, {5: 32 * 49.0, 6: 32 * 51.0})
    _, curve = train(dataclasses.replace(RECIPE, band=50.0))
    assert curve[-1].restarts == 1


def test_after_too_many_divergences_the_message_says_what_to_change() -> None:
    with pytest.raises(UserError, match=r"left its band at update 1 .* after 2 restarts .*; lower --recipe.lr"):
        train(dataclasses.replace(RECIPE, band=1e-12, restarts=2))


def test_weights_that_the_last_update_spoilt_are_not_a_model() -> None:
    with pytest.raises(UserError, match=r"diverged in its last updates; lower --recipe.lr"):
        train(dataclasses.replace(RECIPE, updates=1, lr=1e30))


@pytest.mark.parametrize("change", [{"batch": 0}, {"lr": 0.0}, {"ema": 1.0}, {"gamma": 0.0}, {"warmup": -1}])
def test_impossible_recipes_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UserError, match="a recipe needs positive counts"):
        dataclasses.replace(RECIPE, **change)


def test_fewer_images_than_a_batch() -> None:
    with pytest.raises(UserError, match="24 training images are fewer than one batch of 100"):
        train(dataclasses.replace(RECIPE, batch=100))


def test_bfloat16_learns_too() -> None:
    recipe = dataclasses.replace(RECIPE, updates=40, lr=5e-3, log_every=20)
    exact_model, exact = train(recipe)
    model, rough = train(dataclasses.replace(recipe, precision="bfloat16"))
    assert rough[1].loss < rough[0].loss
    assert rough[1].loss == pytest.approx(exact[1].loss, rel=0.1)
    assert not same(model, exact_model)
    assert all(p.dtype == torch.float32 for p in model.parameters())
