"""Random streams that belong to images, not to batches.

A stream is seeded by (seed, image index), so an image meets the same draws in any batch, order or shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def derive(seed: int, *path: int | str) -> int:
    """A 63-bit seed for the stream named by `path` below `seed`; unrelated for unequal paths."""
    digest = hashlib.blake2b(repr((seed, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *path: int | str) -> torch.Generator:
    """A CPU generator for the stream named by `path` below `seed`."""
    return torch.Generator().manual_seed(derive(seed, *path))


class ImageStreams:
    """One random stream per image. `indices` (N,) are the images' positions in their data set."""

    def __init__(self, seed: int, indices: Sequence[int]) -> None:
        self.generators = [generator(seed, int(index)) for index in indices]

    def subset(self, rows: Sequence[int]) -> ImageStreams:
        """The streams of some of the images, by their rows in the batch; they go on where they are."""
        chosen = ImageStreams(0, ())
        chosen.generators = [self.generators[row] for row in rows]
        return chosen

    def uniform(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """(N, *shape) numbers from U[0, 1), row i from image i's stream."""
        return torch.stack([torch.rand(tuple(shape), generator=g) for g in self.generators]).to(device)

    def normal(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """(N, *shape) numbers from N(0, 1), row i from image i's stream."""
        return torch.stack([torch.randn(tuple(shape), generator=g) for g in self.generators]).to(device)


class ImageRandomness(TorchFunctionMode):
    """Inside this context `torch.rand`, `rand_like`, `randn` and `randn_like` draw per image.

    It gives attacks of other libraries, which draw from the global generator, the property that ours have.
    It serves draws whose first dimension is the batch; others are an error rather than silently global.
    """

    def __init__(self, streams: ImageStreams) -> None:
        super().__init__()
        self.streams = streams

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.rand_like, torch.randn_like):
            shape, device = tuple(args[0].shape), args[0].device
        elif func in (torch.rand, torch.randn):
            size = args[0] if args and isinstance(args[0], tuple | list) else args
            shape, device = tuple(size), kwargs.get("device") or "cpu"
        else:
            return func(*args, **kwargs)
        if not shape or shape[0] != len(self.streams.generators):
            raise ValueError(f"a draw of shape {shape} has no batch of {len(self.streams.generators)} images")
        draw = self.streams.uniform if func in (torch.rand, torch.rand_like) else self.streams.normal
        return draw(shape[1:], device)
