from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from robustgen import models
from robustgen.errors import UserError
from robustgen.models.ncsnv2 import Config, InstanceNormPlus, NCSNv2, ResidualBlock, elu, resized
from robustgen.protocols import ScoreModel
from robustgen.seeding import generator

SMALL = Config(size=8, channels=1, width=3, sigma_first=2.0, levels=7)


@pytest.fixture
def model() -> NCSNv2:
    torch.manual_seed(0)
    return NCSNv2(SMALL).eval()


def test_the_papers_network_has_its_parameters() -> None:
    assert sum(p.numel() for p in NCSNv2(Config()).parameters()) == 29_694_083


@pytest.mark.parametrize(
    "config",
    [SMALL, Config(size=16, width=2), Config(size=28, channels=1, width=2), Config(size=10, channels=2, width=2)],
)
def test_shapes_and_protocol(config: Config) -> None:
    network = NCSNv2(config)
    x = torch.rand(3, config.channels, config.size, config.size)
    assert network(x).shape == x.shape
    assert isinstance(network, ScoreModel)


def test_one_image_has_the_score_it_has_in_a_batch(model: NCSNv2) -> None:
    x = torch.rand(5, 1, 8, 8, generator=generator(0))
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([model(row[None]) for row in x]), model(x), rtol=1e-4, atol=1e-5)


def test_the_score_is_the_output_over_sigma(model: NCSNv2) -> None:
    x, sigma = torch.rand(3, 1, 8, 8), torch.tensor([0.5, 2.0, 0.1])
    with torch.no_grad():
        found, plain = model.score(x, sigma), model(x)
    for row in range(3):
        torch.testing.assert_close(found[row], plain[row] / sigma[row])


def test_the_network_lives_on_both_sides_of_zero(model: NCSNv2) -> None:
    seen: list[torch.Tensor] = []
    model.begin.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = torch.rand(2, 1, 8, 8)
    model(x)
    torch.testing.assert_close(seen[0], 2 * x - 1)


def test_noise_levels_are_geometric_and_no_weights(model: NCSNv2) -> None:
    sigmas = model.sigmas.double()
    assert sigmas.shape == (7,)
    assert (float(sigmas[0]), float(sigmas[-1])) == pytest.approx((2.0, 0.01))
    torch.testing.assert_close(sigmas[:-1] / sigmas[1:], torch.full((6,), 200 ** (1 / 6)).double(), rtol=1e-5, atol=0)
    assert "sigmas" not in model.state_dict()


@pytest.mark.parametrize(
    ("change", "dilation", "size"), [(False, 1, 12), (True, 1, 6), (True, 2, 12), (True, 4, 12), (False, 4, 12)]
)
def test_blocks_pool_or_dilate(change: bool, dilation: int, size: int) -> None:
    block = ResidualBlock(4, 8, change=change, dilation=dilation)
    assert block(torch.rand(2, 4, 12, 12)).shape == (2, 8, size, size)
    assert block.conv1.dilation == block.conv2.dilation == (dilation, dilation)


def test_only_the_second_stage_halves_the_image(model: NCSNv2) -> None:
    shapes = []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape[1:])))
    model(torch.rand(1, 1, 8, 8))
    assert shapes == [(3, 8, 8), (6, 4, 4), (6, 4, 4), (6, 4, 4)]


def test_a_pixel_sees_the_whole_image(model: NCSNv2) -> None:
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[0, 0, 0, 0], x)
    assert (gradient != 0).all()


@torch.no_grad()
def test_instance_norm_plus_against_a_loop() -> None:
    torch.manual_seed(0)
    norm = InstanceNormPlus(5)
    torch.nn.init.normal_(norm.beta)
    x = torch.rand(3, 5, 6, 6) * 4 - 1
    expected = torch.empty_like(x)
    for image, out in zip(x, expected, strict=True):
        means = torch.stack([channel.mean() for channel in image])
        kept = (means - means.mean()) / (means.var() + 1e-5).sqrt()
        for c, channel in enumerate(image):
            plain = (channel - channel.mean()) / (channel.var(unbiased=False) + 1e-5).sqrt()
            out[c] = norm.gamma[c] * (plain + norm.alpha[c] * kept[c]) + norm.beta[c]
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)


def test_elu_and_its_gradient_are_torchs() -> None:
    x = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([0.0, -1e-8, 1e-8, -200.0, 200.0])]).requires_grad_()
    found, expected = elu(x), F.elu(x)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    weights = torch.rand(x.shape, generator=generator(0))
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-6)
    assert torch.autograd.gradcheck(elu, torch.tensor([-3.0, -0.5, 0.4, 2.0], dtype=torch.float64, requires_grad=True))


def test_the_input_gradient_agrees_with_finite_differences(model: NCSNv2) -> None:
    model.double()
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=generator(0)).requires_grad_()
    direction, weights = (torch.randn(x.shape, dtype=torch.float64, generator=generator(seed)) for seed in (1, 2))
    (gradient,) = torch.autograd.grad((model(x) * weights).sum(), x)
    with torch.no_grad():
        up, down = ((model(x + sign * 1e-6 * direction) * weights).sum() for sign in (1, -1))
    torch.testing.assert_close((gradient * direction).sum(), (up - down) / 2e-6, rtol=1e-5, atol=1e-7)


def test_resizing_keeps_corners() -> None:
    x = torch.rand(1, 1, 4, 4)
    assert resized(x, (4, 4)) is x
    assert resized(x, (8, 8))[0, 0, ::7, ::7].allclose(x[0, 0, ::3, ::3])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 9}, "size must be even and at least 8, not 9"),
        ({"size": 6}, "size must be even and at least 8, not 6"),
        ({"levels": 1}, "noise levels fall"),
        ({"sigma_first": 0.01}, "noise levels fall"),
        ({"sigma_last": 0.0}, "noise levels fall"),
    ],
)
def test_impossible_options(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(Config(**wrong))


def test_round_trip(model: NCSNv2, tmp_path: Path) -> None:
    models.save(tmp_path / "m.safetensors", model)
    loaded: Any = models.load(tmp_path / "m.safetensors", arch="ncsnv2")
    assert loaded.config == SMALL
    assert torch.equal(loaded.sigmas, model.sigmas)
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(loaded(x), model(x))
