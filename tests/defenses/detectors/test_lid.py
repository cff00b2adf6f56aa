from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustgen.defenses.detectors import LIDDetector
from robustgen.defenses.detectors.base import squared_distances
from robustgen.defenses.detectors.lid import lid
from robustgen.errors import UserError
from robustgen.evaluation.statistics import auc


def test_separates_the_toys_attacks(fitted, world):
    detector = fitted(LIDDetector())
    assert auc(detector.score(world.test), detector.score(world.test_adversarial)).value > 0.7


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_estimates_the_dimension_of_a_subspace(dimension):
    source = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(30, 30, generator=source)).Q[:dimension]
    points, reference = ((torch.rand(n, dimension, generator=source) - 0.5) @ basis for n in (300, 4000))
    estimate = lid(squared_distances(points, reference), 50).median().item()
    assert estimate == pytest.approx(dimension, rel=0.2)


def test_is_the_maximum_likelihood_formula():
    r = torch.tensor([1.0, 2.0, 4.0, 100.0])
    expected = -1 / (torch.log(r[:3] / 4).mean())
    torch.testing.assert_close(lid(r.square()[None], 3), expected[None])


def test_scale_does_not_matter():
    distances = torch.rand(6, 40, generator=torch.Generator().manual_seed(0)) + 0.1
    torch.testing.assert_close(lid(9 * distances, 10), lid(distances, 10))


def test_one_statistic_per_stage(fitted, world):
    detector = fitted(LIDDetector())
    assert detector._statistics(world.test).shape == (90, 3)
    assert [stage.shape for stage in detector._reference] == [(100, 6 * 64), (100, 8 * 16), (100, 8)]


def test_reference_follows_the_seed(fitted, world):
    first, second = (fitted(LIDDetector(seed=seed)).score(world.test) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_a_reference_image_itself_stays_finite(fitted, world):
    assert torch.isfinite(fitted(LIDDetector()).score(world.train.images)).all()


def test_constant_activations_are_an_error(world):
    class Constant(nn.Module):
        def features(self, x):
            return [torch.ones(len(x), 4)]

    with pytest.raises(UserError, match="not finite"):
        LIDDetector().fit(Constant(), world.train, world.clean, world.adversarial)


def test_too_few_training_images(world):
    train = SimpleNamespace(images=world.train.images[:10], labels=world.train.labels[:10])
    with pytest.raises(UserError, match="training images"):
        LIDDetector().fit(world.model, train, world.clean, world.adversarial)


@pytest.mark.parametrize("options", [{"neighbours": 1}, {"neighbours": 30, "reference_size": 20}])
def test_options_out_of_range(options):
    with pytest.raises(UserError, match="neighbours"):
        LIDDetector(**options)
