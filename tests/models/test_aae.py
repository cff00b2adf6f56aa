from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen import models
from robustgen.errors import UserError
from robustgen.models.aae import AAE, Config, squared_error

SMALL = Config(
    size=8,
    channels=2,
    classes=3,
    latent=5,
    encoder_channels=(4, 6),
    encoder_kernels=(3, 3),
    encoder_strides=(2, 1),
    encoder_paddings=(1, 0),
    decoder_channels=(6, 4, 2),
    decoder_kernels=(4, 4, 1),
    decoder_strides=(1, 2, 1),
    decoder_paddings=(0, 1, 0),
    neurons=(7, 4),
)
MNIST = Config()
TRAFFIC = Config(
    size=32,
    channels=3,
    latent=16,
    encoder_channels=(16, 32, 64, 128),
    encoder_paddings=(2, 2, 2, 0),
    decoder_channels=(64, 64, 32, 16, 3),
    decoder_kernels=(4, 4, 4, 4, 1),
    decoder_strides=(1, 2, 2, 2, 1),
    decoder_paddings=(0, 1, 1, 1, 0),
)
SVHN = replace(TRAFFIC, latent=40, encoder_channels=(32, 64, 128, 128), neurons=(512, 256))
SWITCHES = list(itertools.product((True, False), repeat=2))  # A, D


def made(config: Config = SMALL, **changes: Any) -> AAE:
    """In evaluation mode and double precision, with batch norms that are not the identity."""
    torch.manual_seed(0)
    model = AAE(replace(config, **changes)).double().eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return model


def alone(model: AAE, k: int) -> AAE:
    """The networks of class k of a model without D, as a model of one class."""
    config, state = replace(model.config, classes=1), model.state_dict().items()
    part = AAE(config).to(model.mean.weight).train(model.training)
    classes = model.num_classes
    part.load_state_dict({name: value.chunk(classes)[k] if value.dim() else value for name, value in state})
    return part


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("config", "encoder", "decoder"),
    [
        (MNIST, [28, 14, 7, 4, 3], [1, 4, 11, 25, 28, 28]),
        (TRAFFIC, [32, 16, 8, 4, 1], [1, 4, 8, 16, 32, 32]),
        (SVHN, [32, 16, 8, 4, 1], [1, 4, 8, 16, 32, 32]),
    ],
    ids=["mnist", "traffic", "svhn"],
)
def test_table_9(config: Config, encoder: list[int], decoder: list[int]) -> None:
    """Every layer's output, measured."""
    model, seen = AAE(config).eval(), dict[str, list[tuple[int, ...]]](encoder=[], decoder=[])

    def watch(name: str) -> Any:
        return lambda _module, _inputs, output: seen[name].append(tuple(output.shape[1:]))

    for norm in model.encoder.norms:
        norm.register_forward_hook(watch("encoder"))
    for layer in model.decoder.convolutions:
        layer.register_forward_hook(watch("decoder"))
    logits = model(torch.rand(2, config.channels, config.size, config.size))
    assert logits.shape == (2, 10) == (2, model.num_classes)
    assert seen["encoder"] == [(c, s, s) for c, s in zip(config.encoder_channels, encoder[1:], strict=True)]
    assert seen["decoder"] == [(10 * c, s, s) for c, s in zip(config.decoder_channels, decoder[1:], strict=True)]
    assert model.encoder.sizes == encoder
    assert model.decoder.sizes == decoder
    member = model.member(3)
    assert isinstance(member[0], nn.Linear)
    assert (member[0].in_features, member[0].out_features) == (config.latent, config.decoder_channels[0])
    assert model.discriminator is not None
    widths = [layer.weight.shape[2] for layer in model.discriminator.layers]  # type: ignore[union-attr,index]
    assert widths == [*config.neurons, 1]


@pytest.mark.parametrize(("adversarial", "shared"), SWITCHES)
def test_shapes_of_all_switches(adversarial: bool, shared: bool) -> None:
    model = made(adversarial=adversarial, shared=shared)
    x, z = torch.rand(4, 2, 8, 8, dtype=torch.float64), random(4, 3, 5)
    assert model.groups == (1 if shared else 3)
    for part in model.encode(x):
        assert part.shape == (4, 3, 5)
    for part in model.encode_own(torch.rand(model.groups, 4, 2, 8, 8, dtype=torch.float64)):
        assert part.shape == (model.groups, 4, 5)
    images = model.decode(z)
    assert images.shape == (4, 3, 2, 8, 8)
    assert images.min() > 0
    assert images.max() < 1
    torch.testing.assert_close(model(x), -(x[:, None] - model.decode(model.encode(x)[0])).pow(2).sum((2, 3, 4)))
    if adversarial:
        assert model.log_d(z).shape == (4, 3)
        torch.testing.assert_close(model.log_d(z).exp(), model.discriminate(z).sigmoid())
        return
    for call in (model.log_d, model.discriminate):
        with pytest.raises(UserError, match=r"has no discriminator.*--model\.adversarial"):
            call(z)


@pytest.mark.parametrize("training", [False, True])
def test_grouped_decoders_are_separate_ones(training: bool) -> None:
    """Values and gradients, of latents and weights; in training each has batch statistics of its own."""
    model = made(dropout=0.0).train(training)
    members = [model.member(k) for k in range(3)]
    z, way = random(6, 3, 5).requires_grad_(), random(6, 3, 2, 8, 8, seed=1)
    grouped, separate = model.decode(z), torch.stack([member(z[:, k]) for k, member in enumerate(members)], 1)
    torch.testing.assert_close(grouped, separate)
    (ours,) = torch.autograd.grad((grouped * way).sum(), z, retain_graph=True)
    (theirs,) = torch.autograd.grad((separate * way).sum(), z, retain_graph=True)
    torch.testing.assert_close(ours, theirs)
    (grouped * way).sum().backward()
    (separate * way).sum().backward()
    for k, member in enumerate(members):
        for i, layer in enumerate(layer for layer in member if isinstance(layer, nn.ConvTranspose2d)):
            assert layer.weight.grad is not None
            weight: Any = model.decoder.convolutions[i].weight
            torch.testing.assert_close(weight.grad.chunk(3)[k], layer.weight.grad, rtol=1e-5, atol=1e-6)
        assert isinstance(member[0], nn.Linear)
        assert model.decoder.fc.weight.grad is not None
        torch.testing.assert_close(model.decoder.fc.weight.grad[k].T, member[0].weight.grad)


def test_a_decoder_sees_its_own_latents_only() -> None:
    model, z = made(), random(4, 3, 5)
    changed = z.clone()
    changed[:, 1] += 1
    differs = (model.decode(z) - model.decode(changed)).abs().flatten(2).amax(2) > 0
    assert differs.tolist() == [[False, True, False]] * 4


@pytest.mark.parametrize("training", [False, True])
def test_encoders_and_discriminators_of_classes_are_separate_ones(training: bool) -> None:
    model = made(shared=False, dropout=0.0).train(training)
    x, z = torch.rand(3, 5, 2, 8, 8, dtype=torch.float64, requires_grad=True), random(5, 3, 5)
    parts = [alone(model, k) for k in range(3)]
    own = [
        torch.stack(each) for each in zip(*(part.encode_own(x[k : k + 1]) for k, part in enumerate(parts)), strict=True)
    ]
    for ours, theirs in zip(model.encode_own(x), own, strict=True):
        torch.testing.assert_close(ours, theirs.squeeze(1))
        (a,), (b,) = (torch.autograd.grad(y.pow(2).sum(), x, retain_graph=True) for y in (ours, theirs))
        torch.testing.assert_close(a, b)
    everywhere = [torch.cat(each, 1) for each in zip(*(part.encode(x[0]) for part in parts), strict=True)]
    for ours, theirs in zip(model.encode(x[0]), everywhere, strict=True):
        torch.testing.assert_close(ours, theirs)
    separate = torch.cat([part.discriminate(z[:, k : k + 1]) for k, part in enumerate(parts)], 1)
    torch.testing.assert_close(model.discriminate(z), separate)
    torch.testing.assert_close(model.discriminate_own(z.transpose(0, 1)), separate.T)


def test_one_encoder_and_discriminator_for_all_classes() -> None:
    model = made()
    x, z = torch.rand(4, 2, 8, 8, dtype=torch.float64), random(4, 3, 5)
    for everywhere, own in zip(model.encode(x), model.encode_own(x[None]), strict=True):
        assert torch.equal(everywhere, own[0][:, None].expand(-1, 3, -1))
    torch.testing.assert_close(model.discriminate(z[:, [2, 0, 1]]), model.discriminate(z)[:, [2, 0, 1]])


def test_layers_in_the_paper_s_order() -> None:
    """Convolution, batch norm and leaky ReLU; the decoder's last layer has a sigmoid alone."""
    model = made(classes=1)
    x: Tensor = torch.rand(4, 2, 8, 8, dtype=torch.float64)
    h: Tensor = x
    for convolution, norm in zip(model.encoder.convolutions, model.encoder.norms, strict=True):
        h = F.leaky_relu(norm(convolution(h)), 0.2)
    torch.testing.assert_close(model.encode(x)[0][:, 0], h.flatten(1) @ model.mean.weight[0] + model.mean.bias[0])
    z = random(4, 1, 5)
    h = (z[:, 0] @ model.decoder.fc.weight[0] + model.decoder.fc.bias[0])[..., None, None]
    first, second, last = model.decoder.convolutions
    h = F.relu(model.decoder.norms[1](second(F.relu(model.decoder.norms[0](first(h))))))
    torch.testing.assert_close(model.decode(z)[:, 0], torch.sigmoid(last(h)))
    assert model.discriminator is not None
    h = z.transpose(0, 1)
    for layer in list(model.discriminator.layers)[:-1]:
        h = F.leaky_relu(layer(h), 0.2)
    torch.testing.assert_close(model.discriminate(z), model.discriminator.layers[-1](h)[0])


def test_dropout_in_training_alone() -> None:
    model = made(dropout=0.5)
    x, z = torch.rand(4, 2, 8, 8, dtype=torch.float64), random(4, 3, 5)
    assert torch.equal(model.encoder(x), model.encoder(x))
    assert torch.equal(model.decode(z), model.decode(z))
    model.train()
    zeros = (model.encoder(x) == 0).double().mean()
    assert 0.35 < zeros < 0.65
    assert not torch.equal(model.decode(z), model.decode(z))


def test_squared_error_is_the_sum_over_pixels_and_channels() -> None:
    assert squared_error(torch.zeros(2, 1, 2, 3, 3), torch.full((2, 4, 2, 3, 3), 0.5)).tolist() == [[4.5] * 4] * 2


def test_weights_start_as_pytorch_s_do() -> None:
    """Of grouped linear layers: within 1/sqrt(fan-in), as `nn.Linear`."""
    torch.manual_seed(0)
    model = AAE(SMALL)
    for layer in (model.mean, model.decoder.fc):
        bound = layer.weight.shape[1] ** -0.5
        for weights in (layer.weight, layer.bias):
            assert 0.7 * bound < float(weights.detach().abs().max()) <= bound


@pytest.mark.parametrize(("adversarial", "shared"), SWITCHES)
def test_models_come_back_from_files(tmp_path: Path, adversarial: bool, shared: bool) -> None:
    model = made(adversarial=adversarial, shared=shared).float()
    models.save(tmp_path / "m.safetensors", model)
    loaded = models.load(tmp_path / "m.safetensors", arch="aae")
    assert loaded.config == model.config
    x = torch.rand(4, 2, 8, 8)
    torch.testing.assert_close(loaded(x), model(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_kernels": (3,)}, r"encoder_channels, .* one value a layer, not \[2, 1, 2, 2\]"),
        ({"decoder_paddings": ()}, "decoder_channels, .* one value a layer"),
        ({"encoder_strides": (0, 1)}, "encoder needs channels, kernels and strides >= 1"),
        ({"encoder_kernels": (3, 7)}, r"encoder's maps have sides \[8, 4, -2\]"),
        ({"decoder_paddings": (2, 1, 0)}, r"decoder's maps have sides \[1, 0, "),
        ({"size": 9}, "decoder makes images of side 8, not 9"),
        ({"channels": 1}, "decoder ends with 2 channels, images have 1"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"latent": 0}, "latent and neurons must be at least 1"),
        ({"neurons": (4, 0)}, "latent and neurons must be at least 1"),
        ({"dropout": 1.0}, "slope and dropout lie in"),
        ({"slope": -0.1}, "slope and dropout lie in"),
    ],
)
def test_networks_that_do_not_exist(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"no aae has these options: .*{message}"):
        models.build(replace(SMALL, **changes))
