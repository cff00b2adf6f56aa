from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from robustgen.models.madry_cnn import Config, Model
from robustgen.protocols import FeatureClassifier

SMALL = {"size": 8, "widths": (3, 4), "hidden": 5}


@pytest.mark.parametrize(("classes", "count"), [(10, 3_274_634), (1, 3_265_409)], ids=["classifier", "detector"])
def test_parameter_counts(classes: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in Model(Config(classes=classes)).parameters()) == count


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (16, 1), (12, 3)])
def test_shapes(size: int, channels: int) -> None:
    config = Config(
        size=size, channels=channels, classes=3, widths=(3, 4), hidden=5, mean=(0.3,) * channels, std=(0.4,) * channels
    )
    model = Model(config)
    x = torch.rand(2, channels, size, size)
    features, logits = model.features(x), model(x)
    assert [tuple(map_.shape) for map_ in features] == [
        (2, 3, size // 2, size // 2),
        (2, 4, size // 4, size // 4),
        (2, 5),
    ]
    assert logits.shape == (2, 3) == (2, model.num_classes)
    torch.testing.assert_close(model.fc(features[-1]), logits)
    assert {"fc.weight", "fc.bias"} <= set(model.state_dict())
    assert isinstance(model, FeatureClassifier)


def test_the_published_order_of_its_layers() -> None:
    """Convolution, ReLU, pooling, twice; normalised images are what it sees."""
    torch.manual_seed(0)
    model = Model(Config(**SMALL, mean=(0.3,), std=(0.4,)))
    x = torch.rand(4, 1, 8, 8)
    h = F.max_pool2d(F.relu(model.conv1((x - 0.3) / 0.4)), 2)
    h = F.max_pool2d(F.relu(model.conv2(h)), 2)
    torch.testing.assert_close(model(x), model.fc(F.relu(model.hidden(h.flatten(1)))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, "divisible by 4"),
        ({"size": 0}, "divisible by 4"),
        ({"widths": (8,)}, "two convolutions, not 1"),
        ({"channels": 3}, "3 values each"),
    ],
)
def test_networks_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Model(Config(**options))
