"""Tables, figures, claims and coverage of Hill, Mitchell & Zhu 2021, from what was measured at one scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustgen.evaluation.rows import Row
    from robustgen.papers.langevin import Defense, Purification
    from robustgen.papers.stochastic_security.study import Measured


@dataclass(frozen=True, kw_only=True)
class Options:
    """Studies are files below the three folders, without suffix; "" is one that the scale does without."""

    purification: Path  # folder of purification files
    defense: Path  # folder of defence files, whole (NAME.npz) or in shards (NAME.000.npz, ...)
    dynamics: Path  # folder of dynamics files
    dataset: str  # of everything but Table 3: cifar10, digits16, ...
    short: int = 10  # Langevin steps K of a short run
    long: int = 1500  # Langevin steps K of a long run
    ours: str = ""  # purification by the convergent EBM
    twin: str = ""  # purification by the non-convergent EBM
    igebm: str = ""  # purification by IGEBM
    jem: str = ""  # purification by JEM
    replicates: str = ""  # purification by the convergent EBM with many draws of few images; "": ours
    main: str = ""  # Table 2: BPDA+EOT at one L∞ radius, and at 0
    steps_ours: str = ""  # sweep over Langevin steps, convergent EBM
    steps_twin: str = ""  # sweep over Langevin steps, non-convergent EBM
    linf: str = ""  # sweep over L∞ radii
    l2: str = ""  # sweep over L2 radii
    at_linf: str = ""  # PGD of all these radii on the classifier trained on L∞ attacks
    at_l2: str = ""  # the same on the classifier trained on L2 attacks
    attack_steps: str = ""  # a long attack
    draws: str = ""  # sweep over H_adv and H_def
    full_gradient: str = ""  # attack through few Langevin steps by their full gradient
    others: tuple[str, ...] = ()  # data sets of Table 3; their defence files are NAME and NAME-at
    sampling: str = ""  # dynamics: samples, energies, exponents, FID and times
    scale: str  # quick, desktop or paper; every result row carries it
    out: Path  # folder to write


def run(options: Options) -> None:
    from robustgen.papers.results import save_results
    from robustgen.papers.stochastic_security import PAPER
    from robustgen.papers.stochastic_security.claims import claims
    from robustgen.papers.stochastic_security.coverage import coverage
    from robustgen.papers.stochastic_security.figures import FIGURES
    from robustgen.papers.stochastic_security.tables import table1, table2, table3

    found = measured(options)
    tables = {"table1": table1(found), "table2": table2(found), "table3": table3(found)}
    save_results(
        options.out,
        PAPER,
        found,
        tables=tables,
        figures=FIGURES,
        claims=claims(found),
        coverage=coverage(found),
        headline=headline(found, tables),
    )


def measured(options: Options) -> Measured:
    """Every study that the options name; UserError for one that is missing or damaged."""
    from robustgen.papers.langevin import load_defense, load_purification
    from robustgen.papers.stochastic_security.study import Measured, load_dynamics
    from robustgen.papers.words import named

    def purification(name: str) -> Purification | None:
        return load_purification(options.purification, name) if name else None

    def defense(name: str) -> Defense | None:
        return load_defense(options.defense, name) if name else None

    others = [
        (named(name), load_defense(options.defense, name), load_defense(options.defense, f"{name}-at"))
        for name in options.others
    ]
    return Measured(
        dataset=named(options.dataset),
        scale=options.scale,
        short=options.short,
        long=options.long,
        ours=purification(options.ours),
        twin=purification(options.twin),
        igebm=purification(options.igebm),
        jem=purification(options.jem),
        replicates=purification(options.replicates),
        main=defense(options.main),
        steps_ours=defense(options.steps_ours),
        steps_twin=defense(options.steps_twin),
        linf=defense(options.linf),
        l2=defense(options.l2),
        at_linf=defense(options.at_linf),
        at_l2=defense(options.at_l2),
        attack_steps=defense(options.attack_steps),
        draws=defense(options.draws),
        full_gradient=defense(options.full_gradient),
        others=tuple(others),
        dynamics=load_dynamics(options.dynamics, options.sampling) if options.sampling else None,
    )


def headline(found: Measured, tables: dict[str, list[Row]]) -> dict[str, float]:
    """A handful of numbers."""
    from robustgen.papers.stochastic_security.tables import (
        ADVERSARIAL,
        AT_LINF,
        BLIND,
        FALSE_BREAKS,
        NATURAL,
        NONE,
        OURS,
        ZERO,
    )

    cells = {(row.row, row.column): row.value for row in tables["table2"]}
    shown = {
        "accuracy without defence under PGD %": (NONE, ADVERSARIAL),
        "natural accuracy of the EBM defence %": (OURS, NATURAL),
        "EBM defence under blind PGD %": (BLIND, ADVERSARIAL),
        "EBM defence under BPDA+EOT %": (OURS, ADVERSARIAL),
        "false breaks at zero radius %": (ZERO, FALSE_BREAKS),
        "adversarial training under PGD %": (AT_LINF, ADVERSARIAL),
    }
    values = {name: cells.get(cell) for name, cell in shown.items()}
    numbers = {name: round(value, 2) for name, value in values.items() if value is not None}
    if found.dynamics is not None and found.dynamics.has("ms_per_step_ours"):
        numbers["ms per Langevin step, 100 images"] = round(float(found.dynamics["ms_per_step_ours"]), 3)
    return numbers
