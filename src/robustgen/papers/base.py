"""What a paper is to the pipeline: its citation and the tables and figures made of it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import dataclass
from typing import Literal

from robustgen.errors import UserError

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")  # slugs and artifact names become file names and page anchors


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One table or figure of a paper; its files are `results/<scale>/<slug>/<name>.*`."""

    name: str  # file stem: "table1", "figure2a"
    item: str  # as the paper calls it: "Table 1", "Figure 2a"
    kind: Literal["table", "figure"]
    title: str
    caption: str  # what it shows and how it was computed, plain text

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"artifact name {self.name!r}: lower-case letters, digits and hyphens only")
        if self.kind not in ("table", "figure"):
            raise ValueError(f"artifact {self.name}: kind {self.kind!r} is neither 'table' nor 'figure'")


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Citation of one paper and what the pipeline reproduces of it."""

    slug: str
    title: str
    authors: str
    year: int
    venue: str
    artifacts: tuple[Artifact, ...]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.slug):
            raise ValueError(f"paper slug {self.slug!r}: lower-case letters, digits and hyphens only")
        names = [artifact.name for artifact in self.artifacts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"paper {self.slug}: artifact named twice: {', '.join(twice)}")

    def artifact(self, name: str) -> Artifact:
        """The artifact called `name`; KeyError where the paper has none."""
        return {artifact.name: artifact for artifact in self.artifacts}[name]


def papers() -> dict[str, Paper]:
    """Every paper of the package, by slug.

    A paper is a package `robustgen.papers.<slug with _>` that exposes `PAPER`; nothing is imported before this call.
    """
    import robustgen.papers as package

    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            paper: Paper = importlib.import_module(f"{package.__name__}.{module.name}").PAPER
            found[paper.slug] = paper
    return found


def paper(slug: str) -> Paper:
    """The paper called `slug`; UserError naming the known ones otherwise."""
    known = papers()
    if slug not in known:
        raise UserError(f"unknown paper {slug!r}; known: {', '.join(sorted(known)) or 'none'}")
    return known[slug]
