from __future__ import annotations

import copy
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen import models
from robustgen.errors import UserError
from robustgen.models import encoder_cnn
from robustgen.models.resnet10 import Config
from robustgen.options import recorded
from robustgen.seeding import derive
from robustgen.training import classifier
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Adversary, Epoch, Images, Recipe, augment, train_classifier

CONFIG = Config(size=8, channels=3, classes=4, width=4)
DROPPING = encoder_cnn.Config(
    size=8,
    channels=3,
    classes=4,
    encoder_channels=(6, 8),
    encoder_kernels=(3, 4),
    encoder_strides=(2, 1),
    encoder_paddings=(1, 0),
    dropout=0.4,
)
ADVERSARY = Adversary(eps=16 / 255, alpha=8 / 255, steps=2)
RECIPE = Recipe(epochs=4, batch=16, lr=0.01, milestones=(3,), flip=True, crop=1, adversary=ADVERSARY, monitor=ADVERSARY)
RELEASED = Adversary(eps=0.5, alpha=0.2, steps=2, norm="l2", craft="train")
SGD = dataclasses.replace(RECIPE, optimizer="sgd", lr=0.05, weight_decay=2e-4, adversary=RELEASED)
NOISY = dataclasses.replace(RECIPE, adversary=Adversary(), monitor=Adversary(), noise=0.25)


def data(n: int, seed: int) -> Images:
    """Images of four classes that differ in a bright quarter."""
    draws = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 4
    x = torch.rand(n, 3, 8, 8, generator=draws) * 0.5
    for row, label in enumerate(y.tolist()):
        top, left = divmod(label, 2)
        x[row, :, top * 4 : top * 4 + 4, left * 4 : left * 4 + 4] += 0.4
    return Images(x, y)


TRAIN, VALIDATION = data(49, 0), data(20, 1)  # 49 leaves a last batch of one image


def train(
    recipe: Recipe = RECIPE, checkpoint: Checkpoint | None = None, config: Any = CONFIG
) -> tuple[nn.Module, list[Epoch]]:
    return train_classifier(lambda: models.build(config), TRAIN, VALIDATION, recipe, checkpoint=checkpoint)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[key]) for key, x in a.state_dict().items())


def test_loss_falls_and_the_classes_are_learnt() -> None:
    recipe = Recipe(epochs=6, batch=16, lr=0.01)
    model, curve = train(recipe)
    assert [row.epoch for row in curve] == list(range(1, 7))
    assert curve[-1].loss < 0.5 * curve[0].loss
    assert max(row.clean_accuracy for row in curve) > 0.9
    assert all(row.robust_accuracy == row.clean_accuracy for row in curve)  # no monitor
    assert not any(module.training for module in model.modules())


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    recipe = dataclasses.replace(RECIPE, epochs=1)
    torch.manual_seed(1)
    first, curve = train(recipe)
    torch.manual_seed(2)
    again, curve_again = train(recipe)
    assert same(first, again)
    assert curve == curve_again
    assert not same(first, train(dataclasses.replace(recipe, seed=1))[0])


@pytest.mark.parametrize(
    ("recipe", "stopped_in", "config"),
    [
        (RECIPE, 0, CONFIG),
        (RECIPE, 1, CONFIG),
        (RECIPE, 3, CONFIG),
        (SGD, 2, CONFIG),
        (NOISY, 2, CONFIG),
        (RECIPE, 2, DROPPING),
        (SGD, 3, DROPPING),  # whose attack passes drop, too
    ],
)
def test_resumed_training_ends_with_the_same_bits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe: Recipe,
    stopped_in: int,
    config: Any,
) -> None:
    expected, curve = train(recipe, config=config)
    checkpoint = Checkpoint("x", tmp_path)
    steps, real = iter(range(1000)), classifier.train_step

    def interrupted(*args: Any) -> Tensor:
        if next(steps) == 3 * stopped_in + 1:  # three batches an epoch
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(classifier, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, checkpoint, config)
    assert checkpoint.path.exists() is (stopped_in > 0)
    capsys.readouterr()
    torch.manual_seed(stopped_in)
    model, resumed = train(recipe, checkpoint, config)
    assert same(model, expected)
    assert resumed == curve
    assert ("resuming after epoch" in capsys.readouterr().err) is (stopped_in > 0)


def test_dropout_is_named_by_seed_epoch_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows nothing of what else is drawn globally, and no two updates drop alike."""
    recipe = Recipe(epochs=2, batch=16, lr=0.01)
    dropped: list[Tensor] = []
    real = F.dropout

    def spy(x: Tensor, p: float, training: bool) -> Tensor:
        found = real(x, p, training)
        if training:
            dropped.append(found.detach() == 0)
        return found

    monkeypatch.setattr(F, "dropout", spy)
    first, _ = train(recipe, config=DROPPING)
    masks = list(dropped)
    assert len(masks) == 6
    assert all(0.3 < float(mask.float().mean()) < 0.5 for mask in masks)
    assert not any(torch.equal(mask, other) for mask, other in itertools.combinations(masks, 2))

    def validate(*_: Any) -> tuple[float, float]:
        torch.rand(1)  # from the global generator
        return 0.0, 0.0

    monkeypatch.setattr(classifier, "validate", validate)
    dropped.clear()
    train(recipe, config=DROPPING)
    assert all(torch.equal(mask, other) for mask, other in zip(masks, dropped, strict=True))
    still = dataclasses.replace(DROPPING, dropout=0.0)
    assert not same(first, train(recipe, config=still)[0])


def test_training_leaves_the_global_generator_where_initialisation_did() -> None:
    """So a network without dropout has the weights that it had before dropout was named."""
    torch.manual_seed(derive(RECIPE.seed, "init"))
    models.build(DROPPING)
    expected = torch.rand(3)
    train(dataclasses.replace(SGD, epochs=1), config=DROPPING)
    assert torch.equal(torch.rand(3), expected)


def test_finished_training_resumes_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint("x", tmp_path)
    expected, curve = train(checkpoint=checkpoint)
    monkeypatch.delattr(classifier, "train_step")
    model, again = train(checkpoint=checkpoint)
    assert same(model, expected)
    assert again == curve


def test_damaged_checkpoint_starts_over(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=2)
    expected, curve = train(recipe)
    checkpoint = Checkpoint("x", tmp_path)
    train(recipe, checkpoint)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:500])
    model, again = train(recipe, checkpoint)
    assert same(model, expected)
    assert again == curve


@pytest.mark.parametrize(("select", "chosen"), [("clean", 2), ("robust", 3)])
def test_best_validation_epoch_is_kept(monkeypatch: pytest.MonkeyPatch, select: str, chosen: int) -> None:
    accuracies = [(0.5, 0.2), (0.7, 0.2), (0.7, 0.3), (0.6, 0.5), (0.1, 0.4)]  # of equals the latest wins
    weights: list[dict[str, Tensor]] = []

    def validate(model: nn.Module, _: Images, __: Recipe, epoch: int) -> tuple[float, float]:
        weights.append({key: value.clone() for key, value in model.state_dict().items()})
        return accuracies[epoch]

    monkeypatch.setattr(classifier, "validate", validate)
    model, curve = train(Recipe(epochs=5, batch=32, select=select))  # type: ignore[arg-type]
    assert [(row.clean_accuracy, row.robust_accuracy) for row in curve] == accuracies
    assert all(torch.equal(value, weights[chosen][key]) for key, value in model.state_dict().items())


def test_loss_that_is_not_finite_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "train_step", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(UserError, match=r"no longer finite; lower --recipe\.lr"):
        train(Recipe(epochs=1))


def test_learning_rate_falls_after_the_milestones(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    def step(_: nn.Module, optimizer: torch.optim.Optimizer, *__: Any) -> Tensor:
        rates.append(optimizer.param_groups[0]["lr"])
        return torch.zeros(())

    monkeypatch.setattr(classifier, "train_step", step)
    train(Recipe(epochs=4, batch=64, lr=0.1, milestones=(1, 3)))
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001])
    rates.clear()
    train(Recipe(epochs=4, batch=64, lr=0.1, milestones=(1, 3), gamma=0.5))
    assert rates == pytest.approx([0.1, 0.05, 0.05, 0.025])


def test_sgd_has_plain_momentum_and_decay() -> None:
    """v <- 0.9 v + g + λ w;  w <- w - lr v, as the classifier of Hill et al. is trained."""
    model = nn.Linear(2, 1, bias=False)
    recipe = Recipe(epochs=1, optimizer="sgd", lr=0.1, weight_decay=0.01)
    optimizer = classifier.make_optimizer(model, recipe)
    w, v = model.weight.detach().clone(), torch.zeros(1, 2)
    for k in range(4):
        g = torch.tensor([[1.0, k]])
        model.weight.grad = g.clone()
        optimizer.step()
        v = 0.9 * v + g + 0.01 * w
        w = w - 0.1 * v
        torch.testing.assert_close(model.weight.detach(), w)


def test_optimizers_differ_and_both_learn() -> None:
    models_and_curves = [
        train(Recipe(epochs=6, batch=16, lr=lr, optimizer=optimizer))  # type: ignore[arg-type]
        for optimizer, lr in (("adam", 0.01), ("sgd", 0.05))
    ]
    for _, curve in models_and_curves:
        assert curve[-1].loss < 0.5 * curve[0].loss
    assert not same(models_and_curves[0][0], models_and_curves[1][0])
    one, other = (train(Recipe(epochs=1, batch=16, optimizer="sgd", momentum=m))[0] for m in (0.0, 0.9))
    assert not same(one, other)


def test_every_image_is_seen_once_an_epoch_in_changing_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def step(_: nn.Module, __: Any, x: Tensor, y: Tensor, *___: Any) -> Tensor:
        seen.append(x.flatten(1).sum(1))
        return torch.zeros(())

    monkeypatch.setattr(classifier, "train_step", step)
    train(Recipe(epochs=2, batch=7))
    one, two = torch.cat(seen[:7]), torch.cat(seen[7:])
    assert torch.equal(one.sort().values, TRAIN.x.flatten(1).sum(1).sort().values)
    assert torch.equal(one.sort().values, two.sort().values)
    assert not torch.equal(one, two)


def test_attacks_do_not_move_batch_norm_statistics() -> None:
    torch.manual_seed(0)
    model = models.build(CONFIG)
    model.train()
    before = copy.deepcopy(model.state_dict())
    x, y = TRAIN.x[:8], TRAIN.y[:8]
    found = classifier.adversarial_images(model, x, y, ADVERSARY, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert float((found - x).abs().max()) <= ADVERSARY.eps + 1e-6
    classifier.validate(model, VALIDATION, RECIPE, 0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    classifier.train_step(model, torch.optim.SGD(model.parameters(), lr=0), found, y, "float32")
    assert model.state_dict()["bn1.num_batches_tracked"] == 1


def test_crafting_in_train_mode_moves_them_as_the_released_code_does() -> None:
    torch.manual_seed(0)
    model = models.build(CONFIG).eval()
    before = copy.deepcopy(model.state_dict())
    x, y = TRAIN.x[:8], TRAIN.y[:8]
    adversary = dataclasses.replace(ADVERSARY, craft="train")
    found = classifier.adversarial_images(model, x, y, adversary, torch.Generator().manual_seed(0))
    assert model.state_dict()["bn1.num_batches_tracked"] == before["bn1.num_batches_tracked"] + ADVERSARY.steps
    assert not torch.equal(model.state_dict()["bn1.running_mean"], before["bn1.running_mean"])
    assert all(p.grad is None for p in model.parameters())
    model.load_state_dict(before)
    other = classifier.adversarial_images(model, x, y, ADVERSARY, torch.Generator().manual_seed(0))
    assert not torch.equal(found, other)  # the batch's own statistics make another model of it
    assert not any(module.training for module in model.modules())


def test_norm_shapes_the_adversary() -> None:
    model, _ = train(Recipe(epochs=2, batch=16, lr=0.01))
    adversary = Adversary(eps=0.8, alpha=0.3, steps=5, norm="l2")
    found = classifier.adversarial_images(model, TRAIN.x, TRAIN.y, adversary, torch.Generator().manual_seed(0))
    length = (found - TRAIN.x).flatten(1).norm(dim=1)
    assert 0.7 < float(length.max()) <= 0.8 * (1 + 1e-5)
    assert float((found - TRAIN.x).abs().max()) > 2 * 0.8 / (3 * 8 * 8) ** 0.5  # not spread evenly as L∞ would be
    with torch.no_grad():
        assert F.cross_entropy(model(found), TRAIN.y) > F.cross_entropy(model(TRAIN.x), TRAIN.y)


def test_adversarial_images_have_a_higher_loss() -> None:
    model, _ = train(Recipe(epochs=2, batch=16, lr=0.01))
    found = classifier.adversarial_images(model, TRAIN.x, TRAIN.y, ADVERSARY, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert F.cross_entropy(model(found), TRAIN.y) > F.cross_entropy(model(TRAIN.x), TRAIN.y)


def test_monitor_attacks_the_validation_images() -> None:
    _, curve = train(dataclasses.replace(RECIPE, adversary=Adversary(), milestones=(), flip=False, crop=0))
    assert any(row.robust_accuracy < row.clean_accuracy for row in curve)


def test_noise_reaches_the_network_unclipped_and_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[float, list[Tensor]] = {0.0: [], 0.5: []}
    for noise, batches in seen.items():

        def step(_: nn.Module, __: Any, x: Tensor, *___: Any, kept: list[Tensor] = batches) -> Tensor:
            kept.append(x)
            return torch.zeros(())

        monkeypatch.setattr(classifier, "train_step", step)
        train(Recipe(epochs=2, batch=16, flip=True, crop=1, noise=noise))
    added = [noisy - natural for noisy, natural in zip(seen[0.5], seen[0.0], strict=True)]  # the same augmentation
    assert torch.cat(added).std() == pytest.approx(0.5, rel=0.03)
    assert torch.cat(added).mean().abs() < 0.02
    assert torch.cat(seen[0.5]).min() < -0.5
    assert torch.cat(seen[0.5]).max() > 1.5
    assert not any(torch.equal(added[0], other) for other in added[1:])  # batches and epochs have draws of their own


def test_noise_0_draws_nothing() -> None:
    draws = torch.Generator().manual_seed(0)
    before = draws.get_state()
    assert classifier.noisy(TRAIN.x, 0.0, draws) is TRAIN.x
    assert torch.equal(draws.get_state(), before)
    classifier.noisy(TRAIN.x, 0.1, draws)
    assert not torch.equal(draws.get_state(), before)


def test_training_under_noise_learns_to_see_through_it() -> None:
    recipe = Recipe(epochs=8, batch=16, lr=0.01)
    (natural, _), (robust, curve) = train(recipe), train(dataclasses.replace(recipe, noise=0.5))
    assert curve[-1].loss < 0.8 * curve[0].loss
    assert all(row.robust_accuracy == row.clean_accuracy for row in curve)
    x = VALIDATION.x.repeat(20, 1, 1, 1)
    x = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        right = [float((model(x).argmax(1) == VALIDATION.y.repeat(20)).float().mean()) for model in (natural, robust)]
    assert right[1] > right[0] + 0.05


def test_epochs_are_compared_under_the_same_noise() -> None:
    model, _ = train(Recipe(epochs=3, batch=16, lr=0.01))
    recipe = Recipe(epochs=3, noise=0.5)
    found = [classifier.validate(model, VALIDATION, recipe, epoch) for epoch in range(3)]
    assert found[0] == found[1] == found[2]
    assert found[0][0] < classifier.validate(model, VALIDATION, Recipe(epochs=3), 0)[0]
    other = {classifier.validate(model, VALIDATION, dataclasses.replace(recipe, seed=seed), 0) for seed in range(5)}
    assert len(other) > 1


def test_noise_is_recorded_where_there_is_some() -> None:
    assert "noise" not in recorded(Recipe(epochs=1))  # as in the files of before there was any
    assert recorded(Recipe(epochs=1, noise=0.25))["noise"] == 0.25


def test_bfloat16_pass_keeps_float32_weights() -> None:
    model, curve = train(Recipe(epochs=3, batch=16, lr=0.01, precision="bfloat16"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert curve[-1].loss < curve[0].loss


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 1},
        {"lr": 0.0},
        {"weight_decay": -1e-4},
        {"crop": -1},
        {"noise": -0.1},
        {"noise": 0.1, "adversary": ADVERSARY},
        {"noise": 0.1, "monitor": ADVERSARY},
        {"optimizer": "rmsprop"},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"gamma": 0.0},
        {"gamma": 1.5},
    ],
)
def test_recipe_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="a recipe needs"):
        Recipe(**{"epochs": 1, **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eps": -0.1}, "an adversary needs"),
        ({"alpha": 0.0}, "an adversary needs"),
        ({"steps": -1}, "an adversary needs"),
        ({"norm": "l1"}, "unknown norm 'l1'"),
        ({"craft": "both"}, "an adversary crafts in eval or train mode, not 'both'"),
    ],
)
def test_adversary_that_cannot_be_meant(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Adversary(**wrong)


def test_monitor_must_not_move_what_it_judges() -> None:
    with pytest.raises(UserError, match="a monitor crafts in eval mode"):
        Recipe(epochs=1, monitor=Adversary(eps=0.1, craft="train"))


def naive(x: Tensor, recipe: Recipe, draws: torch.Generator) -> Tensor:
    """The same augmentation, an image and a pixel row at a time."""
    n, _, h, w = x.shape
    mirrored = torch.rand(n, generator=draws) < 0.5 if recipe.flip else torch.zeros(n, dtype=torch.bool)
    dy, dx = torch.randint(0, 2 * recipe.crop + 1, (2, n), generator=draws) if recipe.crop else torch.zeros(2, n).long()
    out = torch.zeros_like(x)
    for i in range(n):
        image = x[i].flip(2) if mirrored[i] else x[i]
        for row in range(h):
            for column in range(w):
                top, left = row + int(dy[i]) - recipe.crop, column + int(dx[i]) - recipe.crop
                if 0 <= top < h and 0 <= left < w:
                    out[i, :, row, column] = image[:, top, left]
    return out


@pytest.mark.parametrize(("flip", "crop"), [(True, 0), (False, 2), (True, 2), (False, 0)])
def test_augmentation_equals_a_loop(flip: bool, crop: int) -> None:
    recipe = Recipe(epochs=1, flip=flip, crop=crop)
    x = torch.rand(20, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    found = augment(x, flip=recipe.flip, crop=recipe.crop, draws=torch.Generator().manual_seed(7))
    assert torch.equal(found, naive(x, recipe, torch.Generator().manual_seed(7)))
    assert found.shape == x.shape
    assert float(found.min()) >= 0
    assert float(found.max()) <= float(x.max())
    assert torch.equal(found, x) is not (flip or crop > 0)
