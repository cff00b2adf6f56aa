"""Two models' images side by side: whether both began at the same ones, the classes that both have, and which fool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustgen.errors import UserError
from robustgen.papers.gat.study import Synthesis

Rows = tuple[list[int], list[int]]  # positions of the classes that two models have, in the outputs of either


def shared_classes(a: Synthesis, b: Synthesis) -> Rows:
    """The classes that both models have, none perhaps, in the order of a's."""
    labels = [label for label in a.targets if label in b.targets]
    return [a.targets.index(label) for label in labels], [b.targets.index(label) for label in labels]


def same_images(a: Synthesis, b: Synthesis) -> None:
    """UserError where the natural images that were perturbed are not the same."""
    for name in ("images", "image_labels"):
        _same(a, b, name, a[name], b[name])


def from_one_start(a: Synthesis, b: Synthesis) -> Rows:
    """`shared_classes`; UserError where images were not generated from the same samples of these classes."""
    rows = shared_classes(a, b)
    _same(a, b, "start", a["start"][rows[0]], b["start"][rows[1]])
    return rows


def from_one_noise(a: Synthesis, b: Synthesis) -> Rows:
    """`shared_classes`; UserError where the noise, or the steps after which images were kept, are not the same."""
    rows = shared_classes(a, b)
    _same(a, b, "noise_steps", a["noise_steps"], b["noise_steps"])
    _same(a, b, "noise", a["noise"][:1, rows[0]], b["noise"][:1, rows[1]])
    counts = [np.array(study["noise_judged"].shape[2]) for study in (a, b)]  # the pixels of the first alone are kept
    _same(a, b, "noises", *counts)
    return rows


def _same(a: Synthesis, b: Synthesis, name: str, values: np.ndarray, others: np.ndarray) -> None:
    if not np.array_equal(values, others):
        raise UserError(
            f"synthesis {a.name!r} and {b.name!r} differ in {name}; make both of one data file with equal options"
        )


def fooling(study: Synthesis, part: str, rows: Sequence[int]) -> np.ndarray:
    """Which images that raise the logits at positions `rows` (L,) are not taken for their class, and yet have a logit
    above the median of its natural images: "generated" ones (L, G), or "noise" ones at any step kept (L, R).
    """
    chosen = list(rows)
    logits = study["noise_logits"] if part == "noise" else _own(study["generated_logits"])[None]
    judged = study.alike(f"{part}_judged")
    unlike = ~(judged if part == "noise" else judged[None])
    medians = np.array([natural_median(study, row) for row in chosen])[:, None]
    return np.asarray(((logits[:, chosen] > medians) & unlike[:, chosen]).any(0))


def _own(logits: np.ndarray) -> np.ndarray:
    """Logits (L, G, L) of images made for every class, of that class (L, G)."""
    return np.asarray(np.diagonal(logits, axis1=0, axis2=2).T)


def natural_median(study: Synthesis, row: int) -> float:
    """The median logit of a class' natural images, of the output at a position; inf where there are none."""
    natural = study["natural"][study.labels == study.targets[row], row]
    return float(np.median(natural)) if len(natural) else np.inf
