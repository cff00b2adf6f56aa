"""What the report shows of each paper, read from its results folder and checked."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from robustgen.errors import UserError
from robustgen.evaluation.rows import Claim, Coverage, Pivot, Verdict, load_claims, load_coverage, load_rows, pivot
from robustgen.io import existing, load_json
from robustgen.papers.base import Artifact, Paper
from robustgen.report.provenance import Stage, producer, upstream

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, kw_only=True)
class Image:
    """A PNG as it stands in the page."""

    uri: str  # data: URI
    width: int  # pixels
    height: int


@dataclass(frozen=True, kw_only=True)
class Item:
    """One table or figure of a paper: what is shown, its files beside the page, and what made it."""

    artifact: Artifact
    path: str  # of the file one would ask Snakemake for
    files: tuple[tuple[str, str], ...]  # (label, address relative to the page)
    table: Pivot | None
    image: Image | None
    stage: Stage | None  # the stage that wrote it, where dvc.lock has it


@dataclass(frozen=True, kw_only=True)
class Section:
    """One paper of the report."""

    paper: Paper
    items: tuple[Item, ...]
    claims: tuple[Claim, ...]
    coverage: tuple[Coverage, ...]
    headline: tuple[tuple[str, float], ...]
    stages: tuple[Stage, ...]  # everything the paper rests on, in an order in which it can be run

    @property
    def verdicts(self) -> dict[Verdict, int]:
        """Number of claims per verdict, every verdict named."""
        found = Counter(claim.verdict for claim in self.claims)
        return {verdict: found[verdict] for verdict in VERDICTS}


def read_section(out: Path, paper: Paper, stages: Sequence[Stage]) -> Section:
    """Read the results of `paper` in `out/<slug>`; UserError naming the first file that is missing or malformed."""
    folder = out / paper.slug
    items = tuple(_item(out, folder, artifact, stages) for artifact in paper.artifacts)
    coverage = load_coverage(folder / "coverage.csv")
    names = {artifact.name for artifact in paper.artifacts}
    unknown = [line.where for line in coverage if line.where and line.where not in names]
    if unknown:
        raise UserError(
            f"{folder / 'coverage.csv'} points to {unknown[0]!r}, which {paper.slug} has no table or figure of"
        )
    made = [item.stage for item in items if item.stage]
    return Section(
        paper=paper,
        items=items,
        claims=tuple(load_claims(folder / "claims.csv")),
        coverage=tuple(coverage),
        headline=_headline(folder / "headline.json"),
        stages=tuple(upstream(stages, made)),
    )


def _item(out: Path, folder: Path, artifact: Artifact, stages: Sequence[Stage]) -> Item:
    suffixes = ("csv", "md") if artifact.kind == "table" else ("png", "pdf", "csv")
    paths = [existing(folder / f"{artifact.name}.{suffix}", f"{artifact.item}'s file") for suffix in suffixes]
    return Item(
        artifact=artifact,
        path=paths[0].as_posix(),
        files=tuple((_label(path), path.relative_to(out).as_posix()) for path in paths),
        table=_table(paths[0]) if artifact.kind == "table" else None,
        image=_image(paths[0]) if artifact.kind == "figure" else None,
        stage=producer(stages, paths[0].as_posix()),
    )


def _label(path: Path) -> str:
    return {".csv": "CSV", ".md": "Markdown", ".png": "PNG", ".pdf": "PDF"}[path.suffix]


def _table(path: Path) -> Pivot:
    rows = load_rows(path)
    if not rows:
        raise UserError(f"{path} holds no rows; delete it and make it again with `snakemake --cores 2 {path}`")
    return pivot(rows)


def _image(path: Path) -> Image:
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 33:
        raise UserError(f"{path} is not a PNG image; delete it and make it again with `snakemake --cores 2 {path}`")
    width, height = struct.unpack(">II", data[16:24])  # the header chunk stands first in every PNG
    return Image(uri=f"data:image/png;base64,{base64.b64encode(data).decode()}", width=width, height=height)


def _headline(path: Path) -> tuple[tuple[str, float], ...]:
    metrics = load_json(path)
    if not isinstance(metrics, dict) or not all(_finite(value) for value in metrics.values()):
        raise UserError(
            f"{path} must be an object of named finite numbers, not {json.dumps(metrics)[:80]}; make it again"
        )
    # the verdicts have their own strip
    named = ((name.replace("_", " "), float(value)) for name, value in metrics.items())
    return tuple((name, value) for name, value in named if not name.startswith("claims "))


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
