from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from robustgen.models.wide_resnet import Block, Config, Model
from robustgen.protocols import FeatureClassifier
from robustgen.training import classifier

SMALL = {"depth": 10, "widen": 1, "base": 4}
GREY = {"channels": 1, "mean": (0.3,), "std": (0.4,)}


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (Config(), 36_489_290),  # of the code of Hill et al.
        (Config(classes=100), 36_489_290 + 90 * 641),
        (Config(norm="none", slope=0.2), 36_489_290 - 2 * (16 + 8 * (160 + 320 + 640))),
    ],
    ids=["WRN-28-10", "100 classes", "no batch norm"],
)
def test_parameter_counts(config: Config, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in Model(config).parameters()) == count


@pytest.mark.parametrize("size", [32, 28, 16, 8])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_shapes(size: int, norm: Any) -> None:
    model = Model(Config(size=size, norm=norm, classes=3, **SMALL, **GREY)).eval()
    x = torch.rand(2, 1, size, size)
    logits, features = model(x), model.features(x)
    assert logits.shape == (2, 3) == (2, model.num_classes)
    assert [map_.shape[1] for map_ in features] == [4, 4, 8, 16, 16]
    assert [map_.shape[2] for map_ in features[:-1]] == [size, size, -(-size // 2), -(-size // 4)]
    assert features[-1].shape == (2, 16)
    torch.testing.assert_close(model.fc(features[-1]), logits)
    assert isinstance(model, FeatureClassifier)


@pytest.mark.parametrize(("depth", "blocks"), [(10, 3), (16, 6), (28, 12)])
def test_depth_counts_convolutions(depth: int, blocks: int) -> None:
    model = Model(Config(depth=depth, widen=1, base=2))
    assert sum(isinstance(module, Block) for module in model.modules()) == blocks
    longest = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and "shortcut" not in name]
    assert len(longest) + 3 == depth  # the paper counts the three shortcuts where the width changes


def test_images_come_in_pixel_units_and_are_normalised_inside() -> None:
    torch.manual_seed(0)
    plain = Model(Config(**SMALL, channels=1, mean=(0.0,), std=(1.0,))).eval()
    normalising = Model(Config(**SMALL, **GREY)).eval()
    normalising.load_state_dict(plain.state_dict())
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(normalising(x), plain((x - 0.3) / 0.4))
    assert not torch.allclose(normalising(x), plain(x))


def test_one_image_or_many() -> None:
    model = Model(Config(**SMALL, **GREY)).eval()
    x = torch.rand(5, 1, 16, 16)
    torch.testing.assert_close(model(x)[2:3], model(x[2:3]))


@pytest.mark.parametrize(("norm", "slope"), [("batch", 0.0), ("none", 0.2)])
def test_signals_neither_vanish_nor_explode(norm: Any, slope: float) -> None:
    torch.manual_seed(0)
    model = Model(Config(depth=40, widen=2, norm=norm, slope=slope))
    model.train()
    x = torch.randn(8, 3, 32, 32) * 0.5 + 0.5  # white once normalised: what He's weights are made for
    assert all(0.3 < map_.detach().std() < 4 for map_ in model.features(x)[:-1])
    model(x).square().sum().backward()
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in model.parameters()
    )


def test_slope_of_negative_inputs() -> None:
    torch.manual_seed(0)
    leaky = Model(Config(**SMALL, slope=0.2, norm="none"))
    assert float(leaky.features(torch.rand(4, 3, 16, 16))[-2].detach().min()) < 0
    hard = Model(Config(**SMALL, norm="none"))
    assert float(hard.features(torch.rand(4, 3, 16, 16))[-2].detach().min()) == 0


def test_dropout_acts_in_training_only() -> None:
    model = Model(Config(**SMALL, norm="none", dropout=0.5))
    x = torch.rand(3, 3, 16, 16)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 27}, "depth must be 10, 16, 22"),
        ({"depth": 4}, "depth must be 10, 16, 22"),
        ({"dropout": 1.0}, "dropout must lie"),
        ({"channels": 1}, "1 values each"),
    ],
)
def test_networks_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Model(Config(**options))


def test_one_step_of_the_papers_classifier() -> None:
    torch.manual_seed(0)
    model = Model(Config())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    loss = classifier.train_step(model, optimizer, torch.rand(2, 3, 32, 32), torch.tensor([0, 9]), "float32")
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p).all() for p in model.parameters())
