from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robustgen import models
from robustgen.errors import UserError
from robustgen.models.nijkamp import Config, Model
from robustgen.protocols import EnergyModel


def test_the_papers_network_has_its_parameters() -> None:
    assert sum(p.numel() for p in Model(Config()).parameters()) == 693_569


@pytest.mark.parametrize("config", [Config(size=8, width=4), Config(size=16, channels=1, width=2), Config(size=64)])
def test_shapes_and_protocol(config: Config) -> None:
    model = Model(config)
    v = torch.rand(3, config.channels, config.size, config.size) * 2 - 1
    assert model(v).shape == (3,)
    assert model.prepared_force()(v).shape == v.shape
    assert isinstance(model, EnergyModel)


def test_one_image_has_the_energy_it_has_in_a_batch() -> None:
    model = Model(Config(size=16, width=4))
    v = torch.rand(5, 3, 16, 16)
    torch.testing.assert_close(torch.cat([model(row[None]) for row in v]), model(v))


@pytest.mark.parametrize("size", [4, 28, 0])
def test_sizes_without_a_network_are_refused(size: int) -> None:
    with pytest.raises(UserError, match="power of two from 8 on, so pad"):
        models.build(Config(size=size))


def test_tau_must_be_positive() -> None:
    with pytest.raises(UserError, match="tau is 0"):
        models.build(Config(tau=0.0))


def test_a_file_keeps_network_and_tau(tmp_path: Path) -> None:
    model = Model(Config(size=8, width=2, tau=0.03))
    models.save(tmp_path / "ebm.safetensors", model)
    found = models.load(tmp_path / "ebm.safetensors", arch="nijkamp")
    assert isinstance(found, Model)
    assert found.tau == 0.03
    v = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(found(v), model(v))
