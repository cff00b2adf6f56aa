from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen import models
from robustgen.errors import UserError
from robustgen.evaluation.statistics import auc
from robustgen.models import madry_cnn, resnet10
from robustgen.models.detectors import Detectors
from robustgen.training import gat
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.classifier import Images
from robustgen.training.gat import Adversary, Check, Feed, Recipe, area, perturbed, train_detectors

CNN = madry_cnn.Config(size=8, channels=1, classes=1, widths=(2, 4), hidden=8, mean=(0.3,), std=(0.3,))
RESNET = resnet10.Config(size=8, channels=1, classes=1, width=4, mean=(0.3,), std=(0.3,))
ADVERSARY = Adversary(eps=0.1, alpha=0.05, steps=3)
MONITOR = Adversary(eps=0.1, alpha=0.05, steps=4, random_start=False)
RECIPE = Recipe(
    updates=6, check_every=2, positives=8, negatives=9, lr=0.01, crop=1, adversary=ADVERSARY, monitor=MONITOR
)
EUCLIDEAN = Adversary(norm="l2", eps=0.8, alpha=0.3, steps=3, rule="steepest")
SGD = dataclasses.replace(RECIPE, optimizer="sgd", weight_decay=1e-3, flip=True, adversary=EUCLIDEAN, select="last")


def data(n: int, seed: int) -> Images:
    """Images of four classes that differ in a bright quarter."""
    y = torch.arange(n) % 4
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 0.5
    for row, label in enumerate(y.tolist()):
        top, left = divmod(label, 2)
        x[row, :, top * 4 : top * 4 + 4, left * 4 : left * 4 + 4] += 0.5
    return Images(x, y)


TRAIN, VALIDATION = data(50, 0), data(36, 1)


def bank(labels: tuple[int, ...] = (0, 1, 2, 3), config: Any = CNN) -> Detectors:
    """Fresh detectors, each drawn from its label."""
    members = []
    for label in labels:
        torch.manual_seed(label)
        members.append(models.build(config))
    return Detectors.of(members, labels, 4)


def train(
    recipe: Recipe = RECIPE, detectors: Detectors | None = None, checkpoint: Checkpoint | None = None
) -> tuple[Detectors, list[Check]]:
    return train_detectors(bank() if detectors is None else detectors, TRAIN, VALIDATION, recipe, checkpoint=checkpoint)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[key]) for key, x in a.state_dict().items())


def test_detectors_learn_to_withstand_their_adversary() -> None:
    start = bank()
    before = copy.deepcopy(start)
    model, curve = train(dataclasses.replace(RECIPE, updates=80, check_every=40), start)
    assert [(row.update, row.detector) for row in curve] == [(u, k) for u in (0, 40, 80) for k in range(4)]
    for k in range(4):
        first, last = curve[k], curve[-4 + k]
        assert last.loss < 0.6 * first.loss
        assert last.adversarial_auc > max(0.9, first.adversarial_auc)
        assert last.natural_auc >= last.adversarial_auc
        assert last.train_natural_auc >= last.train_adversarial_auc > first.train_adversarial_auc
    assert same(start, before)
    assert model.labels == (0, 1, 2, 3)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_loss_is_equation_5() -> None:
    positives, negatives = torch.tensor([[0.0, 2.0], [1.0, 1.0]]), torch.tensor([[-1.0, 0.5, 3.0], [0.0, 0.0, 0.0]])
    expected = F.binary_cross_entropy_with_logits(positives, torch.ones(2, 2), reduction="none").mean(1)
    expected += F.binary_cross_entropy_with_logits(negatives, torch.zeros(2, 3), reduction="none").mean(1)
    torch.testing.assert_close(gat.losses(positives, negatives), expected)


@pytest.mark.parametrize("recipe", [RECIPE, SGD])
@pytest.mark.parametrize("config", [CNN, RESNET])
def test_updates_equal_those_of_each_network_alone(config: Any, recipe: Recipe) -> None:
    recipe = dataclasses.replace(recipe, updates=2, select="last")
    start = bank((1, 3), config)
    found, _ = train(recipe, start)
    feed = Feed(TRAIN, (1, 3), recipe)
    for k in range(2):
        alone = Detectors.of([start.member(k)], start.labels[k : k + 1], 4)
        network = start.member(k)
        optimizer = gat.make_optimizer(network, recipe)
        for update in range(2):
            own, others = (x[k] for x in feed.batch(update))
            alone = Detectors.of([network], alone.labels, 4)
            moved = perturbed(alone, others[None], recipe.adversary, recipe.seed, update)[0]
            optimizer.zero_grad()
            loss = F.softplus(-network(own)).mean() + F.softplus(network(moved)).mean()
            loss.backward()
            optimizer.step()
        for key, value in network.state_dict().items():
            torch.testing.assert_close(found.member(k).state_dict()[key], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", [CNN, RESNET])
def test_some_classes_train_as_in_company_of_all(config: Any) -> None:
    whole, curve = train(RECIPE, bank(config=config))
    part, own = train(RECIPE, bank((2,), config))
    for key, value in part.member(0).state_dict().items():
        torch.testing.assert_close(whole.member(2).state_dict()[key], value, atol=1e-5, rtol=1e-4)
    assert [row.loss for row in curve if row.detector == 2] == pytest.approx([row.loss for row in own], abs=1e-5)


def test_batch_norm_statistics_stay_while_its_weights_are_trained() -> None:
    start = bank((0, 1), RESNET)
    found, _ = train(RECIPE, start)
    for key, value in start.state_dict().items():
        running = "running" in key or "tracked" in key
        assert torch.equal(found.state_dict()[key], value) == running, key
    assert not any(module.training for module in found.modules())


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    torch.manual_seed(1)
    first, curve = train()
    torch.manual_seed(2)
    again, curve_again = train()
    assert same(first, again)
    assert curve == curve_again
    assert not same(first, train(dataclasses.replace(RECIPE, seed=1))[0])


@pytest.mark.parametrize(("recipe", "stopped_in"), [(RECIPE, 0), (RECIPE, 3), (RECIPE, 5), (SGD, 4)])
def test_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Recipe, stopped_in: int
) -> None:
    expected, curve = train(recipe)
    checkpoint = Checkpoint("x", tmp_path)
    steps, real = iter(range(1000)), gat.train_step

    def interrupted(*args: Any) -> None:
        if next(steps) == stopped_in:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(gat, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, checkpoint=checkpoint)
    monkeypatch.setattr(gat, "train_step", real)
    capsys.readouterr()
    found, again = train(recipe, checkpoint=checkpoint)
    resumed = f"resuming after update {stopped_in // 2 * 2} of 6" in capsys.readouterr().err
    assert resumed == (stopped_in >= 2)
    assert same(found, expected)
    assert again == curve


def test_checks_come_every_so_often_and_at_the_end() -> None:
    _, curve = train(dataclasses.replace(RECIPE, updates=5))
    assert [row.update for row in curve[::4]] == [0, 2, 4, 5]


def row(update: int, detector: int, adversarial_auc: float) -> Check:
    return Check(update, detector, 1.0, 0.5, 0.5, 1.0, adversarial_auc)


@pytest.mark.parametrize(("select", "kept"), [("adversarial", [False, True, True]), ("last", [True, True, True])])
def test_each_detector_is_kept_at_its_own_best_check(select: Any, kept: list[bool]) -> None:
    best, model = bank((0, 1, 3)), bank((0, 1, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    scores = {0: (0.9, 0.8), 1: (0.8, 0.9), 3: (0.7, 0.7)}  # a tie: the later
    start = [row(0, label, 1.0) for label in scores]  # untrained detectors do not stand for trained ones
    curve = start + [row(2 * (i + 1), label, value[i]) for i in range(2) for label, value in scores.items()]
    gat.keep_best(best, model, curve, dataclasses.replace(RECIPE, select=select))
    for k in range(3):
        assert same(best.member(k), model.member(k)) == kept[k]


def test_trained_detectors_are_those_of_their_best_rows() -> None:
    recipe = dataclasses.replace(RECIPE, updates=16, lr=0.05)
    model, curve = train(recipe)
    _, attacked = gat.validate(model, VALIDATION, recipe)
    for k in range(4):
        own = VALIDATION.y == k
        best = max(row.adversarial_auc for row in curve if row.detector == k and row.update)
        natural = gat.validate(model, VALIDATION, recipe)[0]
        assert area(natural[k, own], attacked[k, ~own]) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("adversary", [ADVERSARY, EUCLIDEAN, dataclasses.replace(ADVERSARY, random_start=False)])
def test_perturbation_raises_each_logit_within_the_ball(adversary: Adversary) -> None:
    model = bank()
    x = torch.stack([VALIDATION.x[VALIDATION.y != k][:9] for k in range(4)])
    found = perturbed(model, x, adversary, 0, 1)
    change = (found - x).flatten(2)
    length = change.norm(dim=2) if adversary.norm == "l2" else change.abs().amax(2)
    assert float(length.max()) <= adversary.eps * (1 + 1e-5) + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    with torch.no_grad():
        assert (model.each(found) > model.each(x)).all()
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(found, perturbed(model, x, adversary, 0, 2)) is not adversary.random_start


def test_no_adversary_leaves_images_as_they_are() -> None:
    x = torch.rand(4, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(perturbed(bank(), x, dataclasses.replace(ADVERSARY, eps=0.0), 0, 1), x)
    _, curve = train(dataclasses.replace(RECIPE, monitor=dataclasses.replace(MONITOR, eps=0.0)))
    assert all(row.natural_auc == row.adversarial_auc for row in curve)


def test_batches_hold_the_class_and_the_others() -> None:
    plain = dataclasses.replace(RECIPE, crop=0)
    for update in range(3):
        own, others = Feed(TRAIN, (0, 2), plain).batch(update)
        assert own.shape == (2, 8, 1, 8, 8)
        assert others.shape == (2, 9, 1, 8, 8)
        for k, label in enumerate((0, 2)):
            assert (quarter(own[k], label) > 0.5).all()
            assert (quarter(others[k], label) < 0.5).all()


def quarter(x: Tensor, label: int) -> Tensor:
    """Mean brightness (M,) of the quarter that marks the label."""
    top, left = divmod(label, 2)
    return x[:, :, top * 4 : top * 4 + 4, left * 4 : left * 4 + 4].mean((1, 2, 3))


def test_area_is_the_rank_statistic() -> None:
    draws = torch.Generator().manual_seed(0)
    positives = torch.randint(0, 8, (40,), generator=draws).float() + 2
    negatives = torch.randint(0, 8, (31,), generator=draws).float()
    expected = auc(positives.numpy().astype(np.float64), negatives.numpy().astype(np.float64)).value
    assert area(positives, negatives) == pytest.approx(expected, abs=1e-12)
    assert area(positives, positives) == 0.5
    assert area(positives + 100, negatives) == 1


def test_validation_counts_images_not_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bank()
    whole = gat.validate(model, VALIDATION, RECIPE)
    monkeypatch.setattr(gat, "AT_ONCE", 10)
    for found, expected in zip(gat.validate(model, VALIDATION, RECIPE), whole, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_loss_that_is_lost() -> None:
    message = r"update 2: the detectors of classes \[.*\] have a loss that is not finite; lower --recipe\.lr"
    with pytest.raises(UserError, match=message):
        train(dataclasses.replace(RECIPE, lr=1e30))


@pytest.mark.parametrize("recipe", [RECIPE, SGD])
def test_last_update_that_spoils_the_weights(recipe: Recipe) -> None:
    """No further loss would tell."""
    message = (
        r"update 1: the detectors of classes \[.*\] have a validation logit that is not finite; lower --recipe\.lr"
    )
    with pytest.raises(UserError, match=message):
        train(dataclasses.replace(recipe, updates=1, lr=1e30))


def test_detector_that_starts_spoilt() -> None:
    start = bank()
    with torch.no_grad():
        for parameter in start.parameters():
            parameter[2] = torch.nan  # stacked, a detector a row
    with pytest.raises(UserError, match=r"update 0: the detectors of classes \[2\] have .*; they start so: train the"):
        train(detectors=start)


@pytest.mark.parametrize("lacking", ["training", "validation"])
def test_class_without_images(lacking: str) -> None:
    sets = {"training": TRAIN, "validation": VALIDATION}
    keep = sets[lacking].y != 2
    sets[lacking] = Images(sets[lacking].x[keep], sets[lacking].y[keep])
    with pytest.raises(UserError, match=f"the {lacking} images hold no image of class 2"):
        train_detectors(bank(), sets["training"], sets["validation"], RECIPE)
    alone = TRAIN.y == 2
    with pytest.raises(UserError, match="the training images hold no image but those of class 2"):
        train_detectors(bank((2,)), Images(TRAIN.x[alone], TRAIN.y[alone]), VALIDATION, RECIPE)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"updates": 0}, "updates, check_every, positives and negatives >= 1"),
        ({"check_every": 0}, "updates, check_every, positives and negatives >= 1"),
        ({"positives": 0}, "updates, check_every, positives and negatives >= 1"),
        ({"negatives": 0}, "updates, check_every, positives and negatives >= 1"),
        ({"lr": 0.0}, "lr > 0"),
        ({"weight_decay": -1.0}, "weight_decay >= 0"),
        ({"crop": -1}, "crop >= 0"),
        ({"momentum": 1.0}, "0 <= momentum < 1"),
        ({"optimizer": "rmsprop"}, "optimizer adam or sgd"),
        ({"select": "clean"}, "select adversarial or last"),
    ],
)
def test_recipe_that_cannot_be_meant(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"a recipe needs .*{message}"):
        dataclasses.replace(RECIPE, **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eps": -0.1}, "an attack needs eps >= 0"),
        ({"eps": float("nan")}, "an attack needs eps >= 0"),
        ({"alpha": 0.0}, "alpha > 0 and steps >= 0, not eps 0.1, alpha 0"),
        ({"steps": -1}, "and steps -1"),
        ({"norm": "l1"}, "unknown norm 'l1'"),
        ({"rule": "sgd"}, "sgd"),
    ],
)
def test_adversary_that_cannot_be_meant(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(ADVERSARY, **wrong)
