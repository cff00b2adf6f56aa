"""Captions, categories and labels of the tables and figures in `snakemake --report`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robustgen.io import atomic
from robustgen.pipeline import CACHE

if TYPE_CHECKING:
    from robustgen.papers.base import Paper

CAPTIONS = CACHE / "captions"
RESULT = re.compile(r"results/\{run\}/(?P<slug>[a-z0-9-]+)/(?P<name>[^/]+)\.(?P<suffix>csv|png)")
JINJA_MARKUP = re.compile(r"\{[{%#]")
RST_MARKUP = re.compile(r"([\\*`|_])")

# What every paper has beside its own tables and figures: (item, title, caption).
COMMON = {
    "claims": (
        "Claims",
        "The paper's claims and what became of them",
        "Each claim, where the paper makes it, our value with its 95 % interval, and whether it holds at this scale.",
    ),
    "coverage": (
        "Coverage",
        "Which of the paper's tables and figures are reproduced",
        "Each table and figure of the paper, whether it was reproduced at this scale, and where the result is.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A result file of a paper that belongs in the report."""

    slug: str
    name: str

    @property
    def caption_file(self) -> Path:
        """Where `write_captions` puts its caption."""
        return CAPTIONS / self.slug / f"{self.name}.rst"

    def texts(self) -> tuple[str, str, str]:
        """Item ("Table 1"), title and caption, from the paper's own list of artifacts."""
        paper = _papers().get(self.slug)
        for artifact in paper.artifacts if paper else ():
            if artifact.name == self.name:
                return artifact.item, artifact.title, artifact.caption
        return COMMON.get(self.name, (self.name, self.name, ""))

    def labels(self, run: str) -> dict[str, str]:
        """Columns of the report's list of results; `run` begins with the scale."""
        return {"item": self.texts()[0], "scale": run.split("/")[0]}


def _papers() -> dict[str, Paper]:
    # Imported here: only the report needs the papers' packages, and every run of Snakemake reads this module.
    from robustgen.papers import papers

    return papers()


def shown(patterns: Iterable[str]) -> dict[str, Shown]:
    """Those of a family's output patterns that the report shows: figures as PNG, tables as CSV.

    The CSV beside a PNG holds the figure's data and is left out.
    """
    found = {pattern: match for pattern in patterns if (match := RESULT.fullmatch(pattern))}
    drawn = {(match["slug"], match["name"]) for match in found.values() if match["suffix"] == "png"}
    return {
        pattern: Shown(slug=match["slug"], name=match["name"])
        for pattern, match in found.items()
        if match["suffix"] == "png" or (match["slug"], match["name"]) not in drawn
    }


def write_captions(template: Path, results: Iterable[Shown]) -> None:
    """Fill the Jinja template once for each result; Snakemake fills in the run when it renders the file."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["rst"] = escape
    source = environment.from_string(template.read_text())
    for result in results:
        item, title, caption = result.texts()
        text = source.render(paper=_papers().get(result.slug), item=item, title=title, caption=caption)
        with atomic(result.caption_file) as temporary:
            temporary.write_text(text)


def escape(text: object) -> str:
    """Plain text for reStructuredText that is still to pass through Jinja: markup of either loses its meaning."""
    plain = RST_MARKUP.sub(r"\\\1", str(text))
    return JINJA_MARKUP.sub(r"{{ '\g<0>' }}", plain)
