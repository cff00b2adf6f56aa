from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from robustgen import models
from robustgen.models.igebm import Block, Config, Model
from robustgen.protocols import Classifier, EnergyModel
from robustgen.sampling.langevin import force

SMALL = Config(size=8, channels=1, classes=4, width=4, tau=0.03, step=3.0, clip=0.0)


@pytest.fixture
def model() -> Model:
    """Untrained but for its class tables, which start at zero and so would hide the class."""
    torch.manual_seed(0)
    model = Model(SMALL).eval()
    for block in cast(list[Block], list(model.blocks)):
        for table in (block.gain, block.bias1, block.bias2):
            nn.init.normal_(table.weight, 0, 0.5)
    return model


def states(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, 1, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_papers_network() -> None:
    """Of its drawing: 3x3 128, blocks of 128, 128, 256, 256, 256, 256, of which the first, third and fifth halve."""
    with torch.device("meta"):
        model = Model(Config())
        maps: list[tuple[int, ...]] = []
        for block in model.blocks:
            block.register_forward_hook(lambda _, __, out: maps.append(tuple(out.shape[1:])))
        model.energies(torch.rand(2, 3, 32, 32), torch.zeros(2, 1, dtype=torch.long))
        count = sum(p.numel() for p in model.parameters())
    assert maps == [(128, 16, 16)] * 2 + [(256, 8, 8)] * 2 + [(256, 4, 4)] * 2
    convolutions = 9 * (3 * 128 + 4 * 128**2 + 2 * 128 * 256 + 7 * 256**2)
    tables = 10 * (2 * 3 * 128 + (128 + 2 * 256) + 3 * 3 * 256)
    assert count == convolutions + tables + 257


def test_published_sampler_in_units_of_v() -> None:
    """x ← x − 10·clip(∇ₓE, 0.01) + 0.005 Z on the images is v ← v − clip(40·∇ᵥE, 0.2) + 0.01 Z on the states."""
    config = Config()
    v = torch.tensor([0.3, -0.2])
    gradient_x = torch.tensor([0.004, 0.03])  # of E by x; by v it is half of that
    x_next = (v + 1) / 2 - 10 * gradient_x.clamp(-0.01, 0.01) + 0.005 * torch.tensor([1.0, -2.0])
    moved = (config.step * gradient_x / 2).clamp(-config.clip, config.clip)
    torch.testing.assert_close(v - moved + config.tau * torch.tensor([1.0, -2.0]), 2 * x_next - 1)


def test_logits_are_energies_of_every_class_with_the_sign_turned(model: Model) -> None:
    v = states(3)
    logits = model((v + 1) / 2)
    assert logits.shape == (3, 4)
    for k in range(4):
        torch.testing.assert_close(logits[:, k], -model.energy_of(v, torch.full((3,), k)))
    assert (logits - logits[:, :1]).abs().max() > 1e-4  # the class matters
    mixed = torch.tensor([2, 0, 3])
    torch.testing.assert_close(model.energy_of(v, mixed), -logits[torch.arange(3), mixed])
    assert isinstance(model, EnergyModel)
    assert isinstance(model, Classifier)


def test_marginal_energy_and_its_scale(model: Model) -> None:
    v = states(3)
    conditional = torch.stack([model.energy_of(v, torch.full((3,), k)) for k in range(4)], 1)
    torch.testing.assert_close(model.energy_of(v), -(-conditional).exp().sum(1).log())
    torch.testing.assert_close(model.scaled_energy(v), 3.0 * model.energy_of(v))


def test_marginal_of_what_the_conditional_sampler_samples(model: Model) -> None:
    sampler = Model(Config(**{**vars(SMALL), "marginal": "sampler", "tau": 1.5})).eval()  # so hot that classes mix
    sampler.load_state_dict(model.state_dict())
    v = states(3)
    conditional = torch.stack([3.0 * sampler.energy_of(v, torch.full((3,), k)) for k in range(4)], 1)
    scale = 1.5**2 / 2
    torch.testing.assert_close(sampler.scaled_energy(v) / scale, -(-conditional / scale).exp().sum(1).log())
    cold = Model(Config(**{**vars(SMALL), "marginal": "sampler", "tau": 1e-4})).eval()
    cold.load_state_dict(model.state_dict())
    torch.testing.assert_close(cold.force(v), cold.force(v, cold((v + 1) / 2).argmax(1)))  # that of the nearest class


def test_gradient_agrees_with_finite_differences(model: Model) -> None:
    model.double()
    v = states(2, torch.float64)
    direction = torch.randn(v.shape, dtype=torch.float64)
    labels = torch.tensor([1, 3])
    for y in (None, labels):
        with torch.no_grad():
            up, down = (3.0 * model.energy_of(v + sign * 1e-6 * direction, y) for sign in (1, -1))
        found = (model.force(v, y) * direction).sum((1, 2, 3))
        torch.testing.assert_close(found, (up - down) / 2e-6, rtol=1e-4, atol=1e-7)


def test_force_is_clipped_element_by_element(model: Model) -> None:
    v = states(3)
    free = force(model)(v)
    bound = float(free.abs().median())
    clipped = Model(Config(**{**vars(SMALL), "clip": bound})).eval()
    clipped.load_state_dict(model.state_dict())
    torch.testing.assert_close(force(clipped)(v), free.clamp(-bound, bound))


def test_one_state_or_many(model: Model) -> None:
    v = states(5)
    torch.testing.assert_close(model.energy_of(v)[1:2], model.energy_of(v[1:2]))
    torch.testing.assert_close(model.force(v)[1:2], model.force(v[1:2]))


def test_convolutions_have_spectral_norm_one(model: Model) -> None:
    model.train()
    for _ in range(100):  # power iterations
        model.energy_of(states(1), torch.zeros(1, dtype=torch.long))
    model.eval()
    normed = [module for module in model.modules() if is_parametrized(module)]
    assert len(normed) == 1 + 6 * 2 + 1  # stem, blocks, the one shortcut that widens
    for module in normed:
        largest = torch.linalg.svdvals(cast(Tensor, module.weight).flatten(1))[0]
        assert float(largest.detach()) == pytest.approx(1, abs=1e-3)


def test_power_iterations_stand_still_in_eval_mode(model: Model) -> None:
    v = states(2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first = model.energy_of(v)
    assert torch.equal(first, model.energy_of(v))
    model.force(v)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.train().energy_of(v)
    moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert moved
    assert all(key.endswith(("_u", "_v")) for key in moved)


def test_round_trip(model: Model, tmp_path: Path) -> None:
    model.train()(torch.rand(2, 1, 8, 8))
    model.eval()
    models.save(tmp_path / "m.safetensors", model)
    loaded: Any = models.load(tmp_path / "m.safetensors", arch="igebm")
    assert loaded.config == SMALL
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    torch.testing.assert_close(loaded.energy_of(states(3)), model.energy_of(states(3)))


@pytest.mark.parametrize(("wrong", "message"), [({"size": 4}, "size must be 8"), ({"tau": 0.0}, "must be positive")])
def test_impossible_options(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Model(Config(**wrong))
