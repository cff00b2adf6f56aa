"""Types of command-line options that several stages share, and how results record options."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
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

ADDED = {"added": True}
"""Metadata of an option that came after results were published."""


def recorded(options: Any) -> dict[str, Any]:
    """A dataclass of options, and those within it, as the dictionary that goes into a result file.

    An option marked ADDED is left out at its default: what it stands for is how all results before it were made, and
    these remain the same byte for byte.
    """
    found = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if not (field.metadata.get("added") and value == field.default):
            found[field.name] = recorded(value) if is_dataclass(value) else value
    return found
