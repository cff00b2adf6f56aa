"""Attacks, one a file, compatible with torchattacks; they know a model or defence by its protocol only.

A module `robustgen.attacks.<name>` holds `Options` (a frozen dataclass whose field `name` is its name) and `Attack`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from robustgen.errors import UserError

ATTACKS = ("apgd", "fgsm", "he_pgd", "pgd")


def attack_type(name: str) -> type[Any]:
    """The attack class called `name`; UserError for an unknown one."""
    if name not in ATTACKS:
        raise UserError(f"unknown attack {name!r}; known are {', '.join(ATTACKS)}")
    return import_module(f"robustgen.attacks.{name}").Attack  # type: ignore[no-any-return]
