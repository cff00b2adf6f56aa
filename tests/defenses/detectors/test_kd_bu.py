import copy
from types import SimpleNamespace

import pytest
import torch
from sklearn.neighbors import KernelDensity
from torch import nn
from torch.nn import functional as F

from robustgen.defenses.detectors import KDBUDetector
from robustgen.errors import UserError
from robustgen.evaluation.statistics import auc


def test_separates_the_toys_attacks(fitted, world):
    detector = fitted(KDBUDetector(bandwidth=0.3))
    assert auc(detector.score(world.test), detector.score(world.test_adversarial)).value > 0.8


def test_density_is_sklearns_for_the_predicted_class(fitted, world):
    h = 0.3
    detector = fitted(KDBUDetector(bandwidth=h))
    features = world.model.features(world.test)[-1]
    predicted = world.model(world.test).argmax(1)
    known = world.model.features(world.train.images)[-1]
    ours = detector._statistics(world.test)[:, 0]
    constant = features.shape[1] / 2 * torch.log(torch.tensor(2 * torch.pi * h**2))
    for label in range(3):
        kde = KernelDensity(bandwidth=h).fit(known[world.train.labels == label].numpy())
        expected = torch.from_numpy(kde.score_samples(features[predicted == label].numpy())) + constant
        torch.testing.assert_close(ours[predicted == label], expected.float(), rtol=1e-3, atol=1e-3)


def test_uncertainty_is_the_variance_over_masks(fitted, world):
    detector = fitted(KDBUDetector(draws=20))
    features = world.model.features(world.test)[-1]
    outputs = torch.stack([F.softmax(world.model.fc(features * mask), 1) for mask in detector._masks])
    expected = outputs.square().sum(2).mean(0) - outputs.mean(0).square().sum(1)
    torch.testing.assert_close(detector._statistics(world.test)[:, 1], expected, rtol=1e-3, atol=1e-5)
    assert (expected > 0).all()


def test_masks_keep_the_mean_and_follow_the_seed(fitted):
    first, second = (fitted(KDBUDetector(dropout=0.25, draws=2000, seed=seed))._masks for seed in (0, 1))
    torch.testing.assert_close(first.unique(), torch.tensor([0.0, 4 / 3]))
    assert first.mean().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(first, second)


def test_far_away_features_stay_finite(fitted, world):
    detector = fitted(KDBUDetector(bandwidth=1e-3))
    assert torch.isfinite(detector.score(world.test)).all()


def test_a_class_without_training_images(world):
    keep = world.train.labels != 2
    train = SimpleNamespace(images=world.train.images[keep], labels=world.train.labels[keep])
    with pytest.raises(UserError, match="class 2"):
        KDBUDetector().fit(world.model, train, world.clean, world.adversarial)


def test_a_head_that_features_do_not_feed(world):
    model = copy.deepcopy(world.model)
    inner = model.forward
    model.forward = lambda x: 3 * inner(x)
    with pytest.raises(UserError, match=r"last nn\.Linear"):
        KDBUDetector().fit(model, world.train, world.clean, world.adversarial)
    model.forward = inner
    model.extra = nn.Linear(5, 3)
    with pytest.raises(UserError, match=r"last nn\.Linear"):
        KDBUDetector().fit(model, world.train, world.clean, world.adversarial)


def test_no_linear_layer(world):
    with pytest.raises(UserError, match="has none"):
        KDBUDetector().fit(nn.Flatten(), world.train, world.clean, world.adversarial)


def test_a_failed_fit_cannot_score(fitted, world):
    detector = fitted(KDBUDetector())
    with pytest.raises(UserError, match="has none"):
        detector.fit(nn.Flatten(), world.train, world.clean, world.adversarial)
    with pytest.raises(UserError, match="not fitted"):
        detector.score(world.test)


@pytest.mark.parametrize("options", [{"bandwidth": 0}, {"dropout": 0}, {"dropout": 1}, {"draws": 1}])
def test_options_out_of_range(options):
    with pytest.raises(UserError, match="kd-bu needs"):
        KDBUDetector(**options)
