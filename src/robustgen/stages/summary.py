"""Print the headline numbers of a scale, the claims that fail, and where its report is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustgen.errors import UserError
from robustgen.evaluation.rows import load_claims
from robustgen.io import load_json


@dataclass(frozen=True, kw_only=True)
class Options:
    scale: str = "quick"  # quick, desktop or paper
    results: Path = Path("results")  # the folder of all results


def run(options: Options) -> None:
    from rich.console import Console
    from rich.table import Table

    folder = options.results / options.scale
    headlines = sorted(folder.glob("*/headline.json"))
    if not headlines:
        raise UserError(f"{folder} holds no results; make them with `snakemake --cores 2 {options.scale}`")
    console = Console()
    for path in headlines:
        table = Table(title=f"{path.parent.name}, scale {options.scale}", title_justify="left", show_header=False)
        table.add_column("what")
        table.add_column("value", justify="right")
        for name, value in load_json(path).items():
            table.add_row(name, f"{value:g}")
        console.print(table)
        for claim in load_claims(path.with_name("claims.csv")):
            if claim.verdict == "fails":
                console.print(f"  fails: {claim.statement} ({claim.source})", highlight=False)
    console.print(f"\nThe report: {(folder / 'report.html').resolve()}", highlight=False, soft_wrap=True)
