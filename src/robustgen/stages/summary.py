"""Print the headline numbers of a scale, the claims that fail, and where its report is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from robustgen.errors import UserError
from robustgen.evaluation.rows import load_claims
from robustgen.io import load_json
from robustgen.pipeline import check_scale, scales, switched_off, way_on


@dataclass(frozen=True, kw_only=True)
class Options:
    scale: Annotated[str, arg(metavar="SCALE")] = "quick"  # quick, desktop or paper
    results: Path = Path("results")  # the folder of all results


def run(options: Options) -> None:
    """Print them. Raises UserError for an unknown scale and for one without results."""
    from rich.console import Console
    from rich.table import Table

    folder = options.results / options.scale
    headlines = sorted(folder.glob("*/headline.json"))
    if not headlines:
        check_scale(options.scale)
        raise UserError(f"{folder} holds no results; {_how(options.scale)}")
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


def _how(scale: str) -> str:
    """How the results of a scale are made: where every paper of it is off, Snakemake knows no target of its name."""
    make = f"make them with `snakemake --cores 2 {scale}`"
    papers = scales().get(scale, [])
    return f"{way_on(scale)}; then {make}" if papers and papers == switched_off(scale) else make
