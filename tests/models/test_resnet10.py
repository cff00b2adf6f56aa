from __future__ import annotations

import pytest
import torch

from robustgen.models.resnet10 import Config, Model
from robustgen.protocols import FeatureClassifier


@pytest.mark.parametrize(
    ("config", "count"),
    [(Config(), 4_903_242), (Config(size=150, stem_stride=2), 4_918_602)],
    ids=["cifar10", "imagenette"],
)
def test_parameter_counts_are_those_of_the_released_code(config: Config, count: int) -> None:
    assert sum(p.numel() for p in Model(config).parameters()) == count


@pytest.mark.parametrize(
    "config",
    [
        Config(size=32, width=4),
        Config(size=8, width=4, channels=1, mean=(0.3,), std=(0.4,), classes=3),
        Config(size=150, width=2, stem_stride=2),
        Config(size=33, width=2),
    ],
    ids=["32", "8", "150", "33"],
)
def test_shapes(config: Config) -> None:
    model = Model(config).eval()
    x = torch.rand(2, config.channels, config.size, config.size)
    logits, features = model(x), model.features(x)
    assert logits.shape == (2, config.classes) == (2, model.num_classes)
    side = -(-config.size // config.stem_stride)
    sides = [side, side, -(-side // 2), -(-side // 4), -(-side // 8)]
    assert [map_.shape[2] for map_ in features[:-1]] == sides
    assert [map_.shape[1] for map_ in features[:-1]] == [config.width * k for k in (1, 1, 2, 4, 8)]
    torch.testing.assert_close(model.fc(features[-1]), logits)
    assert isinstance(model, FeatureClassifier)


def test_images_come_in_pixel_units_and_are_normalised_inside() -> None:
    torch.manual_seed(0)
    plain = Model(Config(width=4, mean=(0.0,) * 3, std=(1.0,) * 3)).eval()
    normalising = Model(Config(width=4)).eval()
    normalising.load_state_dict(plain.state_dict())  # mean and std are of the architecture, not of the weights
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (Config().mean, Config().std))
    torch.testing.assert_close(normalising(x), plain((x - mean) / std))
    assert not torch.allclose(normalising(x), plain(x))


def test_penultimate_activations_are_those_of_a_single_image() -> None:
    model = Model(Config(width=4)).eval()
    x = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_gradient_reaches_every_parameter() -> None:
    model = Model(Config(width=2))
    model(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_mean_and_std_must_fit_the_channels() -> None:
    with pytest.raises(ValueError, match="1 values each"):
        Model(Config(channels=1))
