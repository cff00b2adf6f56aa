"""The attacks on random defences by their names in tables and on command lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from robustgen.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from robustgen.attacks.eot import EotAttack

NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Entry:
    """Where an attack is, and the options that its name stands for."""

    module: str  # below robustgen.attacks
    kind: str  # its class there
    fixed: Mapping[str, Any] = field(default_factory=dict)
    below: tuple[str, ...] = ()  # modules that this one builds on, beside those of every attack

    def load(self) -> type[EotAttack]:
        return getattr(import_module(f"robustgen.attacks.{self.module}"), self.kind)  # type: ignore[no-any-return]

    def options(self) -> set[str]:
        """The names of the options that may be given."""
        return {f.name for f in fields(self.load().Options)} - {"name", *self.fixed}


EOT_ATTACKS: Mapping[str, Entry] = {
    "classifier": Entry("classifier_pgd", "ClassifierPgd"),  # PGD on the classifier alone
    "bpda": Entry("bpda_eot", "BpdaEot", {"gradient": "bpda"}),
    "joint-score": Entry("joint", "JointScore", below=("bpda_eot",)),
    "joint-full": Entry("joint", "JointFull", below=("bpda_eot",)),
    "spsa": Entry("spsa", "SPSA"),
    "full": Entry("bpda_eot", "BpdaEot", {"gradient": "full"}),  # the gradient through the purification
    "apgd": Entry("apgd_eot", "ApgdEot"),
}
SHARED_MODULES = ("ball", "base", "eot", "objectives", "registry")


def entry(name: str) -> Entry:
    """The attack called `name`; UserError for an unknown one."""
    if name not in EOT_ATTACKS:
        raise UserError(f"unknown attack {name!r}; known are {', '.join(EOT_ATTACKS)}")
    return EOT_ATTACKS[name]


def eot_attack_type(name: str) -> type[EotAttack]:
    """The class of the attack called `name`; UserError for an unknown one."""
    return entry(name).load()


def modules(names: Iterable[str]) -> list[str]:
    """The modules (`attacks.eot`, ...) that the results of these attacks depend on."""
    own = {module for name in names for module in (entry(name).module, *entry(name).below)}
    return [f"attacks.{module}" for module in sorted({*SHARED_MODULES, *own})]


def build_attack(
    name: str, defense: nn.Module, *, shared: Mapping[str, Any] = NONE, batch: int = 64, **options: Any
) -> EotAttack:
    """The attack called `name` on a `RandomDefense`.

    `options` are the attack's own: one that it does not have is a UserError. `shared` are those of a caller that runs
    several attacks, each of which takes the ones it has; one that no attack has is a UserError. An option is given
    once only.
    """
    chosen = entry(name)
    known = chosen.options()
    _refuse(f"attack {name} has", set(options) - known, known)
    anyone = set().union(*(each.options() for each in EOT_ATTACKS.values()))
    _refuse("no attack has", set(shared) - anyone, anyone)
    twice = sorted(options.keys() & shared.keys())
    if twice:
        raise UserError(f"{', '.join(twice)} given to attack {name} twice; give it as shared or as its own")
    taken = {key: value for key, value in shared.items() if key in known}
    return chosen.load()(defense, batch=batch, **taken, **options, **chosen.fixed)


def _refuse(who: str, unknown: set[str], known: set[str]) -> None:
    if unknown:
        no = "" if who.startswith("no ") else " no"
        raise UserError(f"{who}{no} option {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
