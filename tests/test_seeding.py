from __future__ import annotations

import pytest
import torch
from scipy import stats

from robustgen.seeding import BatchStream, ImageRandomness, ImageStreams, derive, generator, seeded


def test_derived_seeds_differ_by_path_and_fit_a_generator() -> None:
    paths: list[tuple[int | str, ...]] = [(), (1,), ("1",), (1, 2), (12,), ("a", "b"), ("ab",)]
    seeds = [derive(seed, *path) for seed in (0, 1) for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(0, "order", 3) == derive(0, "order", 3)
    assert generator(0, 1).initial_seed() == derive(0, 1)


def test_an_image_meets_the_same_draws_in_any_batch() -> None:
    whole = ImageStreams(7, range(10))
    part = ImageStreams(7, (8, 2))
    for draw in ("uniform", "normal"):
        full = getattr(whole, draw)((3, 2))
        assert full.shape == (10, 3, 2)
        assert torch.equal(getattr(part, draw)((3, 2)), full[[8, 2]])


def test_subset_goes_on_where_the_streams_are() -> None:
    streams, again = ImageStreams(0, range(4)), ImageStreams(0, range(4))
    streams.uniform((2,))
    again.uniform((2,))
    assert torch.equal(streams.subset([3, 1]).uniform((5,)), again.uniform((5,))[[3, 1]])


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_streams_draw_on_their_device(device: str) -> None:
    streams = ImageStreams(7, range(4), device)
    assert streams.subset([1]).device == streams.device == torch.device(device)
    assert all(g.device.type == device for g in streams.generators)
    first = streams.normal((3, 2))
    assert first.device.type == device
    assert streams.uniform((2,), "cpu").device.type == "cpu"
    assert torch.equal(ImageStreams(7, (3, 0), device).normal((3, 2)), first[[3, 0]])
    assert torch.equal(ImageStreams(7, range(4), "cpu").normal((3, 2)), ImageStreams(7, range(4)).normal((3, 2)))


def test_stream_of_a_batch_is_its_generator() -> None:
    stream, plain = BatchStream(generator(1, "x"), 3), generator(1, "x")
    for draw, expected in (("uniform", torch.rand), ("normal", torch.randn), ("uniform", torch.rand)):
        assert torch.equal(getattr(stream, draw)((2, 2)), expected(3, 2, 2, generator=plain))
    assert torch.equal(stream.uniform(()), torch.rand(3, generator=plain))


def test_draws_are_uniform_and_normal() -> None:
    streams = ImageStreams(0, range(50))
    assert stats.kstest(streams.uniform((200,)).flatten().numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(streams.normal((200,)).flatten().numpy(), "norm").pvalue > 0.01


def test_foreign_code_draws_per_image() -> None:
    like = torch.zeros(3, 2, 2)
    with ImageRandomness(ImageStreams(5, range(3))):
        found = [torch.rand(like.shape), torch.randn(3, 4), torch.rand_like(like), torch.randn_like(like)]
        assert torch.equal(torch.ones(2) + 1, torch.full((2,), 2.0))  # other functions are left alone
    streams = ImageStreams(5, range(3))
    for draw, kind in zip(found, ("uniform", "normal", "uniform", "normal"), strict=True):
        assert torch.equal(draw, getattr(streams, kind)(draw.shape[1:]))


@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_draw_without_the_batch_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no batch of 3 images"), ImageRandomness(ImageStreams(0, range(3))):
        torch.rand(shape)


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_inside_seeded_the_global_draws_are_the_seed_s(device: str) -> None:
    """Whatever was drawn before; what is drawn after does not know of it, an error inside or not."""
    ones = torch.ones(50, device=device)

    def dropped() -> torch.Tensor:
        return torch.nn.functional.dropout(ones, 0.5)

    def failing() -> None:
        with seeded(ones.device, 9):
            dropped()
            raise ZeroDivisionError

    dropped()
    torch.manual_seed(3)
    expected = dropped(), dropped()
    found = []
    torch.manual_seed(3)
    for _ in range(2):
        with seeded(ones.device, 8):
            found.append(dropped())
        with pytest.raises(ZeroDivisionError):
            failing()
        found.append(dropped())
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], expected[0])
    assert torch.equal(found[3], expected[1])
    with seeded(ones.device, 9):
        assert not torch.equal(dropped(), found[0])
