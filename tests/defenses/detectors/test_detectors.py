"""What every detector must do, and the parts they share."""

import copy

import pytest
import torch
from torch import nn

from robustgen import protocols
from robustgen.defenses.detectors import DETECTORS, Detector
from robustgen.defenses.detectors.base import corner_noise, squared_distances, stage_features
from robustgen.errors import UserError

NAMES = ("energy", "energy-released", "kd-bu", "lid")
every = pytest.mark.parametrize("name", NAMES)


def test_registry_names_and_rules():
    assert tuple(DETECTORS) == NAMES
    rules = {name: kind.threshold_rule for name, kind in DETECTORS.items()}
    assert rules == {"energy": "g-mean", "energy-released": "youden", "kd-bu": "g-mean", "lid": "g-mean"}


@every
def test_scores_one_finite_number_per_image(name, fitted, world):
    detector = fitted(DETECTORS[name]())
    assert isinstance(detector, Detector)
    assert isinstance(detector, protocols.Detector)
    scores = detector.score(world.test)
    assert scores.shape == (90,)
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    assert not scores.requires_grad
    assert scores.unique().numel() > 80
    assert detector.score(world.test[:0]).shape == (0,)


@every
def test_score_of_an_image_ignores_its_company(name, fitted, world):
    scores = fitted(DETECTORS[name]()).score(world.test)
    small = fitted(DETECTORS[name](batch_size=7))
    torch.testing.assert_close(small.score(world.test), scores, rtol=1e-3, atol=1e-3)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small.score(world.test[order]), scores[order], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(small.score(world.test[5:6]), scores[5:6], rtol=1e-3, atol=1e-3)


@every
def test_repeats_bit_for_bit_whatever_the_global_seed(name, fitted, world):
    first = fitted(DETECTORS[name]()).score(world.test)
    torch.manual_seed(123)
    torch.rand(7)
    assert torch.equal(fitted(DETECTORS[name]()).score(world.test), first)


@every
def test_leaves_the_classifier_as_found(name, world):
    model = copy.deepcopy(world.model).train()
    model.bn.eval()
    before = copy.deepcopy(model.state_dict())
    detector = DETECTORS[name]().fit(model, world.train, world.clean, world.adversarial)
    detector.score(world.test)
    assert model.training
    assert model.conv1.training
    assert not model.bn.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    reference = DETECTORS[name]().fit(world.model, world.train, world.clean, world.adversarial)
    assert torch.equal(detector.score(world.test), reference.score(world.test))


@every
def test_score_before_fit(name, world):
    with pytest.raises(UserError, match="not fitted"):
        DETECTORS[name]().score(world.test)


@every
@pytest.mark.parametrize(
    "images",
    [torch.rand(2, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.full((2, 1, 8, 8), 2.0)],
    ids=["3-d", "uint8", "outside [0, 1]"],
)
def test_unusable_images(name, images, fitted):
    detector = fitted(DETECTORS[name]())
    with pytest.raises(UserError, match="must"):
        detector.score(images)
    with pytest.raises(UserError, match="must"):
        detector.score(torch.full((2, 1, 8, 8), torch.nan))


@every
def test_unpaired_validation_images(name, world):
    with pytest.raises(UserError, match="pairs"):
        DETECTORS[name]().fit(world.model, world.train, world.clean, world.adversarial[:5])


@every
def test_broken_classifier_is_named(name, world):
    model = copy.deepcopy(world.model)
    model.conv2.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        DETECTORS[name]().fit(model, world.train, world.clean, world.adversarial).score(world.test)


@every
def test_unknown_option(name):
    with pytest.raises(TypeError):
        DETECTORS[name](colour="red")
    with pytest.raises(UserError, match="batch_size"):
        DETECTORS[name](batch_size=0)


def test_stage_features_needs_a_list(world):
    class NoFeatures(nn.Module):
        pass

    class OneTensor(nn.Module):
        features = nn.Flatten()

    for model in (NoFeatures(), OneTensor()):
        with pytest.raises(UserError, match="features"):
            stage_features(model, world.test)


def test_corner_noise_has_each_attacks_size():
    clean = torch.full((3, 1, 4, 4), 0.5)
    adversarial = clean.clone()
    adversarial[0, 0, 0, 0] += 0.1
    adversarial[1, 0, 2, 3] -= 0.2
    noisy = corner_noise(clean, adversarial, seed=0)
    sizes = (noisy - clean).abs().flatten(1)
    torch.testing.assert_close(sizes, torch.tensor([0.1, 0.2, 0.0])[:, None].expand(3, 16))
    assert len((noisy - clean)[0].sign().unique()) == 2
    assert torch.equal(corner_noise(clean[:1], adversarial[:1], seed=0), noisy[:1])
    assert corner_noise(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), seed=0).amax() == 1


def test_squared_distances_far_from_the_origin():
    source = torch.Generator().manual_seed(0)
    a, b = (100 + torch.randn(n, 40, generator=source) for n in (5, 9))
    exact = torch.cdist(a.double(), b.double()).square().float()
    torch.testing.assert_close(squared_distances(a, b), exact, rtol=1e-4, atol=0)
    assert (squared_distances(a, a) > 0).all()
