"""Types of command-line options that several stages share."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec


def _read(words: list[str]) -> float:
    try:
        value = float(Fraction(words[0])) if "/" in words[0] else float(words[0])
    except ZeroDivisionError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{words[0]} is not a finite number")
    return value


def _is_float(value: Any) -> bool:
    return isinstance(value, float | int)


Ratio = Annotated[
    float,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT|A/B",
        instance_from_str=_read,
        is_instance=_is_float,
        str_from_instance=lambda value: [f"{value:g}"],
    ),
]
"""A number written as a decimal or as a fraction: `8/255` is exact where 0.031 and 8/256 are other radii."""
