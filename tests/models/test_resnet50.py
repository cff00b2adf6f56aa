from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models import resnet50

from robustgen.models.resnet50 import Config, Model
from robustgen.protocols import FeatureClassifier


@pytest.mark.parametrize(("classes", "count"), [(1000, 25_557_032), (1, 25_557_032 - 999 * 2049)])
def test_parameter_counts(classes: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in Model(Config(classes=classes)).parameters()) == count


def test_it_is_torchvisions_network_of_normalised_images() -> None:
    torch.manual_seed(0)
    model = Model(Config(classes=3)).eval()
    theirs = resnet50(weights=None, num_classes=3).eval()
    theirs.load_state_dict(model.state_dict())
    x = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (Config().mean, Config().std))
    with torch.no_grad():
        features, logits = model.features(x), model(x)
        torch.testing.assert_close(logits, theirs((x - mean) / std))
        torch.testing.assert_close(model.fc(features[-1]), logits)
    assert [map_.shape[1] for map_ in features] == [64, 256, 512, 1024, 2048, 2048]
    assert [map_.shape[2] for map_ in features[:-1]] == [16, 16, 8, 4, 2]
    assert logits.shape == (2, model.num_classes)
    assert isinstance(model, FeatureClassifier)


@pytest.mark.parametrize("options", [{"channels": 1, "mean": (0.5,), "std": (0.5,)}, {"mean": (0.5,)}])
def test_networks_that_do_not_exist(options: dict[str, Any]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="channels must be 3"):
        Model(Config(**options))
