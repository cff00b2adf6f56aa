from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from robustgen import models
from robustgen.models import wide_resnet
from robustgen.models.jem import Config, Model
from robustgen.protocols import EnergyModel, FeatureClassifier
from robustgen.sampling.langevin import force

SMALL = Config(size=8, channels=1, classes=4, depth=10, widen=1, base=4, tau=0.03, step=2.0)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(SMALL).eval()


def test_the_papers_network_is_the_wide_resnet_without_norm() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in Model(Config()).parameters())
        plain = wide_resnet.Model(wide_resnet.Config(norm="none", slope=0.2))
    assert count == sum(p.numel() for p in plain.parameters()) == 36_471_338


def test_protocols_and_published_sampler(model: Model) -> None:
    assert isinstance(model, EnergyModel)
    assert isinstance(model, FeatureClassifier)
    assert (model.tau, model.step, model.num_classes) == (0.03, 2.0, 4)
    assert (Config().tau, Config().step) == (0.01, 1.0)


def test_energy_is_minus_logsumexp_of_the_logits_at_the_image(model: Model) -> None:
    x = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(model.scaled_energy(2 * x - 1), -2.0 * model(x).exp().sum(1).log())


def test_the_network_lives_on_v() -> None:
    torch.manual_seed(0)
    model = Model(SMALL).eval()
    plain = wide_resnet.Model(
        wide_resnet.Config(
            size=8, channels=1, classes=4, depth=10, widen=1, base=4, norm="none", slope=0.2, mean=(0.0,), std=(1.0,)
        )
    ).eval()
    plain.load_state_dict(model.state_dict())
    v = torch.rand(3, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(model((v + 1) / 2), plain(v))


def test_gradient_agrees_with_finite_differences(model: Model) -> None:
    model.double()
    v = torch.rand(2, 1, 8, 8, dtype=torch.float64) * 2 - 1
    found = force(model)(v)
    direction = torch.randn(v.shape, dtype=torch.float64)
    with torch.no_grad():
        up, down = (model.scaled_energy(v + sign * 1e-6 * direction) for sign in (1, -1))
    torch.testing.assert_close((found * direction).sum((1, 2, 3)), (up - down) / 2e-6, rtol=1e-4, atol=1e-7)


def test_one_state_or_many(model: Model) -> None:
    v = torch.rand(5, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(model.scaled_energy(v)[1:2], model.scaled_energy(v[1:2]))
    torch.testing.assert_close(force(model)(v)[1:2], force(model)(v[1:2]))


def test_round_trip(model: Model, tmp_path: Path) -> None:
    models.save(tmp_path / "m.safetensors", model)
    loaded: Any = models.load(tmp_path / "m.safetensors", arch="jem")
    assert loaded.config == SMALL
    v = torch.rand(3, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(loaded.scaled_energy(v), model.scaled_energy(v))


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"step": -1.0}, {"depth": 11}])
def test_impossible_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Model(Config(**wrong))
