"""`robustgen datasets`: what is known, what is here, and where the rest would come from."""

from __future__ import annotations

from dataclasses import dataclass

from robustgen.data import registry, sources
from robustgen.data.registry import DataSet


@dataclass(frozen=True, kw_only=True)
class Options:
    """List the known data sets: classes, shape, sizes, whether they are here, and where they would come from."""


HEADER = ("name", "classes", "shape", "train", "test", "here", "from", "licence")


def run(options: Options) -> None:
    """Print one line a data set. Downloads nothing. Raises UserError where ROBUSTGEN_MIRROR is unusable."""
    del options
    lines = [HEADER, *(_line(known) for known in registry.DATASETS.values())]
    lines.append((registry.FOLDER, "any", "3xHxW", "any", "any", "-", "--root PATH: class folders", "yours"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _line(known: DataSet) -> tuple[str, ...]:
    here, place = sources.whereabouts(known.name)
    train, test = ("by rule", "by rule") if known.sizes is None else known.sizes
    shape = "3xHxW" if known.shape is None else "x".join(str(each) for each in known.shape)
    held = f"{test}" if test else "split off"
    return known.name, str(known.num_classes), shape, str(train), held, "yes" if here else "no", place, known.licence
