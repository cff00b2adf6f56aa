"""Tables, figures, claims and coverage of Beadini & Masi 2023, from what was measured at one scale."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from robustgen.io import load_arrays, save_json, save_text


@dataclass(frozen=True, kw_only=True)
class Options:
    detection: Path  # folder of detection files, one npz a study
    interpretation: Path  # folder of interpretation files
    studies: tuple[str, ...]  # studies in the order of the tables; the first one decides the claims
    controls: tuple[str, ...] = ()  # studies that join Table 1 as controls, not the figures
    interpreted: str  # study whose gradients and synthesised images are shown
    scale: str  # quick, desktop or paper; every result row carries it
    out: Path  # folder to write


def run(options: Options) -> None:
    from robustgen.evaluation import rows
    from robustgen.papers.manifest import save_manifest
    from robustgen.papers.robust_generative import PAPER, figures
    from robustgen.papers.robust_generative.claims import claims
    from robustgen.papers.robust_generative.coverage import coverage
    from robustgen.papers.robust_generative.study import load_study
    from robustgen.papers.robust_generative.tables import table1
    from robustgen.papers.words import named

    studies = [load_study(options.detection, name) for name in options.studies]
    controls = [load_study(options.detection, name) for name in options.controls]
    found = load_arrays(options.interpretation / f"{options.interpreted}.npz")
    out = options.out

    shown = PAPER.artifact("table1")
    table = table1(studies, controls, options.scale)
    rows.save_rows(out / "table1.csv", table)
    save_text(out / "table1.md", rows.markdown(table, f"{shown.item}. {shown.title}. {shown.caption}"))
    figures.energy_histograms(out / "figure2a", studies, "pgd")
    figures.energy_by_steps(out / "figure2b", studies, "pgd")
    figures.energy_histograms(out / "figure3a", studies, "he-pgd")
    figures.energy_by_steps(out / "figure3b", studies, "he-pgd")
    figures.gradient_images(out / "figure4", found)
    figures.synthesised_images(out / "synthesis", found, classes=studies[0].arrays["logits.pgd"].shape[1])

    decided = claims(studies[0], found)
    rows.save_claims(out / "claims.csv", decided)
    save_text(out / "claims.md", rows.claims_markdown(decided, f"Claims: {PAPER.title}"))
    rows.save_coverage(out / "coverage.csv", coverage(studies, named(options.interpreted)))

    own = [row for row in table if row.dataset == studies[0].dataset]
    cells = {(row.row, row.column): row.value for row in own if row.value is not None}
    counts = Counter(claim.verdict for claim in decided)
    save_json(
        out / "headline.json",
        {
            "clean accuracy %": round(cells["Clean", "Accuracy"], 2),
            "accuracy under PGD %": round(cells["Under PGD", "Accuracy"], 2),
            "PGD detection rate %": round(cells["Energy: PGD", "DR"], 2),
            "PGD false positive rate %": round(cells["Energy: PGD", "FPR"], 2),
            "HE-PGD detection rate %": round(cells["Energy: HE-PGD, threshold from PGD", "DR"], 2),
            "claims that hold": counts["holds"],
            "claims that fail": counts["fails"],
            "claims not decided": counts["not decided"],
        },
    )
    save_manifest(out.parent, PAPER.slug)
