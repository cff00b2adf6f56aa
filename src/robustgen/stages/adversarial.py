"""Natural images and what an attack made of them, paired, for the stages that compare the two."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustgen.data import ImageSet, load_split
from robustgen.errors import UserError
from robustgen.io import existing, load_arrays

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """N natural images and the same attacked."""

    natural: ImageSet
    adversarial: ImageSet  # row i is the attacked row i of `natural`, with its label and index
    rows: np.ndarray  # int64 (N,): rows of the data file's split
    attack: dict[str, Any]  # the attack's options


def load_pairs(path: Path, split: str, count: int, data: Path) -> Pairs:
    """The first `count` images of a split in an adversarial set, as `robustgen attack` writes it, made from `data`.

    Raises UserError where the file is missing, holds too few images or none of this split, or was not made from `data`.
    """
    import torch

    found = load_arrays(existing(path, "adversarial set"))
    name, places = f"{split}_adversarial", f"{split}_indices"
    if split == "validation" and name not in found and "test_adversarial" in found:
        raise UserError(f"{path} holds no validation images; give its attack run a `validation` count")
    missing = [key for key in (name, places, "config") if key not in found]
    if missing:
        raise UserError(f"{path} holds no array {', '.join(missing)}; give a file that `robustgen attack` made")
    rows, held = found[places][:count], len(found[places])
    if count < 1 or len(rows) < count:
        option = {"test": "images"}.get(split, split)  # as every stage calls it
        raise UserError(f"{option} is {count}; {path} holds {held}, so give 1 to {held}")
    images = load_split(data, split)
    attacked = torch.from_numpy(found[name][:count])
    attack: dict[str, Any] = json.loads(str(found["config"]))
    problem = _foreign(attacked, rows, images, attack, split)
    if problem:
        raise UserError(f"{path} was not made from {data}: {problem}; attack these images first")
    natural = ImageSet(
        images=images.images[rows], labels=images.labels[rows], indices=images.indices[rows], classes=images.classes
    )
    return Pairs(natural=natural, adversarial=replace(natural, images=attacked), rows=rows, attack=attack)


def _foreign(attacked: Tensor, rows: np.ndarray, images: ImageSet, attack: dict[str, Any], split: str) -> str | None:
    """What shows that attacked images were not made from these rows, in a few words; None if nothing does."""
    from robustgen.attacks.ball import ball_of

    if attacked.shape[1:] != images.images.shape[1:]:
        found, wanted = ("x".join(map(str, each.shape[1:])) for each in (attacked, images.images))
        return f"its images are {found}, not {wanted}"
    if rows.min() < 0 or rows.max() >= len(images):
        return f"its rows run to {rows.max()}, but there are {len(images)} {split} images"
    ball = ball_of(attack.get("norm", "linf"), attack["eps"])
    distance = float(ball.distance(attacked, images.images[rows]).max())
    if not distance <= ball.eps + ball.tolerance:
        return f"an image lies {distance:.3g} away from its original, but the attack's eps is {ball.eps:.3g}"
    return None
