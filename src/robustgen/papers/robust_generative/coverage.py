"""How far each item of the paper is reproduced at a scale."""

from __future__ import annotations

from collections.abc import Sequence

from robustgen.evaluation.rows import Coverage, Status
from robustgen.papers.robust_generative.study import Study

SHOWN = ("CIFAR-10", "imagenette")  # the data sets the paper shows results on


def coverage(studies: Sequence[Study], interpreted: str) -> list[Coverage]:
    """One line per item; `interpreted` is the data set of the gradients and the synthesised images."""
    here = [study.dataset for study in studies]
    missing = [name for name in SHOWN if name not in here]
    note = f"on {', '.join(here)}" + (f"; {' and '.join(missing)} not at this scale" if missing else "")

    def line(item: str, what: str, where: str, missed: Sequence[str], remark: str) -> Coverage:
        status: Status = "partly" if missed else "reproduced"
        return Coverage(item=item, what=what, status=status, where=where, note=remark)

    elsewhere = [] if interpreted in SHOWN else [interpreted]
    survey = f"computed {note}; the paper quotes a survey's numbers"
    return [
        line("Table 1", "energy detector", "table1", missing, note),
        line("Table 1", "KD+BU and LID", "table1", missing, survey),
        Coverage(
            item="Figure 1", what="drawing of the idea", status="not reproducible", where="", note="it has no data"
        ),
        line("Figure 2a", "energies under PGD", "figure2a", missing, note),
        line("Figure 2b", "energy against PGD steps", "figure2b", missing, note),
        line("Figure 3a", "energies under HE-PGD", "figure3a", missing, note),
        line("Figure 3b", "energy against HE-PGD steps", "figure3b", missing, note),
        line("Figure 4", "input gradients", "figure4", elsewhere, f"on {interpreted}, with two measures of ours"),
        line(
            "Section 5.3",
            "synthesis with a robust and a quasi-robust classifier",
            "synthesis",
            elsewhere,
            f"on {interpreted}; the paper shows no image or number of its own",
        ),
        Coverage(
            item="Section 5.1",
            what="CIFAR-100",
            status="reproduced" if "CIFAR-100" in here else "not at this scale",
            where="",
            note="named among the benchmarks; the paper shows no result on it",
        ),
    ]
