from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustgen.models.madry_resnet import Config, Model, Unit, standardised
from robustgen.protocols import FeatureClassifier

SMALL = {"units": 2, "widths": (2, 4, 8, 13)}


def test_parameter_count_is_that_of_w32_10() -> None:
    """Kernels, then two affine maps of batch norm in a unit and one before the last layer."""
    widths = (16, 160, 320, 640)
    count = 27 * 16 + 640 * 10 + 10 + 2 * 640
    for i in range(1, 4):
        count += 9 * (widths[i - 1] * widths[i] + 9 * widths[i] ** 2) + 2 * (widths[i - 1] + 9 * widths[i])
    with torch.device("meta"):
        assert sum(p.numel() for p in Model(Config()).parameters()) == count == 45_901_914


@pytest.mark.parametrize(("size", "channels"), [(32, 3), (8, 1)])
def test_shapes(size: int, channels: int) -> None:
    model = Model(Config(size=size, channels=channels, classes=3, **SMALL)).eval()
    x = torch.rand(2, channels, size, size)
    features, logits = model.features(x), model(x)
    assert [map_.shape[1] for map_ in features] == [2, 4, 8, 13, 13]
    assert [map_.shape[2] for map_ in features[:-1]] == [size, size, size // 2, size // 4]
    assert logits.shape == (2, 3) == (2, model.num_classes)
    torch.testing.assert_close(model.fc(features[-1]), logits)
    assert {"fc.weight", "fc.bias"} <= set(model.state_dict())
    assert isinstance(model, FeatureClassifier)


def test_only_the_last_layer_has_a_bias() -> None:
    model = Model(Config(**SMALL))
    assert not any(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d))
    assert [unit.activated for unit in model.modules() if isinstance(unit, Unit)] == [True] + [False] * 5


def silent(unit: Unit) -> Unit:
    """The unit in eval mode without its residual: what remains is the shortcut."""
    nn.init.zeros_(unit.conv2.weight)
    return unit.eval()


def test_shortcuts_have_no_parameters() -> None:
    """Averages of 2x2 pixels, zero channels half before and half after; the very first comes after the activation."""
    x = torch.randn(2, 3, 4, 4)
    found = silent(Unit(3, 8, 2, activated=False, slope=0.1))(x)
    assert found.shape == (2, 8, 2, 2)
    torch.testing.assert_close(found[:, 2:5], x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)))
    assert not found[:, :2].any()
    assert not found[:, 5:].any()
    first = silent(Unit(3, 3, 1, activated=True, slope=0.1))(x)
    torch.testing.assert_close(first, torch.where(x > 0, x, 0.1 * x) / (1 + 1e-3) ** 0.5)


def test_strided_convolutions_are_placed_as_in_tensorflow() -> None:
    """An output pixel sees the input from twice its place on."""
    unit = Unit(1, 1, 2, activated=False, slope=1.0).eval()
    unit.conv2.weight.data.zero_()[..., 1, 1] = 1
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 2, 2] = 1
    shortcut = torch.nn.functional.avg_pool2d(x, 2)
    seen = (unit(x) - shortcut)[0, 0].nonzero().tolist()
    assert seen == [[0, 0], [0, 1], [1, 0], [1, 1]]  # pixel 2 lies in 0..2 and in 2..4


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.flatten(1).mean(1), x.flatten(1).std(1, correction=0)


def test_each_image_is_standardised() -> None:
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x *= torch.tensor([1, 0.3, 0.05]).view(3, 1, 1, 1)
    mean, std = moments(standardised(x))
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(3))
    torch.testing.assert_close(standardised(0.5 * x + 0.2), standardised(x), atol=1e-4, rtol=0)


def test_an_image_of_one_colour_has_finite_gradients() -> None:
    x = torch.full((1, 3, 8, 8), 0.4, requires_grad=True)
    (gradient,) = torch.autograd.grad(standardised(x).square().sum(), x)
    assert torch.isfinite(gradient).all()
    assert standardised(x).abs().max() < 0.1


def test_one_image_or_many() -> None:
    model = Model(Config(size=8, **SMALL)).eval()
    x = torch.rand(5, 3, 8, 8)
    torch.testing.assert_close(model(x)[2:3], model(x[2:3]))


def test_signals_and_gradients_reach_everything() -> None:
    torch.manual_seed(0)
    model = Model(Config(size=16, units=5, widths=(4, 8, 8, 8)))
    x = torch.rand(8, 3, 16, 16)
    assert all(0.3 < map_.detach().std() < 5 for map_ in model.features(x)[:-1])
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, "divisible by 4"),
        ({"units": 0}, "at least 1"),
        ({"widths": (16, 160)}, "stem and three stages"),
        ({"widths": (16, 8, 8, 8)}, "do not fall"),
    ],
)
def test_networks_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Model(Config(**options))
