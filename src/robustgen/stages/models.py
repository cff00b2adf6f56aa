"""List the published models, those that dvc.lock records: name, architecture, where it is, size, accuracy, licence.

`robustgen.load(NAME)` in Python brings and loads one, `dvc pull models/NAME.safetensors` brings its file.

where is the nearest place: workspace, below models/; changed, there but not as dvc.lock records it; cache and remote,
DVC's; missing, none of these; not here, where the remote was not asked. accuracy is that of the kept weights on natural
validation images, - where the training measures none. The licence is that of every data set trained on.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from robustgen import hub
from robustgen.data.registry import DATASETS, FOLDER
from robustgen.hub import Published
from robustgen.io import load_csv
from robustgen.pipeline import check_scale

if TYPE_CHECKING:
    from dvc.repo import Repo

Place = Literal["workspace", "changed", "cache", "remote", "missing", "not here"]
HEADER = ("name", "arch", "where", "size", "accuracy", "licence of the data")
ACCURACIES = ("clean_accuracy", "accuracy")  # columns of training curves, on natural validation images
SELECTED = {"clean": "clean_accuracy", "robust": "robust_accuracy", "accuracy": "accuracy"}  # by --recipe.select


@dataclass(frozen=True, kw_only=True)
class Options:
    scale: Annotated[str | None, arg(metavar="SCALE")] = None  # those of this scale alone: quick, desktop or paper
    remote: bool = True  # ask DVC's remote for what is not here


def run(options: Options) -> None:
    """Print one line a model. Raises UserError outside a checkout, and for an unknown scale."""
    root = hub.find_root()
    if options.scale is not None:
        check_scale(options.scale, root)
    stages = hub.recorded_stages(root)
    known = hub.published(root).values()
    models = [model for model in known if options.scale is None or model.name.startswith(f"{options.scale}/")]
    found, problem = places(models, root, ask=options.remote)
    lines = [HEADER, *(line(model, found[model.name], root, stages) for model in models)]
    widths = [max(len(each[column]) for each in lines) for column in range(len(HEADER))]
    for each in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip())
    if not models:
        print(f"\nNo model {f'of scale {options.scale} ' if options.scale else ''}is recorded in dvc.lock.")
    if problem:
        print(f"\nThe remote was not asked: {problem}")


def line(model: Published, place: Place, root: Path, stages: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a model's line, under HEADER."""
    found = accuracy(model, root, stages)
    shown = "-" if found is None else f"{100 * found:.1f} %"
    licences = licences_of(model.stage, stages) or {"unknown"}
    return model.name, architecture(model, stages), place, size(model.size), shown, "; ".join(sorted(licences))


def size(count: int) -> str:
    """Bytes as people read them: 1.2 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def places(models: Iterable[Published], root: Path, *, ask: bool) -> tuple[dict[str, Place], str | None]:
    """Where each model is, nearest first, by name; and why the remote was not asked, where it should have been."""
    found: dict[str, Place] = {}
    absent: list[Published] = []
    with hub.opened(root) as repo:
        for model in models:
            path = root / model.path
            if path.exists():
                found[model.name] = "changed" if hub.damage(path, model) else "workspace"
            elif repo.cache.local.exists(model.md5):
                found[model.name] = "cache"
            else:
                absent.append(model)
        there, problem = _in_remote(repo, absent) if ask and absent else (set(), None)
    unknown: Place = "missing" if ask and problem is None else "not here"
    return found | {each.name: "remote" if each.md5 in there else unknown for each in absent}, problem


def _in_remote(repo: Repo, models: Iterable[Published]) -> tuple[set[str], str | None]:
    """MD5 sums of those of `models` that DVC's remote has, or why it cannot be asked."""
    try:
        return set(repo.cloud.get_remote_odb().oids_exist([model.md5 for model in models])), None
    except Exception as error:  # every kind of remote has errors of its own
        return set(), hub.words(error)


def architecture(model: Published, stages: Mapping[str, Any]) -> str:
    """What its stage's command says: "resnet10", "detectors of madry_cnn", "nijkamp, snapshots"."""
    arch = option(stages[model.stage], "--model.arch") or "unknown"
    if model.stage.startswith("train-gat"):
        arch = f"detectors of {arch}"
    return f"{arch}, snapshots" if model.path == option(stages[model.stage], "--snapshots") else arch


def option(stage: Mapping[str, Any], name: str) -> str | None:
    """The value of `name VALUE` in a stage's command, None where it is absent."""
    given = shlex.split(stage.get("cmd", ""))
    return next((value for word, value in pairwise(given) if word == name), None)


def accuracy(model: Published, root: Path, stages: Mapping[str, Any]) -> float | None:
    """Of the kept weights on natural validation images, in [0, 1]; None where no curve tells it."""
    curve = option(stages[model.stage], "--curve")
    path = root / curve if curve else None
    if path is None or not path.is_file():
        return None
    header, lines = load_csv(path, "training curve")
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    row = kept(rows, option(stages[model.stage], "--recipe.select")) if rows else {}
    value = float(next((row[column] for column in ACCURACIES if row.get(column)), "nan"))
    return value if math.isfinite(value) else None


def kept(rows: Sequence[Mapping[str, str]], select: str | None) -> Mapping[str, str]:
    """The row of a training curve whose weights were kept: the latest of the best, or the last."""
    default = "clean" if "clean_accuracy" in rows[0] else "last"
    column = SELECTED.get(select or default)
    return rows[-1] if column is None else max(reversed(rows), key=lambda row: float(row[column]))


def licences_of(stage: str, stages: Mapping[str, Any]) -> set[str]:
    """Licences of the data sets that a stage's work rests on, through the models and data that it starts from."""
    makers = {out["path"]: name for name, entry in stages.items() for out in entry.get("outs", ())}
    reached, waiting, found = set(), [stage], set()
    while waiting:
        name = waiting.pop()
        reached.add(name)
        data = option(stages[name], "--name") if name.startswith("fetch@") else None
        if data is not None:
            found.add("yours" if data == FOLDER else DATASETS[data].licence if data in DATASETS else "unknown")
        above = {makers[dep["path"]] for dep in stages[name].get("deps", ()) if dep["path"] in makers}
        waiting += above - reached
    return found
