"""Stage `report`: one self-contained page of a scale's tables, figures and claims, and what was run to get them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustgen.errors import UserError
from robustgen.io import atomic
from robustgen.papers.base import paper
from robustgen.progress import log
from robustgen.report.content import read_section
from robustgen.report.page import render
from robustgen.report.provenance import load_stages, save_runs

LOCK = Path("dvc.lock")
RUNS = Path(".cache/runs")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Put the results of a scale on one page."""

    out: Path
    """Folder of the scale's results; the page is written there, and each paper's results lie below it."""
    scale: str
    """Name of the scale: quick, desktop or paper."""
    papers: tuple[str, ...]
    """Slugs of the papers on the page, in their order there."""


def run(options: Options) -> None:
    """Write `<out>/report.html` and `<out>/runs.csv`; UserError naming the first result missing or malformed."""
    if not options.papers:
        raise UserError("no paper named; give at least one slug, for example `--papers robust-generative`")
    stages = load_stages(LOCK, RUNS)
    sections = [read_section(options.out, paper(slug), stages) for slug in dict.fromkeys(options.papers)]
    used = list({stage.name: stage for section in sections for stage in section.stages}.values())
    save_runs(options.out / "runs.csv", used)
    page = render(options.scale, sections, used)
    with atomic(options.out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    log(f"report: {options.out / 'report.html'} ({len(page.encode()) / 1e6:.1f} MB)")
