"""Stage `report`: one self-contained page of a scale's tables, figures and claims, and what was run to get them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustgen import records
from robustgen.io import atomic
from robustgen.papers.base import paper
from robustgen.papers.manifest import load_manifests, verify
from robustgen.progress import log
from robustgen.report.content import read_section
from robustgen.report.page import render
from robustgen.report.provenance import load_stages, save_runs

LOCK = Path("dvc.lock")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Put the results of a scale, of every paper that has some, on one page."""

    out: Path
    """Folder of the scale's results; the page is written there, and each paper's results lie below it."""
    scale: str
    """Name of the scale: quick, desktop or paper."""


def run(options: Options) -> None:
    """Write `<out>/report.html` and `<out>/runs.csv`; UserError naming the first result missing or malformed."""
    manifests = load_manifests(options.out)
    for slug, digests in manifests.items():
        verify(options.out, paper(slug).slug, digests)
    stages = load_stages(LOCK, records.FOLDER)
    sections = [read_section(options.out, paper(slug), stages) for slug in manifests]
    used = list({stage.name: stage for section in sections for stage in section.stages}.values())
    save_runs(options.out / "runs.csv", used)
    page = render(options.scale, sections, used)
    with atomic(options.out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    log(f"report: {options.out / 'report.html'} ({len(page.encode()) / 1e6:.1f} MB)")
