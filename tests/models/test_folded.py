"""Decoders laid out for inference against the same decoders as they were trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustgen.models.aae import Config, Decoder
from robustgen.models.folded import NARROW, Folded, Layer, Taps

QUICK = Config(
    size=16,
    encoder_channels=(8,),
    encoder_kernels=(5,),
    encoder_strides=(2,),
    encoder_paddings=(2,),
    decoder_channels=(16, 16, 8, 1),
    decoder_kernels=(4, 4, 4, 1),
    decoder_strides=(1, 2, 2, 1),
    decoder_paddings=(0, 1, 1, 0),
)


def config(size: int, channels: int, *columns: tuple[int, ...]) -> Config:
    """Of three classes; columns: channels, kernels, strides and paddings of the decoder."""
    names = ("channels", "kernels", "strides", "paddings")
    values = {f"decoder_{name}": column for name, column in zip(names, columns, strict=True)}
    return Config(size=size, channels=channels, classes=3, latent=4, **values)  # type: ignore[arg-type]


def trained(config: Config) -> Decoder:
    """In evaluation mode and double precision, with batch norms that are not the identity."""
    torch.manual_seed(0)
    decoder = Decoder(config).double().eval()
    for norm in decoder.norms:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.1, 2)
        nn.init.uniform_(norm.weight, -1, 2)
        nn.init.normal_(norm.bias)
    return decoder


CONFIGS = {
    "quick": QUICK,
    "mnist": Config(),
    "svhn": config(32, 3, (64, 64, 32, 16, 3), (4, 4, 4, 4, 1), (1, 2, 2, 2, 1), (0, 1, 1, 1, 0)),
    "narrow, odd kernels": config(27, 2, (5, 6, 4, 2), (4, 5, 5, 3), (1, 2, 2, 1), (0, 0, 0, 0)),
    "padding at the first": config(9, 1, (4, 3, 1), (5, 3, 5), (1, 3, 1), (1, 0, 2)),
    "stride above the kernel": config(10, 1, (4, 3, 1), (4, 1, 1), (1, 3, 1), (0, 0, 0)),
    "one layer": config(4, 1, (1,), (4,), (1,), (0,)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_images_and_gradients_are_the_decoder_s(name: str) -> None:
    decoder = trained(CONFIGS[name])
    z = torch.randn(3, decoder.groups, CONFIGS[name].latent, dtype=torch.float64, requires_grad=True)
    found, wanted = Folded(decoder)(z), decoder(z)
    assert found.is_contiguous()
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    weights = torch.randn_like(wanted)
    gradient, plain = (torch.autograd.grad((out * weights).sum(), z)[0] for out in (found, wanted))
    torch.testing.assert_close(gradient, plain, rtol=1e-9, atol=1e-9)


def test_narrow_layers_alone_are_ordinary_convolutions() -> None:
    layers = [Layer.of(each, None, 3) for each in trained(config(12, 1, (NARROW, NARROW + 1, 1), *SHAPE)).convolutions]
    assert [layer.taps is not None for layer in layers] == [True, True, False]


SHAPE = ((4, 4, 4), (1, 1, 2), (0, 1, 2))


def test_taps_by_hand() -> None:
    """One channel, stride 2, kernel (1, 2, 3) both ways: y[2m] = x[m] + 3 x[m − 1], y[2m + 1] = 2 x[m]."""
    line = torch.tensor([1.0, 2.0, 3.0])
    taps = Taps((line[:, None] * line)[None, None], stride=2, padding=0, groups=1)
    x = torch.tensor([1.0, 5.0])

    def spread(x: Tensor) -> Tensor:
        return torch.stack([x[0], 2 * x[0], x[1] + 3 * x[0], 2 * x[1], 3 * x[1]])

    found = taps((x[:, None] * x)[None, None], torch.zeros(1))
    assert torch.equal(found[0, 0], spread(x)[:, None] * spread(x))


def test_weights_are_copied() -> None:
    decoder = trained(QUICK)
    z = torch.randn(2, 10, 10, dtype=torch.float64)
    folded = Folded(decoder)
    before = folded(z)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
    assert torch.equal(folded(z), before)
