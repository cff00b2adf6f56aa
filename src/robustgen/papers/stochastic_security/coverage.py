"""How far each item of the paper is reproduced at a scale, from what was measured there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustgen.evaluation.rows import Coverage
from robustgen.papers.coverage import drawing, line, other_data_sets
from robustgen.papers.stochastic_security.study import Measured
from robustgen.papers.stochastic_security.words import ELSEWHERE, SHOWN


def coverage(found: Measured) -> list[Coverage]:
    """One line per table and figure."""
    return [
        _line(found, "Table 1", "EBM defences against PGD on the base classifier", _roles(found)),
        _line(found, "Table 2", "BPDA+EOT against the EBM defence, PGD against adversarial training", _attacks(found)),
        _table3(found),
        drawing("Figure 1"),
        _line(found, "Figure 2", "samples along training", _arrays(found, "short_samples", "long_samples")),
        _line(found, "Figure 3", "logits for growing H", {"draws of the defence": found.drawn is not None}),
        _line(
            found,
            "Figure 4",
            "accuracy against Langevin steps",
            {"convergent EBM": found.steps_ours is not None, "non-convergent EBM": found.steps_twin is not None},
        ),
        _line(found, "Figure 5", "accuracy against the radius", _radii(found)),
        _line(
            found,
            "Figure 6",
            "accuracy against attack steps and replicates",
            {"a long attack": found.attack_steps is not None, "H_adv and H_def": found.draws is not None},
        ),
        _line(found, "Figure 7", "energies", _arrays(found, "energy_natural", "energy_adversarial", "energy_noise")),
        _line(found, "Figure 8", "Lyapunov exponents and samples", _arrays(found, "lyapunov", "eta_samples")),
        _line(found, "Figure 9", "FID against Langevin steps", _arrays(found, "fid_convergent", "fid_nonconvergent")),
        _line(found, "Figure 10", "samples and running time of three models", _models(found)),
    ]


def _line(found: Measured, item: str, what: str, parts: Mapping[str, bool]) -> Coverage:
    where = item.replace(" ", "").lower()
    return line(item, what, where, parts, dataset=found.dataset, shown=SHOWN)


def _roles(found: Measured) -> dict[str, bool]:
    roles = {"convergent EBM": found.ours, "IGEBM": found.igebm, "JEM": found.jem}
    return {name: study is not None for name, study in roles.items()}


def _attacks(found: Measured) -> dict[str, bool]:
    return {"the EBM defence": found.main is not None, "adversarial training": found.at_linf is not None}


def _table3(found: Measured) -> Coverage:
    here = [dataset for dataset, _, _ in found.others]
    return other_data_sets("Table 3", "table3", here, [dataset for dataset in ELSEWHERE if dataset not in here])


def _radii(found: Measured) -> dict[str, bool]:
    parts: Sequence[tuple[str, object]] = (
        ("L∞ attacks", found.linf),
        ("L2 attacks", found.l2),
        ("adversarial training", found.at_linf),
    )
    return {name: study is not None for name, study in parts} | {"semi-supervised adversarial training": False}


def _arrays(found: Measured, *names: str) -> dict[str, bool]:
    return {name.replace("_", " "): found.dynamics is not None and found.dynamics.has(name) for name in names}


def _models(found: Measured) -> dict[str, bool]:
    return {
        name: found.dynamics is not None and found.dynamics.has(f"steady_{key}", f"ms_per_step_{key}")
        for key, name in (("ours", "our EBM"), ("igebm", "IGEBM"), ("jem", "JEM"))
    }
