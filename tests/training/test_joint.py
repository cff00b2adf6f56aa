from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from robustgen import models
from robustgen.errors import UserError
from robustgen.models import igebm, jem
from robustgen.seeding import generator
from robustgen.training import joint
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Images
from robustgen.training.joint import Losses, Network, Recipe, State, Window, accuracy, train_joint

CONFIGS: dict[str, Any] = {
    "jem": jem.Config(size=8, channels=1, depth=10, widen=1, base=4, tau=0.05),
    "igebm": igebm.Config(size=8, channels=1, width=3),
}
RECIPE = Recipe(updates=12, batch=8, steps=3, lr=1e-3, alpha=0.5, buffer=24, reinit=0.2, save_every=4, log_every=5)
BOTH = pytest.mark.parametrize("arch", CONFIGS)


def digits(first: int, last: int) -> Images:
    """scikit-learn's digits at their own size, in an order mixed once."""
    source = load_digits()
    order = torch.randperm(len(source.target), generator=generator(0))[first:last]
    x = torch.tensor(source.images / 16, dtype=torch.float32)[:, None]
    return Images(x[order], torch.tensor(source.target)[order])


TRAIN, VALIDATION = digits(0, 900), digits(900, 1100)


def train(arch: str, recipe: Recipe = RECIPE, checkpoint: Checkpoint | None = None) -> tuple[Network, list[Window]]:
    few = Images(VALIDATION.x[:20], VALIDATION.y[:20])
    return train_joint(lambda: models.build(CONFIGS[arch]), TRAIN, few, recipe, checkpoint=checkpoint, label="toy")


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[key]) for key, x in a.state_dict().items())


def test_jem_learns_to_classify_and_its_samples_to_look_like_the_data() -> None:
    recipe = Recipe(
        updates=120, batch=32, steps=3, lr=5e-3, warmup=20, alpha=0.1, data_noise=0.1, buffer=64, reinit=0.01
    )
    config = dataclasses.replace(CONFIGS["jem"], base=8)
    state = joint.initial(lambda: models.build(config), TRAIN, recipe, "cpu")
    losses = [joint.train_step(state, TRAIN, recipe) for _ in range(recipe.updates)]
    first, last = (sum(one.loss for one in part) / 20 for part in (losses[:20], losses[-20:]))
    assert last < 0.6 * first
    assert accuracy(state.model, VALIDATION) > 0.7
    data = 2 * TRAIN.x - 1
    assert abs(state.buffer.mean() - data.mean()) < 0.15
    middle, edge = state.buffer[..., 2:6].mean(), state.buffer[..., [0, 7]].mean()
    assert middle - edge > 0.5 * (data[..., 2:6].mean() - data[..., [0, 7]].mean())


def test_igebm_learns_classes_from_energies_alone() -> None:
    recipe = Recipe(
        updates=180, batch=32, steps=3, lr=5e-3, beta1=0.0, milestones=(120,), alpha=1.0, data_noise=0.1, buffer=64,
        reinit=0.01, seed=1,
    )  # fmt: skip
    config = dataclasses.replace(CONFIGS["igebm"], width=6)
    model, curve = train_joint(lambda: models.build(config), TRAIN, VALIDATION, recipe)
    assert curve[-1].accuracy > 0.5
    assert curve[-1].loss < curve[0].loss
    assert all(row.cross_entropy is None for row in curve)
    noise = torch.rand(100, 1, 8, 8, generator=generator(1)) * 2 - 1
    images = 2 * VALIDATION.x[:100] - 1
    with torch.no_grad():
        assert cast(igebm.IGEBM, model).energy_of(images).mean() < cast(igebm.IGEBM, model).energy_of(noise).mean()


@BOTH
def test_curve(arch: str) -> None:
    model, curve = train(arch)
    assert [row.update for row in curve] == [5, 10, 12]
    assert all(0 <= row.accuracy <= 1 and row.restarts == 0 for row in curve)
    assert not any(module.training for module in model.modules())
    for row in curve:
        parts = row.energy_difference + 0.5 * row.penalty + (row.cross_entropy or 0.0)
        assert row.loss == pytest.approx(parts, rel=1e-4, abs=1e-6)
        assert row.largest_difference >= abs(row.energy_difference)


def test_loss_of_jem_is_that_of_its_paper() -> None:
    torch.manual_seed(0)
    model = models.build(CONFIGS["jem"])
    data, samples, y = torch.rand(6, 1, 8, 8), torch.rand(6, 1, 8, 8), torch.arange(6)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    expected = (
        model((samples + 1) / 2).logsumexp(1).mean()
        - model((data + 1) / 2).logsumexp(1).mean()
        + F.cross_entropy(model((data + 1) / 2), y)
    )
    expected.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    found = joint.descend(cast(jem.JEM, model), torch.optim.SGD(model.parameters(), lr=0.1), data, samples, y, 0.0)
    assert found.loss == pytest.approx(float(expected.detach()), rel=1e-4)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] - 0.1 * cast(Tensor, gradients[name]), rtol=1e-4, atol=1e-6)


def test_loss_of_igebm_is_that_of_its_paper() -> None:
    torch.manual_seed(0)
    model = cast(igebm.IGEBM, models.build(CONFIGS["igebm"]))
    data, samples, y = torch.rand(6, 1, 8, 8), torch.rand(6, 1, 8, 8), torch.arange(6)
    model.train().energy_of(data, y)  # a pass moves the power iterations: these first, then the same again
    reference = models.build(CONFIGS["igebm"])
    reference.load_state_dict(model.state_dict())
    both = cast(igebm.IGEBM, reference).train().energy_of(torch.cat([data, samples]), torch.cat([y, y]))
    plus, minus = both[:6].detach(), both[6:].detach()
    found = joint.descend(model, torch.optim.SGD(model.parameters(), lr=0.0), data, samples, y, 2.0)
    expected = plus.mean() - minus.mean() + 2 * (plus.square().mean() + minus.square().mean())
    assert found.loss == pytest.approx(float(expected), rel=1e-4)
    assert found.cross_entropy is None


@BOTH
def test_buffer_is_written_back_where_it_was_drawn(arch: str) -> None:
    state = joint.initial(lambda: models.build(CONFIGS[arch]), TRAIN, RECIPE, "cpu")
    before = state.buffer.clone()
    assert (before.min(), before.max()) > (-1, 0.9)
    joint.train_step(state, TRAIN, RECIPE)
    moved = [i for i, (a, b) in enumerate(zip(before, state.buffer, strict=True)) if not torch.equal(a, b)]
    draws = generator(RECIPE.seed, "update", 0, 0)
    torch.randperm(len(TRAIN.x), generator=draws)
    torch.randn((8, 1, 8, 8), generator=draws)
    assert moved == sorted(torch.randperm(24, generator=draws)[:8].tolist())


@pytest.mark.parametrize(("reinit", "far"), [(0.0, True), (1.0, False)])
def test_chains_go_on_or_start_afresh(reinit: float, far: bool) -> None:
    recipe = dataclasses.replace(RECIPE, reinit=reinit, buffer=8)
    state = joint.initial(lambda: models.build(CONFIGS["jem"]), TRAIN, recipe, "cpu")
    state.buffer.fill_(5.0)
    joint.train_step(state, TRAIN, recipe)
    assert bool((state.buffer.mean((1, 2, 3)) > 3).all()) is far
    assert bool((state.buffer.mean((1, 2, 3)).abs() < 1).all()) is not far


@BOTH
def test_sampler_steps_are_the_models_own(arch: str) -> None:
    torch.manual_seed(0)
    model = cast(Network, models.build(CONFIGS[arch]).eval())
    v, y = torch.rand(3, 1, 8, 8) * 2 - 1, torch.tensor([1, 2, 3])
    found = joint.sample(model, v, y, 1, generator(5))
    z = torch.randn((1, 3, 1, 8, 8), generator=generator(5))[0]
    leaf = v.clone().requires_grad_()
    energy = model.scaled_energy(leaf) if arch == "jem" else 40.0 * cast(igebm.IGEBM, model).energy_of(leaf, y)
    (gradient,) = torch.autograd.grad(energy.sum(), leaf)
    torch.testing.assert_close(found, v - gradient + model.tau * z)


@BOTH
def test_equal_seeds_give_equal_weights(arch: str) -> None:
    recipe = dataclasses.replace(RECIPE, updates=3)
    torch.manual_seed(1)
    first, curve = train(arch, recipe)
    torch.manual_seed(2)
    again, curve_again = train(arch, recipe)
    assert same(first, again)
    assert curve == curve_again
    assert not same(first, train(arch, dataclasses.replace(recipe, seed=1))[0])


@BOTH
@pytest.mark.parametrize("stop", [3, 7, 12])
def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arch: str, stop: int
) -> None:
    checkpoint, real = Checkpoint("toy", tmp_path), joint.train_step

    def interrupted(state: State, images: Images, recipe: Recipe) -> Losses:
        if state.update == stop - 1:
            raise KeyboardInterrupt
        return real(state, images, recipe)

    with monkeypatch.context() as patch:
        patch.setattr(joint, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(arch, checkpoint=checkpoint)
    assert checkpoint.path.is_file() is (stop > 4)
    capsys.readouterr()
    model, curve = train(arch, checkpoint=checkpoint)
    assert ("resuming after update" in capsys.readouterr().err) is (stop > 4)
    whole, whole_curve = train(arch)
    assert same(model, whole)
    assert curve == whole_curve


def diverging(monkeypatch: pytest.MonkeyPatch, bad: dict[int, dict[str, float]]) -> list[tuple[int, int]]:
    """Let the first pass over the updates in `bad` end with these losses; the updates made, with restarts."""
    made, real = [], joint.train_step

    def train_step(state: State, images: Images, recipe: Recipe) -> Losses:
        made.append((state.update, state.restarts))
        losses = real(state, images, recipe)
        return dataclasses.replace(losses, **bad.pop(state.update - 1, {}))

    monkeypatch.setattr(joint, "train_step", train_step)
    return made


@BOTH
@pytest.mark.parametrize(
    "values", [{"loss": float("nan")}, {"energy_difference": float("inf")}, {"energy_difference": -1001.0}]
)
def test_a_divergence_goes_back_to_the_last_good_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arch: str, values: dict[str, float]
) -> None:
    made = diverging(monkeypatch, {6: values})
    model, curve = train(arch)
    assert made == [(k, 0) for k in range(7)] + [(k, 1) for k in range(4, 12)]
    assert [row.restarts for row in curve] == [1, 1, 1]  # the first row was made anew after the restart
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert "training diverged at update 7" in (message := capsys.readouterr().err)
    assert "back to update 4 with other draws" in message


def test_a_divergence_that_comes_back_ends_the_training() -> None:
    with pytest.raises(UserError, match=r"diverged at update \d+ .* after 2 restarts .*; lower --recipe.lr, or raise"):
        train("jem", dataclasses.replace(RECIPE, lr=50.0, updates=100, band=100.0, restarts=2))


def test_restarts_survive_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        diverging(patch, {2: {"loss": float("nan")}})
        expected, _ = train("jem")
        made = diverging(patch, {2: {"loss": float("nan")}})
        short = dataclasses.replace(RECIPE, updates=9)
        train("jem", short, Checkpoint("toy", tmp_path))  # its last checkpoint is after update 8
        assert made[-1] == (8, 1)
    model, curve = train("jem", checkpoint=Checkpoint("toy", tmp_path))
    assert same(model, expected)
    assert curve[-1].restarts == 1


def test_learning_rate_warms_up_and_falls() -> None:
    recipe = dataclasses.replace(RECIPE, lr=0.1, warmup=4, milestones=(6, 9))
    expected = [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.03, 0.03, 0.03, 0.009]
    assert [recipe.rate(k) for k in range(10)] == pytest.approx(expected)
    assert RECIPE.rate(0) == RECIPE.lr
    state = joint.initial(lambda: models.build(CONFIGS["jem"]), TRAIN, recipe, "cpu")
    joint.train_step(state, TRAIN, recipe)
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.025)


def test_images_are_augmented_and_noised(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def descend(_: Any, __: Any, data: Tensor, *___: Any) -> Losses:
        seen.append(data)
        return Losses(0.0, 0.0, None, 0.0)

    monkeypatch.setattr(joint, "descend", descend)
    for change in ({"data_noise": 0.0}, {"data_noise": 0.0, "flip": True, "crop": 1}, {"data_noise": 0.5}):
        train("jem", dataclasses.replace(RECIPE, updates=1, batch=24, steps=1, **change))  # type: ignore[arg-type]
    clean, augmented, noised = seen
    plain = {tuple(image.flatten().tolist()) for image in 2 * TRAIN.x - 1}
    assert all(tuple(image.flatten().tolist()) in plain for image in clean)
    assert not torch.equal(augmented, clean)
    assert {round(value, 4) for value in augmented.unique().tolist()} <= {round(k / 8 - 1, 4) for k in range(17)}
    assert 0.4 < (noised - clean).std() < 0.6


@pytest.mark.parametrize(
    "wrong",
    [{"updates": 0}, {"steps": 0}, {"lr": 0.0}, {"buffer": 7}, {"reinit": 1.5}, {"alpha": -1.0}, {"beta1": 1.0}],
)
def test_recipes_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="a joint recipe needs"):
        dataclasses.replace(RECIPE, **wrong)
    with pytest.raises(UserError, match="a band needs"):
        dataclasses.replace(RECIPE, band=0.0)


def test_fewer_images_than_a_batch() -> None:
    with pytest.raises(UserError, match="900 training images are fewer than one batch of 901"):
        train("jem", dataclasses.replace(RECIPE, batch=901, buffer=901))


@pytest.mark.parametrize(
    ("config", "recipe"),
    [
        (jem.Config(), Recipe(updates=1, batch=2, steps=1, warmup=1000, flip=True, crop=4)),
        (
            igebm.Config(),
            Recipe(updates=1, batch=2, steps=1, lr=3e-4, beta1=0.0, alpha=1.0, data_noise=0.0),
        ),
    ],
    ids=["jem", "igebm"],
)
def test_one_update_of_the_published_trainings(config: Any, recipe: Recipe) -> None:
    """The batch cut to 2, the sampler to 1 step, the buffer to 10 states."""
    data = Images(torch.rand(2, 3, 32, 32, generator=generator(0)), torch.tensor([3, 9]))
    state = joint.initial(lambda: models.build(config), data, dataclasses.replace(recipe, buffer=10), "cpu")
    losses = joint.train_step(state, data, recipe)
    assert recipe.limits.holds(losses.energy_difference, losses.loss)
    assert all(torch.isfinite(p).all() for p in state.model.parameters())
    assert (state.buffer.abs() > 1).any()  # moved, and not clamped
