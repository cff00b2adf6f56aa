"""The files of one paper's results at one scale: tables, figures, claims, coverage, headline numbers, manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from robustgen.evaluation import rows
from robustgen.evaluation.rows import Claim, Coverage, Row
from robustgen.io import save_json, save_text
from robustgen.papers.base import Paper
from robustgen.papers.manifest import save_manifest

Measured = TypeVar("Measured")


def save_results(
    out: Path,
    paper: Paper,
    found: Measured,
    *,
    tables: Mapping[str, Sequence[Row]],
    figures: Mapping[str, Callable[[Path, Measured], None]],
    claims: Sequence[Claim],
    coverage: Sequence[Coverage],
    headline: Mapping[str, float],
    remark: str = "",
) -> None:
    """Write everything below `out`, tables and figures by artifact name, and record it in the scale's manifest.

    A figure is given its path without suffix and what was `found`. `headline` gets the counts of verdicts besides,
    the caption of the claims the `remark`.
    """
    for name, table in tables.items():
        shown = paper.artifact(name)
        rows.save_rows(out / f"{name}.csv", table)
        save_text(out / f"{name}.md", rows.markdown(table, f"{shown.item}. {shown.title}. {shown.caption}"))
    for name, draw in figures.items():
        draw(out / name, found)
    rows.save_claims(out / "claims.csv", claims)
    save_text(out / "claims.md", rows.claims_markdown(claims, f"Claims: {paper.title}{remark}"))
    rows.save_coverage(out / "coverage.csv", coverage)
    counts = Counter(claim.verdict for claim in claims)
    verdicts = {
        "claims that hold": counts["holds"],
        "claims that fail": counts["fails"],
        "claims not decided": counts["not decided"],
    }
    save_json(out / "headline.json", {**headline, **verdicts})
    save_manifest(out.parent, paper.slug)
