"""Reading what `attack-synthesis` wrote: every array's shape is checked, and shards are put together by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from robustgen.errors import UserError
from robustgen.io import PathLike, load_arrays, load_csv
from robustgen.papers.e_abs.study import BOUND, CORRECT, EXAMPLES, GRID, PER_POINT, SHOWN, AttackStudy, Curve
from robustgen.papers.e_abs.words import ATTACKS
from robustgen.papers.studies import PER_IMAGE, files, finite, merged, same_shape
from robustgen.papers.words import NORMS

CURVE = ("accuracy",)  # columns of a training curve that are shown
Arrays = dict[str, np.ndarray]
NEEDED = (*GRID, *PER_POINT, *CORRECT, "natural_logits", *PER_IMAGE, *SHOWN, "config")


def load_attacks(folder: PathLike, name: str, *, natural: bool = False) -> AttackStudy:
    """The study `name` of a folder of `attack-synthesis`, whole or in shards; UserError where it is damaged.

    One that is asked for `natural` images may have no attack.
    """
    shards = [(path, _arrays(path, natural=natural)) for path in files(folder, name)]
    shards.sort(key=lambda shard: int(shard[1]["indices"].min()))
    first = shards[0][1]
    optional = [array for array in BOUND if array in first]
    for path, arrays in shards:
        if (EXAMPLES[0] in arrays, BOUND[0] in arrays) != (EXAMPLES[0] in first, BOUND[0] in first):
            raise UserError(f"{path} has not the arrays of {shards[0][0].name}; make the shards again")
    axes = dict.fromkeys((*PER_IMAGE, *CORRECT, *optional, "natural_logits"), 0) | dict.fromkeys(PER_POINT, 1)
    found = merged(shards, GRID, axes)
    found |= {array: first[array] for array in SHOWN} | {"shown": _rows(found, first, first["shown"])}
    if EXAMPLES[0] in first:
        found |= _examples(found, [arrays for _, arrays in shards])
    return AttackStudy(name, found)


def load_curve(folder: PathLike, name: str) -> Curve:
    """The training curve `name` of a folder of CSV files of `train-autoencoder`; UserError where it is damaged."""
    path = Path(folder) / f"{name}.csv"
    header, lines = load_csv(path, "training curve")
    try:
        columns = {column: np.array([float(line[header.index(column)]) for line in lines]) for column in CURVE}
        if not lines:
            raise ValueError("it has no rows")
    except ValueError as error:
        raise UserError(f"{path} is not a training curve of train-autoencoder ({error}); make it again") from error
    finite(path, columns)
    return Curve(name, columns)


def _rows(whole: Mapping[str, np.ndarray], shard: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Rows of a shard as rows of the whole, whose indices ascend."""
    return np.asarray(np.searchsorted(whole["indices"], shard["indices"][rows]))


def _examples(whole: Mapping[str, np.ndarray], shards: Sequence[Arrays]) -> Arrays:
    """The first example of each class over all shards, in the order of the classes."""
    parts = [(_rows(whole, shard, shard["example_rows"]), shard) for shard in shards]
    rows = np.concatenate([each for each, _ in parts])
    _, chosen = np.unique(whole["labels"][rows], return_index=True)
    found = {name: np.concatenate([shard[name] for _, shard in parts])[chosen] for name in EXAMPLES[1:]}
    return {"example_rows": rows[chosen], **found}


def _arrays(path: Path, *, natural: bool) -> Arrays:
    arrays = load_arrays(path)
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise UserError(f"{path} holds no array {', '.join(missing)}; make it with attack-synthesis")
    grid, images, shown = len(arrays["eps"]), len(arrays["labels"]), len(arrays["shown"])
    if not (grid or natural) or not images:
        raise UserError(f"{path}: no attack or no image in it; give attack-synthesis at least one of each")
    shapes = dict.fromkeys(GRID, (grid,)) | dict.fromkeys(PER_POINT, (grid, images))
    shapes |= {name: (images,) for name in (*CORRECT, *PER_IMAGE, *BOUND) if name in arrays}
    shapes |= {"shown_predicted": (grid, shown)}
    for name, shape in shapes.items():
        same_shape(path, name, arrays[name].shape, shape)
    same_shape(path, "natural_logits", arrays["natural_logits"].shape[:1], (images,))
    same_shape(path, "shown_images", arrays["shown_images"].shape[:1], (shown,))
    same_shape(path, "shown_adversarial", arrays["shown_adversarial"].shape[:2], (grid, shown))
    for name in EXAMPLES:
        if EXAMPLES[0] in arrays:
            same_shape(path, name, arrays.get(name, np.zeros(0)).shape[:1], (len(arrays["example_rows"]),))
    _check(path, arrays)
    return arrays


def _check(path: Path, arrays: Arrays) -> None:
    """UserError for attacks and norms that the paper's words lack, and for numbers that no run may leave."""
    for name, known in (("attack", ATTACKS), ("norm", NORMS)):
        unknown = set(arrays[name].tolist()) - set(known)
        if unknown:
            raise UserError(
                f"{path}: {name} {', '.join(sorted(unknown))} is none of {', '.join(known)}; make the file again"
            )
    unbounded = {"distance", "bound"}  # inf where a search found nothing, NaN where there is no bound
    finite(path, {name: values for name, values in arrays.items() if name not in unbounded})
    if np.isnan(arrays["distance"]).any() or (arrays["distance"] < 0).any():
        raise UserError(f"{path}: distance holds numbers that are no distances; delete the file and make it again")
    if (np.asarray(arrays["robust"], dtype=bool) & ~np.asarray(arrays["natural_correct"], dtype=bool)).any():
        raise UserError(f"{path}: robust names images that are wrong without attack; delete the file and make it again")
