"""Timing of several ways to compute the same, in turn, so that a slow minute hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch


def rounds(ways: dict[str, Callable[[], object]], repetitions: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each way, after one round to warm up; the first one changes each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for repetition in range(-1, repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            ways[name]()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}
