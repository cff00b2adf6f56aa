from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustgen.errors import UserError
from robustgen.models.aae import AAE, Config
from robustgen.seeding import derive, generator, seeded
from robustgen.training import aae
from robustgen.training.aae import (
    Batch,
    Check,
    Feed,
    Recipe,
    Terms,
    autoencoder_terms,
    discriminator_loss,
    kl_divergence,
    objective,
    outliers,
    reconstruction_costs,
    train_autoencoder,
    train_step,
)
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Images

CONFIG = Config(
    size=8,
    classes=4,
    latent=3,
    encoder_channels=(6, 8),
    encoder_kernels=(3, 4),
    encoder_strides=(2, 1),
    encoder_paddings=(1, 0),
    decoder_channels=(8, 6, 1),
    decoder_kernels=(4, 4, 1),
    decoder_strides=(1, 2, 1),
    decoder_paddings=(0, 1, 0),
    neurons=(12, 6),
)
RECIPE = Recipe(epochs=4, batch=16, lr=0.01, noise=0.05, check_every=2)
SWITCHES = list(itertools.product((True, False), repeat=2))  # A, D


def data(n: int, seed: int) -> Images:
    """Images of four classes that differ in a bright quarter."""
    y = torch.arange(n) % 4
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 0.3
    for row, label in enumerate(y.tolist()):
        top, left = divmod(label, 2)
        x[row, :, top * 4 : top * 4 + 4, left * 4 : left * 4 + 4] += 0.6
    return Images(x, y)


TRAIN, VALIDATION = data(50, 0), data(22, 1)


def made(seed: int = 0, **changes: Any) -> AAE:
    torch.manual_seed(seed)
    return AAE(dataclasses.replace(CONFIG, **changes))


def train(model: AAE, recipe: Recipe = RECIPE, checkpoint: Checkpoint | None = None) -> tuple[AAE, list[Check]]:
    return train_autoencoder(model, TRAIN, VALIDATION, recipe, checkpoint=checkpoint)


def updated(model: AAE, recipe: Recipe = RECIPE) -> tuple[AAE, Tensor]:
    """A copy after one update on the first batch, and its losses."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    return model, train_step(model, optimizer, Feed(TRAIN, model, recipe).batch(0), recipe, 0)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[key]) for key, x in a.state_dict().items())


@pytest.mark.parametrize(("adversarial", "shared"), SWITCHES)
def test_all_switches_learn(adversarial: bool, shared: bool) -> None:
    start = made(adversarial=adversarial, shared=shared)
    before = copy.deepcopy(start)
    model, curve = train(start, dataclasses.replace(RECIPE, epochs=16, check_every=4))
    assert same(start, before)
    assert not model.training
    first, last = curve[0], curve[-1]
    assert [row.epoch for row in curve] == [4, 8, 12, 16]
    assert last.reconstruction < first.reconstruction
    assert last.validation_reconstruction < 0.8 * first.validation_reconstruction
    assert last.accuracy > 0.9
    assert (last.discriminator > 0) == adversarial
    assert (last.cross_entropy > 0) == shared
    with torch.no_grad():
        logits = model(VALIDATION.x)
    assert last.accuracy == float((logits.argmax(1) == VALIDATION.y).float().mean())
    own = -logits.gather(1, VALIDATION.y[:, None]).mean()
    assert last.validation_reconstruction == pytest.approx(float(own), rel=1e-5)


@pytest.mark.parametrize(
    ("adversarial", "shared", "cost"), [(*each, cost) for each in SWITCHES for cost in ("sum", "mean")]
)
def test_one_update_moves_every_network(adversarial: bool, shared: bool, cost: Any) -> None:
    start = made(adversarial=adversarial, shared=shared)
    model, losses = updated(start, dataclasses.replace(RECIPE, cost=cost))
    assert losses.isfinite().all()
    still = [name for name, weight in start.named_parameters() if torch.equal(weight, model.get_parameter(name))]
    biased_away = "convolutions"  # biases ahead of batch norm have a gradient of zero, up to rounding
    assert all(biased_away in name and name.endswith("bias") for name in still)


def doubled(batch: Batch) -> Batch:
    return Batch(*(each.double() if each.is_floating_point() else each for each in vars(batch).values()))


@torch.no_grad()
@pytest.mark.parametrize("cost", ["sum", "mean"])
def test_losses_of_e_abs_by_hand(cost: Any) -> None:
    """Eq. 5 and the discriminator's loss, image by image, with probabilities and their logarithms as printed."""
    recipe = dataclasses.replace(RECIPE, cost=cost, beta=0.7, gamma=3.0)
    model = made().double().eval()
    batch = doubled(Feed(TRAIN, model, recipe).batch(0))
    terms, z = autoencoder_terms(model, batch, recipe)
    mean, log_variance = model.encode_own(batch.x)
    torch.testing.assert_close(z, mean + log_variance.exp().sqrt() * batch.noise[:, :16])
    assert model.discriminator is not None
    total, fooled, pixels = [], [], 1 if cost == "sum" else 64
    for x, y, latent in zip(batch.x[0], batch.y[0].tolist(), z[0], strict=True):
        images = [model.member(k)(latent[None])[0] for k in range(4)]
        costs = [float((x - image).pow(2).sum()) / pixels for image in images]
        d = float(torch.sigmoid(model.discriminator(latent[None, None])))
        share = math.exp(-costs[y]) / sum(math.exp(-c) for c in costs)
        total.append(costs[y] - 0.7 * math.log(d) - 3.0 * math.log(share))
        fooled.append(math.log(1 - d))
    assert float(objective(terms, recipe)) == pytest.approx(sum(total) / 16)
    real = torch.sigmoid(model.discriminator(batch.prior)).log().mean()
    loss = discriminator_loss(model, batch.prior, z, None)
    assert float(loss) == pytest.approx(-float(real) - sum(fooled) / 16)


@torch.no_grad()
def test_losses_of_variational_autoencoders_by_hand() -> None:
    recipe = dataclasses.replace(RECIPE, beta=0.7)
    model = made(adversarial=False, shared=False).double().eval()
    batch = doubled(Feed(TRAIN, model, recipe).batch(0))
    terms, z = autoencoder_terms(model, batch, recipe)
    mean, log_variance = model.encode_own(batch.x)
    prior = torch.distributions.Normal(torch.zeros_like(mean), 1)
    divergence = torch.distributions.kl_divergence(torch.distributions.Normal(mean, (log_variance / 2).exp()), prior)
    torch.testing.assert_close(kl_divergence(mean, log_variance), divergence.sum(-1))
    own = torch.stack([(batch.x[k] - model.member(k)(z[k])).pow(2).sum((1, 2, 3)) for k in range(4)])
    torch.testing.assert_close(objective(terms, recipe), own.mean() + 0.7 * divergence.sum(-1).mean())
    assert terms.cross_entropy == 0


def test_discriminative_loss_counts_with_one_encoder_alone() -> None:
    terms = Terms(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0))
    assert objective(terms, dataclasses.replace(RECIPE, beta=10, gamma=100)) == 321
    for adversarial in (True, False):
        start = made(adversarial=adversarial, shared=False)
        assert same(*(updated(start, dataclasses.replace(RECIPE, gamma=gamma))[0] for gamma in (0.0, 50.0)))
        start = made(adversarial=adversarial)
        assert not same(*(updated(start, dataclasses.replace(RECIPE, gamma=gamma))[0] for gamma in (0.0, 50.0)))


def test_costs_of_every_class_for_every_image() -> None:
    model = made().double().eval()
    x, z = torch.rand(1, 5, 1, 8, 8).double(), torch.randn(1, 5, 3).double()
    expected = torch.stack([(x[0] - model.member(k)(z[0])).pow(2).sum((1, 2, 3)) for k in range(4)], 1)
    torch.testing.assert_close(reconstruction_costs(model, x, z, "sum"), expected)
    torch.testing.assert_close(reconstruction_costs(model, x, z, "mean"), expected / 64)


def test_signs() -> None:
    """Discriminators learn to tell latents from the prior, encoders to hide the difference."""
    model = made().double()
    prior, z = torch.randn(1, 64, 3).double(), torch.randn(1, 64, 3).double() + 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = float(discriminator_loss(model, prior, z, None).detach())
    for _ in range(60):
        optimizer.zero_grad()
        discriminator_loss(model, prior, z, None).backward()
        optimizer.step()
    assert float(discriminator_loss(model, prior, z, None).detach()) < first / 2
    assert model.discriminate_own(prior).mean() > 0 > model.discriminate_own(z).mean()
    z.requires_grad_()
    regulariser = -model.log_d(z[0][:, None]).sum()
    (gradient,) = torch.autograd.grad(regulariser, z)
    assert (gradient[0] * z[0].detach()).sum() > 0  # descent leads back to the prior


def alone(model: AAE, k: int) -> AAE:
    """The networks of class k, as a model of one class."""
    part = AAE(dataclasses.replace(model.config, classes=1)).double()
    state = model.state_dict().items()
    part.load_state_dict({name: value.chunk(4)[k] if value.dim() else value for name, value in state})
    return part


@pytest.mark.parametrize("adversarial", [True, False])
def test_classes_train_together_as_alone(adversarial: bool) -> None:
    """Without D, and discriminators that see no other class: several updates, the same draws."""
    recipe = dataclasses.replace(RECIPE, outliers=False)
    model = made(adversarial=adversarial, shared=False, dropout=0.0).double()
    batches = [doubled(Feed(TRAIN, model, recipe).batch(update)) for update in range(3)]
    parts = [alone(model, k) for k in range(4)]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    together = [train_step(model, optimizer, batch, recipe, update) for update, batch in enumerate(batches)]
    separate = []
    for k, part in enumerate(parts):
        optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
        rows = [Batch(*(tensor[k : k + 1] for tensor in vars(batch).values())) for batch in batches]
        separate.append([train_step(part, optimizer, batch, recipe, update) for update, batch in enumerate(rows)])
    for update, losses in enumerate(together):
        torch.testing.assert_close(losses, torch.stack([each[update] for each in separate]).mean(0))
    for k, part in enumerate(parts):
        for name, weight in alone(model, k).named_parameters():
            if not ("convolutions" in name and name.endswith("bias")):  # no gradient ahead of batch norm but rounding
                torch.testing.assert_close(weight, part.get_parameter(name), rtol=1e-4, atol=1e-5)


def test_batches_without_d_are_of_one_class_a_row() -> None:
    model = made(shared=False)
    batch = Feed(TRAIN, model, RECIPE).batch(3)
    assert batch.x.shape == (4, 4, 1, 8, 8)
    assert batch.y.tolist() == [[k] * 4 for k in range(4)]
    assert batch.noise.shape == (4, 8, 3)
    assert batch.prior.shape == (4, 4, 3)
    shared = Feed(TRAIN, made(), RECIPE)
    assert shared.batch(0).x.shape == (1, 16, 1, 8, 8)
    assert shared.updates == 4


def test_an_epoch_meets_every_image() -> None:
    feed = Feed(TRAIN, made(), dataclasses.replace(RECIPE, batch=10, noise=0.0))
    seen = torch.cat([feed.batch(update).x[0] for update in range(feed.updates)]).flatten(1)
    assert sorted(seen.tolist()) == sorted(TRAIN.x.flatten(1).tolist())


def test_noise_is_gaussian_and_not_clipped() -> None:
    clean, noisy = (
        Feed(TRAIN, made(), dataclasses.replace(RECIPE, batch=50, noise=noise)).batch(0) for noise in (0.0, 0.5)
    )
    added = noisy.x - clean.x
    assert float(added.std()) == pytest.approx(0.5, rel=0.05)
    assert noisy.x.min() < 0
    assert noisy.x.max() > 1
    assert torch.equal(noisy.y, clean.y)


def test_discriminators_of_classes_see_latents_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(shared=False)
    batch = Feed(TRAIN, model, RECIPE).batch(0)
    before = copy.deepcopy(model)
    found = outliers(model, batch)
    assert same(model, before)
    assert found.shape == (4, 4, 3)
    model.eval()
    with torch.no_grad():
        mean, log_variance = model.encode(batch.x.flatten(0, 1))  # of every image by every class's encoder
    sources = []
    for k in range(4):
        rows = []
        for j in range(4):
            noise = batch.noise[k, 4 + j]
            z = mean[:, k] + (log_variance[:, k] / 2).exp() * noise
            rows.append(int((z - found[k, j]).abs().amax(1).argmin()))
            torch.testing.assert_close(z[rows[-1]], found[k, j], rtol=1e-4, atol=1e-5)
        sources.append({int(batch.y.flatten()[row]) for row in rows})
    assert sources == [{0, 1, 2, 3} - {k} for k in range(4)]  # every other class, never its own
    seen: list[Tensor | None] = []
    original = discriminator_loss

    def spy(model: AAE, prior: Tensor, z: Tensor, others: Tensor | None) -> Tensor:
        seen.append(others)
        return original(model, prior, z, others)

    monkeypatch.setattr(aae, "discriminator_loss", spy)
    for shared, wanted in itertools.product((True, False), repeat=2):
        updated(made(shared=shared), dataclasses.replace(RECIPE, outliers=wanted))
        assert (seen.pop() is not None) == (wanted and not shared)


def test_others_weigh_as_much_as_own_latents() -> None:
    model = made(shared=False)
    prior, z, others = (torch.randn(4, 6, 3) + shift for shift in (0, 1, 2))
    without, of_others = (discriminator_loss(model, prior, each, None) for each in (z, others))
    torch.testing.assert_close(discriminator_loss(model, prior, z, others), (without + of_others) / 2)


def test_the_discriminator_s_step_leaves_the_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step moves its own networks, on the latents sampled before both (Algorithm 1)."""
    start, held = made(), dict[str, Any]()
    original = discriminator_loss

    def spy(model: AAE, prior: Tensor, z: Tensor, others: Tensor | None) -> Tensor:
        assert not z.requires_grad
        held["z"], held["state"] = z, copy.deepcopy(model.state_dict())
        return original(model, prior, z, others)

    monkeypatch.setattr(aae, "discriminator_loss", spy)
    model, _ = updated(start)
    for name, value in model.state_dict().items():
        between = torch.equal(value, held["state"][name])
        assert between != name.startswith("discriminator")
        if name.startswith("discriminator"):
            assert torch.equal(held["state"][name], start.state_dict()[name])
    fresh = copy.deepcopy(start).train()
    with seeded(torch.device("cpu"), derive(RECIPE.seed, "dropout", 0)):
        _, z = autoencoder_terms(fresh, Feed(TRAIN, fresh, RECIPE).batch(0), RECIPE)
    torch.testing.assert_close(held["z"], z.detach())


@pytest.mark.parametrize(("adversarial", "shared"), SWITCHES)
def test_training_is_deterministic_and_resumes(tmp_path: Path, adversarial: bool, shared: bool) -> None:
    """Bit for bit, whatever the global generator is at, dropout included."""
    start = made(adversarial=adversarial, shared=shared)
    whole, curve = train(start)
    torch.manual_seed(99)
    again, same_curve = train(start)
    assert same(whole, again)
    assert curve == same_curve
    checkpoint = Checkpoint({"of": "training"}, tmp_path)
    _, part = train(start, dataclasses.replace(RECIPE, epochs=2), checkpoint)
    resumed, rest = train(start, RECIPE, checkpoint)
    assert part == curve[:1]
    assert rest == curve
    assert same(resumed, whole)
    other, _ = train(start, dataclasses.replace(RECIPE, seed=1))
    assert not same(other, whole)


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    updated(start := made())
    torch.set_rng_state(before)
    first = torch.rand(3)
    torch.set_rng_state(before)
    updated(start)
    assert torch.equal(torch.rand(3), first)


def test_learning_rate_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    def spy(model: AAE, optimizer: torch.optim.Optimizer, *_: Any) -> Tensor:
        rates.append(optimizer.param_groups[0]["lr"])
        return torch.zeros(4)

    monkeypatch.setattr(aae, "train_step", spy)
    train(made(), dataclasses.replace(RECIPE, epochs=5, halve_every=2, batch=50))
    assert rates == [0.01, 0.01, 0.005, 0.005, 0.0025]


def test_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best validation accuracy, of equal ones the latest; or the last."""
    kept = []
    for select, epochs in (("accuracy", 4), ("last", 4), ("last", 3)):
        accuracies = iter([0.5, 0.9, 0.9, 0.2])
        monkeypatch.setattr(aae, "validate", lambda *_, accuracies=accuracies: (next(accuracies), 1.0))
        changes: dict[str, Any] = {"select": select, "epochs": epochs, "check_every": 1}
        kept.append(train(made(), dataclasses.replace(RECIPE, **changes))[0])
    best, last, third = kept
    assert same(best, third)
    assert not same(best, last)


def test_a_diverged_training_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"train: after epoch 2 a loss is no longer finite; lower --recipe\.lr"):
        train(made(), dataclasses.replace(RECIPE, lr=1e30))


@pytest.mark.parametrize("shared", [True, False])
def test_labels_that_do_not_fit(shared: bool) -> None:
    some = TRAIN.y != 2
    with pytest.raises(UserError, match=r"labels \[0, 1, 3\]; a model of 4 classes needs images of each"):
        train_autoencoder(made(shared=shared), Images(TRAIN.x[some], TRAIN.y[some]), VALIDATION, RECIPE)
    with pytest.raises(UserError, match="a model of 3 classes needs images of each and of no other"):
        train(made(shared=shared, classes=3))


def test_batches_too_small_for_the_classes() -> None:
    recipe = dataclasses.replace(RECIPE, batch=7)
    with pytest.raises(UserError, match=r"batch of 7 has less than 2 images .* each of 4 encoders; raise --recipe\.ba"):
        train(made(shared=False), recipe)
    train(made(), dataclasses.replace(recipe, epochs=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs, halve_every and check_every >= 1"),
        ({"halve_every": 0}, "epochs, halve_every and check_every >= 1"),
        ({"batch": 1}, "batch >= 2"),
        ({"lr": 0.0}, "lr > 0"),
        ({"lr": math.nan}, "lr > 0"),
        ({"beta": -1.0}, "beta, gamma and noise >= 0"),
        ({"cost": "median"}, "cost sum or mean"),
        ({"select": "first"}, "select last or accuracy"),
    ],
)
def test_recipes_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(RECIPE, **changes)


def test_draws_are_named_by_class_and_update() -> None:
    """A class meets the same images and noise in company as in a model of two classes."""
    both = Images(TRAIN.x[TRAIN.y < 2], TRAIN.y[TRAIN.y < 2])
    company = Feed(TRAIN, made(shared=False), RECIPE).batch(5)
    pair = Feed(both, made(shared=False, classes=2), dataclasses.replace(RECIPE, batch=8)).batch(5)
    for ours, theirs in zip(vars(company).values(), vars(pair).values(), strict=True):
        assert torch.equal(ours[:2], theirs)
    first = torch.randn((4, 1, 8, 8), generator=generator(RECIPE.seed, "batch", 1, 5))
    quiet = Feed(TRAIN, made(shared=False), dataclasses.replace(RECIPE, noise=0.0)).batch(5)
    torch.testing.assert_close(company.x[1] - quiet.x[1], RECIPE.noise * first)
