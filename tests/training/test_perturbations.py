from __future__ import annotations

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from robustgen.seeding import generator
from robustgen.training import perturbations
from robustgen.training.perturbations import OPERATIONS, Perturbation, coloured, operated, perturb

KINDS: tuple[Perturbation, ...] = ("none", "dct", "augmix", "dct-augmix")


def images(n: int = 6, channels: int = 3, size: int = 16) -> Tensor:
    return torch.rand(n, channels, size, size, generator=generator(0))


def operate(x: Tensor, name: str, level: float) -> Tensor:
    chosen = torch.full((len(x),), OPERATIONS.index(name))
    return operated(x, chosen, torch.full((len(x),), level))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 16), (1, 28), (3, 32), (1, 10)])
def test_shape_range_and_the_callers_images(kind: Perturbation, channels: int, size: int) -> None:
    x = images(5, channels, size)
    before = x.clone()
    found = perturb(x, kind, generator(1))
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(x, before)
    assert torch.equal(found, x) == (kind == "none")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_equal_draws_give_equal_images_and_each_image_has_its_own(kind: Perturbation) -> None:
    x = images(1).expand(6, -1, -1, -1).contiguous()
    found = perturb(x, kind, generator(1))
    assert torch.equal(found, perturb(x, kind, generator(1)))
    assert not torch.equal(found, perturb(x, kind, generator(2)))
    assert len({row.numpy().tobytes() for row in found}) == 6


def test_dct_drops_small_coefficients_and_keeps_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    x = 0.4 + 0.2 * images(4, 1)  # no clipping
    found = perturb(x, "dct", generator(3))
    thresholds = 0.5 * torch.rand((4, 1, 1, 1, 1, 1), generator=generator(3)).flatten()
    for image, result, threshold in zip(x, found, thresholds.tolist(), strict=True):
        for block in (slice(0, 8), slice(8, 16)):
            before = dctn(image[0, block, :8].double().numpy(), norm="ortho")
            after = dctn(result[0, block, :8].double().numpy(), norm="ortho")
            expected = before * ((abs(before) >= threshold) | (before == before[0, 0]))
            assert abs(after - expected).max() < 1e-5
    monkeypatch.setattr(perturbations, "LARGEST", 0.0)
    torch.testing.assert_close(perturb(x, "dct", generator(3)), x)
    monkeypatch.setattr(perturbations, "LARGEST", 1e6)
    mean = perturb(x, "dct", generator(3))
    torch.testing.assert_close(mean[:, :, :8, :8], x[:, :, :8, :8].mean((2, 3), keepdim=True).expand(-1, -1, 8, 8))


def test_a_flat_image_is_its_own_dct_at_any_size() -> None:
    x = torch.full((3, 1, 28, 28), 0.7)
    torch.testing.assert_close(perturb(x, "dct", generator(0)), x)


def test_augmix_lies_between_the_image_and_a_mixture_of_its_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.full((200, 1, 8, 8), 0.25)
    monkeypatch.setattr(perturbations, "operated", lambda chains, operation, level: torch.ones_like(chains))
    found = perturb(x, "augmix", generator(0))[:, 0, 0, 0]  # 0.25 + 0.75 m, m from Beta(1, 1)
    share = (found - 0.25) / 0.75
    assert 0 <= share.min() < 0.05
    assert 0.95 < share.max() <= 1 + 1e-6
    assert abs(share.mean() - 0.5) < 4 * (1 / 12 / 200) ** 0.5


def test_chains_have_one_to_three_operations_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(chains: Tensor, operation: Tensor, level: Tensor) -> Tensor:
        seen.append(operation)
        assert level.abs().min() >= 0.01
        assert level.abs().max() <= 0.3
        return chains

    monkeypatch.setattr(perturbations, "operated", spy)
    perturb(images(200, 1, 8), "augmix", generator(0))
    steps = torch.stack(seen)
    depth = (steps >= 0).sum(0)
    assert depth.unique().tolist() == [1, 2, 3]
    assert all(abs(float((depth == k).float().mean()) - 1 / 3) < 0.1 for k in (1, 2, 3))
    assert (steps[0] >= 0).all()
    assert steps.unique().tolist() == list(range(-1, len(OPERATIONS)))


def test_operations_meet_only_their_images() -> None:
    x = images(len(OPERATIONS) + 1)
    chosen, level = torch.arange(-1, len(OPERATIONS)), torch.full((len(OPERATIONS) + 1,), 0.3)
    found = operated(x, chosen, level)
    assert torch.equal(found[0], x[0])
    for row, name in enumerate(OPERATIONS, 1):
        assert torch.equal(found[row], operate(x[row : row + 1], name, 0.3)[0]), name
        assert not torch.equal(found[row], x[row]), name


def test_geometry_moves_by_whole_pixels_and_turns_about_the_middle() -> None:
    x = images(2, 1, 30)
    moved = operate(x, "translate-x", 0.29)  # 30/3 · 0.29 = 2.9 -> 2 pixels
    torch.testing.assert_close(moved[..., :-2], x[..., 2:], atol=1e-5, rtol=0)
    assert not moved[..., -1].any()
    moved = operate(x, "translate-y", -0.1)
    torch.testing.assert_close(moved[:, :, 1:], x[:, :, :-1], atol=1e-5, rtol=0)
    point = torch.zeros(1, 1, 31, 31)
    point[..., 15, 15] = 1
    torch.testing.assert_close(operate(point, "rotate", 0.3), point, atol=0.05, rtol=0)
    point = torch.zeros(1, 1, 31, 31)
    point[..., 15, 30] = 1
    right, left = (operate(point, "rotate", level)[0, 0].argmax() // 31 for level in (0.3, -0.3))
    assert {int(right), int(left)} == {13, 17}  # 15 ± 15 sin 9°


def test_shear_leaves_the_first_row_and_moves_the_last() -> None:
    x = torch.zeros(1, 1, 32, 32)
    x[..., 16] = 1
    found = operate(x, "shear-x", 0.3)[0, 0]
    assert found[0].argmax() == 16
    assert int(found[-1].argmax()) in (13, 14)  # 31.5 · 0.09 pixels to the left
    turned = operate(x.transpose(2, 3), "shear-y", 0.3)[0, 0]
    torch.testing.assert_close(turned, found.T)


@pytest.mark.parametrize(("level", "bits"), [(0.01, 4), (0.24, 4), (0.26, 3), (0.5, 2)])
def test_posterize_leaves_so_many_shades(level: float, bits: int) -> None:
    x = torch.linspace(0, 1, 1024).view(1, 1, 32, 32)
    found = operate(x, "posterize", level)
    assert len(found.unique()) == 2**bits
    assert (x - found).min() >= 0


def test_solarize_autocontrast_equalize() -> None:
    x = 0.2 + 0.6 * images(2)
    solarized = operate(x, "solarize", 0.3)
    torch.testing.assert_close(solarized, torch.where(x >= 0.7, 1 - x, x))
    stretched = coloured(x, "autocontrast", torch.ones(2, 1, 1, 1))
    torch.testing.assert_close(stretched.amin((2, 3)), torch.zeros(2, 3))
    torch.testing.assert_close(stretched.amax((2, 3)), torch.ones(2, 3))
    x = images(2, 1, 32) ** 3
    flat = operate(x, "equalize", 0.3)
    assert abs(flat.mean() - 0.5) < 0.02 < abs(x.mean() - 0.5)
