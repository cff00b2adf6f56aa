"""Random streams that belong to images, not to batches.

A stream is seeded by (seed, image index), so an image meets the same draws in any batch, order or shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Inside, the global generator of `device` starts at `seed`, for dropout; after, it is where it was."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        source = torch.cuda.default_generators[index]
    else:
        source = torch.default_generator
    state = source.get_state()
    source.manual_seed(seed)
    try:
        yield
    finally:
        source.set_state(state)


class ImageStreams:
    """One random stream per image. `indices` (N,) are the images' positions in their data set.

    `device` is where the numbers are made: a GPU draws faster than it is sent them, but other numbers than a CPU.
    """

    def __init__(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generators = [torch.Generator(self.device).manual_seed(derive(seed, int(index))) for index in indices]

    def subset(self, rows: Sequence[int]) -> ImageStreams:
        """The streams of some of the images, by their rows in the batch; they go on where they are."""
        chosen = ImageStreams(0, (), self.device)
        chosen.generators = [self.generators[row] for row in rows]
        return chosen

    def uniform(self, shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """(N, *shape) numbers from U[0, 1), row i from image i's stream; on `device`, by default the streams' own."""
        return self._stack(torch.rand, shape, device)

    def normal(self, shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """(N, *shape) numbers from N(0, 1), row i from image i's stream; on `device`, by default the streams' own."""
        return self._stack(torch.randn, shape, device)

    def _stack(self, draw: Callable[..., Tensor], shape: Sequence[int], device: torch.device | str | None) -> Tensor:
        rows = [draw(tuple(shape), generator=g, device=self.device) for g in self.generators]
        return torch.stack(rows).to(device or self.device)


class BatchStream:
    """One random stream for a whole batch of `count` images, drawn from as `ImageStreams` are."""

    def __init__(self, source: torch.Generator, count: int) -> None:
        self.source = source
        self.count = count

    def uniform(self, shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """(count, *shape) numbers from U[0, 1); on `device`, by default the generator's."""
        return self._draw(torch.rand, shape, device)

    def normal(self, shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """(count, *shape) numbers from N(0, 1); on `device`, by default the generator's."""
        return self._draw(torch.randn, shape, device)

    def _draw(self, draw: Callable[..., Tensor], shape: Sequence[int], device: torch.device | str | None) -> Tensor:
        numbers = draw((self.count, *shape), generator=self.source, device=self.source.device)
        return numbers.to(device or self.source.device)


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
