"""Tables 5 and 6: training as it was done here, and the search for distortions, beside the paper's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robustgen.evaluation.rows import Row
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.probe import Probe
from robustgen.papers.gat.study import Distortion
from robustgen.papers.gat.tables.lines import table_of
from robustgen.papers.gat.tables.mnist import ROLES
from robustgen.papers.gat.words import CIFAR, COARSE, L2, LINF_LARGE, LINF_SMALL, MNIST, RULES
from robustgen.papers.tables import Table

TRAINED = ("radius", "steps, training", "step size, training", "steps, validation", "step size, validation")
BATCHES = ("updates", "positives", "negatives", "learning rate")
SEARCH = {  # columns of Table 6, and the options behind them
    "initial c": "c",
    "c lower bound": "c_low",
    "c upper bound": "c_high",
    "search depth": "depth",
    "PGD steps": "steps",
    "PGD step size": "alpha",
}
THRESHOLD = "threshold"


def table5(found: Measured) -> list[Row]:
    """Training setups: those of Table 5, and CIFAR-10's, which the paper gives in its text."""
    table, mnist, cifar = table_of("Table 5", found.scale), found.mnist, found.cifar
    rows: list[Row] = []
    for role in ROLES:
        rows += _trained(table, mnist.dataset, MNIST, role, mnist.probes.get(role))
    tuned = {LINF_LARGE: cifar.large, LINF_SMALL: cifar.small, L2: cifar.l2, COARSE: cifar.coarse}
    for role, probe in tuned.items():
        rows += _trained(table, cifar.dataset, CIFAR, role, probe)
    return rows


def _trained(table: Table, dataset: str, shown: str, role: str, probe: Probe | None) -> Iterator[Row]:
    line = f"{shown}'s recipe: {role}"
    recipe = {} if probe is None else probe.training
    values = _settings(recipe) if recipe else {}
    for column in (*TRAINED, *BATCHES):
        if column in values:
            yield table.number(dataset, line, column, values[column], "", _how(recipe), shown)
        else:
            yield from table.alone(shown, line, column, dataset or shown, "")


def _settings(recipe: Mapping[str, Any]) -> dict[str, float]:
    adversary, monitor = recipe["adversary"], recipe["monitor"]
    values = {
        "radius": adversary["eps"],
        "steps, training": adversary["steps"],
        "step size, training": adversary["alpha"],
        "steps, validation": monitor["steps"],
        "step size, validation": monitor["alpha"],
        "updates": recipe["updates"],
        "positives": recipe["positives"],
        "negatives": recipe["negatives"],
        "learning rate": recipe["lr"],
    }
    return {column: float(value) for column, value in values.items()}


def _how(recipe: Mapping[str, Any]) -> str:
    adversary = recipe["adversary"]
    start = "a random point of the ball" if adversary["random_start"] else "the image"
    chosen = recipe["select"] == "adversarial"
    words = [
        f"adversary: {RULES[adversary['rule']]} from {start}",
        f"weights by {recipe['optimizer']}",
        "the check of the best validation AUC under attack is kept" if chosen else "the last update is kept",
        f"seed {recipe['seed']}",
    ]
    return ", ".join(words)


def table6(found: Measured) -> list[Row]:
    """Binary search and PGD behind Tables 2 and 4."""
    table = table_of("Table 6", found.scale)
    mnist, cifar = found.mnist, found.cifar
    lines = (
        (LINF_SMALL, mnist.dataset, MNIST, mnist.distortion_small),
        (LINF_LARGE, mnist.dataset, MNIST, mnist.distortion_large),
        (LINF_LARGE, cifar.dataset, CIFAR, cifar.distortion),
    )
    return [row for role, dataset, shown, study in lines for row in _search(table, dataset, shown, role, study)]


def searched(shown: str, role: str) -> str:
    """The name of a line of Table 6."""
    return f"{shown}'s recipe: {role}"


def _search(table: Table, dataset: str, shown: str, role: str, study: Distortion | None) -> Iterator[Row]:
    line = searched(shown, role)
    if study is None:
        for column in (*SEARCH, THRESHOLD):
            yield from table.alone(shown, line, column, dataset or shown, "")
        return
    search = study.config["search"]
    for column, option in SEARCH.items():
        method = f"{RULES[search['rule']]}, no ball"
        yield table.number(dataset, line, column, float(search[option]), "", method, shown)
    yield table.number(dataset, line, THRESHOLD, study.threshold, "", "fitted on validation images", shown)
