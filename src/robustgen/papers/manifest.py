"""What a paper left in a scale's results: one small file per paper, which the report depends on.

`results/<scale>/manifests/<slug>.json` maps each result file's name to its SHA-256. The report of a scale thereby
covers the papers that are there, and shows a file only as the pipeline wrote it.
"""

from __future__ import annotations

from pathlib import Path

from robustgen.errors import UserError
from robustgen.io import load_json, save_json, sha256

FOLDER = "manifests"


def save_manifest(scale_folder: Path, slug: str) -> None:
    """Record every file below `<scale_folder>/<slug>`."""
    files = sorted(path for path in (scale_folder / slug).iterdir() if path.is_file() and path.name[0] != ".")
    digests = {path.name: sha256(path.read_bytes()) for path in files}
    save_json(scale_folder / FOLDER / f"{slug}.json", digests)


def load_manifests(scale_folder: Path) -> dict[str, dict[str, str]]:
    """{slug: {file name: SHA-256}} of the papers with results; UserError where there is none."""
    found = {path.stem: load_json(path) for path in sorted((scale_folder / FOLDER).glob("*.json"))}
    if not found:
        raise UserError(f"{scale_folder} holds no paper's results; make them with `snakemake --cores 2`")
    return found


def verify(scale_folder: Path, slug: str, digests: dict[str, str]) -> None:
    """UserError naming the first result file that is missing or not as the pipeline wrote it."""
    for name, digest in digests.items():
        path = scale_folder / slug / name
        how = f"delete it and make it again: `snakemake --cores 2 {path}`"
        if not path.is_file():
            raise UserError(f"{path} is missing; {how}")
        if sha256(path.read_bytes()) != digest:
            raise UserError(f"{path} was changed after the pipeline wrote it; {how}")
