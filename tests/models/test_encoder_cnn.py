from __future__ import annotations

from typing import Any

import pytest
import torch

from robustgen import models
from robustgen.errors import UserError
from robustgen.models import aae
from robustgen.models.encoder_cnn import Config, Model
from robustgen.protocols import FeatureClassifier

SVHN: dict[str, Any] = {
    "size": 32,
    "channels": 3,
    "encoder_channels": (32, 64, 128, 128),
    "encoder_paddings": (2, 2, 2, 0),
}


@pytest.mark.parametrize(
    ("options", "maps"),
    [
        ({}, [(16, 14), (32, 7), (64, 4), (64, 3)]),
        (SVHN, [(32, 16), (64, 8), (128, 4), (128, 1)]),
    ],
    ids=["mnist", "svhn"],
)
def test_shapes_of_table_9(options: dict[str, Any], maps: list[tuple[int, int]]) -> None:
    model = Model(Config(**options)).eval()
    x = torch.rand(2, model.config.channels, model.config.size, model.config.size)
    *found, last = model.features(x)
    assert [tuple(each.shape) for each in found] == [(2, width, side, side) for width, side in maps]
    assert last.shape == (2, maps[-1][0] * maps[-1][1] ** 2)
    assert model(x).shape == (2, 10) == (2, model.num_classes)
    assert torch.equal(model.fc(last), model(x))
    assert isinstance(model, FeatureClassifier)
    assert {"fc.weight", "fc.bias"} <= set(model.state_dict())


def test_the_encoder_is_e_abs_s() -> None:
    model, autoencoder = Model(Config()).eval(), aae.AAE(aae.Config()).eval()
    model.encoder.load_state_dict(autoencoder.encoder.state_dict())
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(model.features(x)[-1], autoencoder.encoder(x)[0])


def test_dropout_lies_after_the_last_convolution() -> None:
    torch.manual_seed(0)
    model = Model(Config(dropout=0.5)).train()
    before, after = model.features(torch.rand(8, 1, 28, 28))[-2:]
    kept = after != 0
    torch.testing.assert_close(after[kept], 2 * before.flatten(1)[kept])
    assert 0.4 < kept.double().mean() < 0.6
    assert all((each != 0).double().mean() > 0.9 for each in model.features(torch.rand(8, 1, 28, 28))[:-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_strides": (2, 2)}, "one value a layer"),
        ({"size": 2, "encoder_paddings": (0, 0, 0, 0)}, "encoder's maps have sides"),
        ({"dropout": -0.5}, "slope and dropout lie in"),
    ],
)
def test_networks_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"no encoder_cnn has these options: .*{message}"):
        models.build(Config(**options))
