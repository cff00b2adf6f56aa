"""Progress of long loops: a bar on a terminal, plain lines with time and rate in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 10.0  # seconds between two lines of a log


def progress(items: Iterable[T], *, total: int, label: str, unit: str = "batch") -> Iterator[T]:
    """Iterate over `items`, reporting on standard error; `label` starts every line. Short loops leave no line."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, unit=unit, leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= INTERVAL or (done == total and last > start):
            last = now
            log(f"{label}: {done}/{total} {unit}, {now - start:.1f} s, {done / max(now - start, 1e-9):.2f} {unit}/s")


def log(message: str) -> None:
    """One line on standard error, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)
