"""An image of each class and what every decoder makes of it, by E-ABS and by ABS."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import absent
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.words import ABS, E_ABS
from robustgen.papers.tiles import extent, tiles, title

HEADER = ("dataset", "model", "index", "label", "decoder", "loss", "least", "l2_distance", "inference")
SIDE = 0.36  # inches of an image
Line = tuple[object, ...]


def by_decoder(path: Path, found: Measured) -> None:
    """A line of panels a data set of Figures 4 and 5: E-ABS's reconstructions, and ABS's beside them."""
    lines = dict(_studies(found))
    if not lines:
        absent(path, HEADER, "reconstructions of an image of each class")
        return
    table: list[Line] = []
    largest = max((s["example_losses"].shape for pair in lines.values() for s in pair.values()), key=sum)
    width, height = extent(largest[0], 1 + largest[1], SIDE, texts=True)[0], extent(largest[0], 1, SIDE, texts=True)[1]
    with figure(path, 2 * width + 1.2, len(lines) * (height + 0.95)) as made:
        made.set_layout_engine("compressed")  # for axes of equal aspect
        panels = made.subplots(len(lines), 2, squeeze=False)
        for row, (dataset, pair) in zip(panels, lines.items(), strict=True):
            for axes, name in zip(row, (E_ABS, ABS), strict=True):
                if name in pair:
                    table += _panel(axes, dataset, name, pair[name], width)
                else:
                    axes.set_axis_off()
                    axes.set_title(f"{name} on {dataset}: not run at this scale", fontsize=8)
    save_csv(f"{path}.csv", HEADER, table)


def _studies(found: Measured) -> Iterator[tuple[str, dict[str, AttackStudy]]]:
    for section in (found.mnist, found.svhn):
        both = {E_ABS: section.e_abs, ABS: section.abs}
        pair = {name: study for name, study in both.items() if study is not None and study.has_examples}
        if pair:
            yield section.dataset, pair


def _panel(axes: Any, dataset: str, name: str, study: AttackStudy, width: float) -> list[Line]:
    images, made, losses = (study[f"example_{part}"] for part in ("images", "reconstructions", "losses"))
    labels = study.labels[study["example_rows"]]
    least = losses.argmin(1)
    factor = unit(losses)
    framed = np.concatenate([np.zeros((len(images), 1), bool), np.arange(losses.shape[1]) == least[:, None]], axis=1)
    tiles(
        axes,
        np.concatenate([images[:, None], made], axis=1),
        [str(label) for label in labels],
        ["image", *map(str, range(losses.shape[1]))],
        texts=[["", *(short(factor * loss) for loss in row)] for row in losses],
        framed=framed,
    )
    right = int((least == labels).sum())
    units = f"loss × {factor:g}" if factor != 1 else "loss"
    head = f"{name}, {dataset}; above: {units}; framed: the least, right for {right} of {len(labels)}"
    title(axes, f"{head}\n{study.inference}", width + 0.3)
    distance = np.sqrt(np.square(made.astype(np.float64) - images[:, None]).sum((2, 3, 4)))
    return [
        (dataset, name, int(study.indices[study["example_rows"][i]]), int(labels[i]), k, float(losses[i, k]),
         int(least[i] == k), float(distance[i, k]), study.inference)
        for i, k in np.ndindex(*losses.shape)
    ]  # fmt: skip


def unit(losses: np.ndarray) -> float:
    """A power of ten that brings small losses to one digit before the point, 1 for larger ones."""
    middle = float(np.median(losses))
    return 1.0 if middle >= 1 or middle <= 0 else 10.0 ** -math.floor(math.log10(middle))


def short(value: float) -> str:
    """A number in at most four letters where it is below 1000."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
