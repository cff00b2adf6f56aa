"""Figures 4 and 5: adversarial examples of E-ABS under L2 PGD, on a simple and on a complex data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import absent
from robustgen.papers.e_abs.measured import Comparison, Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.tiles import SMALL, extent, tiles, wrapped
from robustgen.papers.words import plural

HEADER = ("dataset", "index", "label", "predicted", "error", "l2_length", "enlarged", "method")
COLUMNS = 10
SIDE = 0.62  # inches of an image


def mnist(path: Path, found: Measured) -> None:
    """Figure 4: of the first comparison."""
    _adversarial(path, found.mnist)


def svhn(path: Path, found: Measured) -> None:
    """Figure 5: of the last."""
    _adversarial(path, found.svhn)


def _adversarial(path: Path, section: Comparison) -> None:
    """The first images that E-ABS has right, the same under the attack, and the change of each, enlarged alike."""
    study = section.e_abs
    point = None if study is None else study.main_point("pgd", "l2")
    if study is None or point is None or not len(study["shown"]):
        absent(path, HEADER, "E-ABS under L2 PGD on this data set")
        return
    natural, adversarial = (images[:COLUMNS] for images in (study.shown_images, study.shown_adversarial(point)))
    change = adversarial.astype(np.float64) - natural
    factor = enlargement(change)
    lengths = np.sqrt(np.square(change).sum((1, 2, 3)))
    labels, predicted = study.shown_labels[:COLUMNS], study.shown_predicted(point)[:COLUMNS]
    broken = ~study.robust(point)[study["shown"]][:COLUMNS]
    framed = np.zeros((3, len(natural)), bool)
    framed[1] = broken
    width, height = extent(3, len(natural), SIDE, texts=True)
    words = max(width + 1.0, 4.6)
    with figure(path, words + 0.2, height + 0.75) as made:
        made.set_layout_engine("compressed")  # for axes of equal aspect
        tiles(
            made.subplots(),
            np.stack([natural, adversarial, 0.5 + factor * change]),
            ["clean,\nlabel", "adversarial,\npredicted", f"change × {factor:.3g},\nL2 length"],
            texts=[[str(k) for k in labels], [str(k) for k in predicted], [f"{length:.2f}" for length in lengths]],
            framed=framed,
        )
        made.suptitle(wrapped(_title(section.dataset, study, point, broken), words), fontsize=SMALL)
    indices = study.indices[study["shown"]]
    lines = zip(indices, labels, predicted, broken, lengths, strict=False)
    save_csv(
        f"{path}.csv",
        HEADER,
        [(section.dataset, *line[:3], int(line[3]), line[4], factor, study.method(point)) for line in lines],
    )


def enlargement(change: np.ndarray) -> float:
    """By which factor, of two digits, changes of pixels fill the range from black to white about grey."""
    largest = float(np.abs(change).max())
    if not largest:
        return 1.0
    digit = 10.0 ** (np.floor(np.log10(0.5 / largest)) - 1)
    return float(np.floor(0.5 / largest / digit * (1 + 1e-6)) * digit)


def _title(dataset: str, study: AttackStudy, point: int, broken: np.ndarray) -> str:
    shown = f"{broken.sum()} of {plural(len(broken), 'image')}"
    return f"{dataset}: E-ABS under {study.method(point)}\nframed: errors that fresh inference confirms, {shown}"
