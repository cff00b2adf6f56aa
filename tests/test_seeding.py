from __future__ import annotations

import pytest
import torch
from scipy import stats

from robustgen.seeding import ImageRandomness, ImageStreams, derive, generator


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
