"""Tables 1 and 7-11: single detectors trained from scratch, under attacks of every kind (Sec. 5.1, App. C.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from robustgen.evaluation.rows import Row
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.probe import Probe
from robustgen.papers.gat.tables.lines import alone, areas, every, restarts, table_of
from robustgen.papers.gat.words import L2_LARGE, L2_SMALL, LINF_LARGE, LINF_SMALL, MNIST

ROLES = (LINF_SMALL, LINF_LARGE, L2_SMALL, L2_LARGE)
WORDS = {"adam": "attack", "steepest": "steepest descent"}


def table1(found: Measured) -> list[Row]:
    """Short and long attacks by Adam on the models of all four adversaries."""
    return list(_lengths(found, "Table 1", "adam"))


def table7(found: Measured) -> list[Row]:
    """The same by normalised steepest descent."""
    return list(_lengths(found, "Table 7", "steepest"))


def _lengths(found: Measured, item: str, rule: str) -> Iterator[Row]:
    table, mnist = table_of(item, found.scale), found.mnist
    for role in ROLES:
        probe = mnist.probes.get(role)
        for length in ("short", "long"):
            line = f"{role}, {length} {WORDS[rule]}"
            point = None if probe is None else probe.short(rule) if length == "short" else probe.long(rule)
            if probe is None or point is None:
                yield from alone(table, mnist.dataset, line, MNIST)
            else:
                yield from areas(table, mnist.dataset, probe, point, line, MNIST)


def table8(found: Measured) -> list[Row]:
    """Every model under attacks in the balls of all of them."""
    table, mnist = table_of("Table 8", found.scale), found.mnist
    rows: list[Row] = []
    for attack in ROLES:
        for model in ROLES:
            line = f"{model} under {attack} attack"
            probe, point = mnist.probes.get(model), crossed(mnist.probes, model, attack)
            if probe is None or point is None:
                rows += alone(table, mnist.dataset, line, MNIST)
            else:
                rows += areas(table, mnist.dataset, probe, point, line, MNIST)
    return rows


def crossed(probes: Mapping[str, Probe], model: str, attack: str) -> int | None:
    """A model's grid point of the attack in another model's ball; None where either is missing."""
    if model not in probes or attack not in probes:
        return None
    return probes[model].under(*probes[attack].ball)


def table9(found: Measured) -> list[Row]:
    """Random restarts."""
    table, mnist = table_of("Table 9", found.scale), found.mnist
    return [
        row
        for role, probe in ((LINF_LARGE, mnist.linf_large), (L2_LARGE, mnist.l2_large))
        for row in restarts(table, mnist.dataset, probe, MNIST, role)
    ]


def table10(found: Measured) -> list[Row]:
    """All detectors of the smaller L∞ radius."""
    return _all(found, "Table 10", LINF_SMALL)


def table11(found: Measured) -> list[Row]:
    """All detectors of the larger one; the paper's values are a picture."""
    return _all(found, "Table 11", LINF_LARGE)


def _all(found: Measured, item: str, role: str) -> list[Row]:
    probe = found.mnist.probes.get(role)
    point = None if probe is None else probe.short()
    return list(every(table_of(item, found.scale), found.mnist.dataset, probe, point, MNIST, role))
