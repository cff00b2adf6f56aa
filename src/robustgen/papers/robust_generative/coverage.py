"""How far each item of the paper is reproduced at a scale."""

from __future__ import annotations

from collections.abc import Sequence

from robustgen.evaluation.rows import Coverage, Status
from robustgen.papers.robust_generative.study import Study


def coverage(studies: Sequence[Study], interpretation: str) -> list[Coverage]:
    """One line per table and figure of the paper, with the data sets this scale has."""
    here = ", ".join(study.dataset for study in studies)
    missing = [name for name in ("CIFAR-10", "imagenette") if name not in {study.dataset for study in studies}]
    absent = f"{' and '.join(missing)} not at this scale" if missing else ""
    status: Status = "partly" if missing else "reproduced"
    note = f"on {here}" + (f"; {absent}" if absent else "")
    line = Coverage
    return [
        line(item="Table 1", what="energy detector", status=status, where="table1", note=note),
        line(
            item="Table 1",
            what="KD+BU and LID",
            status=status,
            where="table1",
            note=f"computed {note}; the paper quotes a survey's numbers",
        ),
        line(item="Figure 1", what="drawing of the idea", status="not reproducible", where="", note="no data in it"),
        line(item="Figure 2a", what="energies under PGD", status=status, where="figure2a", note=note),
        line(item="Figure 2b", what="energy against PGD steps", status=status, where="figure2b", note=note),
        line(item="Figure 3a", what="energies under HE-PGD", status=status, where="figure3a", note=note),
        line(item="Figure 3b", what="energy against HE-PGD steps", status=status, where="figure3b", note=note),
        line(
            item="Figure 4",
            what="input gradients",
            status="reproduced",
            where="figure4",
            note=f"on {interpretation}, with two measures the paper does not give",
        ),
        line(
            item="Section 5.3",
            what="synthesis with a robust and a quasi-robust classifier",
            status="reproduced",
            where="synthesis",
            note=f"on {interpretation}; the paper shows no images or numbers of its own",
        ),
        line(
            item="Section 5.1",
            what="CIFAR-100",
            status="not at this scale" if not _has(studies, "CIFAR-100") else "reproduced",
            where="",
            note="named as a benchmark in the text; the paper shows no result on it",
        ),
    ]


def _has(studies: Sequence[Study], dataset: str) -> bool:
    return any(study.dataset == dataset for study in studies)
