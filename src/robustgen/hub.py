"""Published models: those that dvc.lock records, found by name, read from wherever they are, and never taken damaged.

A model's name is its path below models/ without the suffix: models/quick/e-abs/e-abs.safetensors is
"quick/e-abs/e-abs".
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustgen.errors import UserError
from robustgen.io import PathLike

if TYPE_CHECKING:
    import torch
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB
    from torch import nn

FOLDER, SUFFIX, LOCK = "models", ".safetensors", "dvc.lock"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A model that dvc.lock records."""

    name: str  # "quick/e-abs/e-abs"
    path: str  # "models/quick/e-abs/e-abs.safetensors", below the repository's root
    md5: str  # of the file, hexadecimal: its name in caches and remotes
    size: int  # bytes
    stage: str  # that made it: "train-autoencoder@quick/e-abs/e-abs"


def load(name: str, device: str | torch.device = "cpu", root: PathLike | None = None) -> nn.Module:
    """A published model on `device`, in eval mode: `load("quick/digits32-natural")`, images (N, C, H, W) -> logits.

    Autoencoders of classes come as the classifier they are for, `defenses.e_abs.AnalysisBySynthesis`, with the β and
    the cost that they were trained with and E-ABS's inference; every other network comes as `models.load` gives it: one
    of energies alone (nijkamp) takes v = 2x − 1 and gives scaled energies (N,), see `protocols.EnergyModel`.
    What is neither below models/ nor in DVC's cache is brought from DVC's remote into the cache. `name` may be short
    (see `resolve`), `root` is the repository (see `find_root`).

    The model raises UserError for images of another shape than it was made for. So does `load` where there is no such
    model, or more than one, where none of these places has it, and where what they have is not what dvc.lock records:
    that is not loaded.
    """
    import torch

    from robustgen import models
    from robustgen.io import load_weights

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    path = locate(name, root)
    header = load_weights(path)[1]
    if "snapshots" in header:
        raise UserError(f"{name} holds snapshots along a training; read them with load_snapshots({str(path)!r})")
    network = models.load(path, device)
    found = _classifier(name, network, header) if header["architecture"] == "aae" else network
    _check_inputs(name, found, header["parameters"])
    return found


def _check_inputs(name: str, network: nn.Module, parameters: Mapping[str, Any]) -> None:
    """Let a network of images say what it takes where it is given something else."""
    from robustgen.data.images import check_form

    options = parameters.get("member", parameters)  # of detectors
    if not {"channels", "size"} <= options.keys():
        return
    channels, size = options["channels"], options["size"]

    def check(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        if not arguments:  # given by name
            return
        try:
            check_form(arguments[0], channels, size)
        except UserError as error:
            wanted = f"(N, {channels}, {size}, {size})"
            raise UserError(f"{name} takes images {wanted} of floating point, not these: {error}") from error

    network.register_forward_pre_hook(check)


def _classifier(name: str, network: nn.Module, header: Mapping[str, Any]) -> nn.Module:
    from robustgen.defenses.e_abs import AnalysisBySynthesis, Options

    recipe = header.get("training") or {}
    if not {"beta", "cost"} <= recipe.keys():
        raise UserError(f"{name} does not say with which beta and cost it was trained; make it with train-autoencoder")
    return AnalysisBySynthesis(network, Options(beta=recipe["beta"], cost=recipe["cost"])).eval()


def locate(name: str, root: PathLike | None = None) -> Path:
    """A whole copy of a published model: its file below models/, else DVC's cache's, else that which its remote gives
    to the cache; UserError as in `load`.
    """
    home = find_root(root)
    model = resolve(name, published(home))
    path = home / model.path
    if path.exists():
        if reason := damage(path, model):
            raise UserError(
                f"{path} is not the {model.name} that {LOCK} records: {reason}; `dvc checkout --force {model.path}` "
                f"or `dvc pull --force {model.path}` brings that back, robustgen.models.load reads any file"
            )
        return path
    with opened(home) as repo:
        cache = repo.cache.local
        cached = Path(cache.oid_to_path(model.md5))
        if not cached.exists() or damage(cached, model):
            _bring(repo, model)
        return cached


def find_root(root: PathLike | None = None) -> Path:
    """The repository: `root`, else that of the working directory, else the checkout that this package is run from.

    Raises UserError where that has no dvc.lock.
    """
    here, installed = Path.cwd(), Path(__file__).parents[2]
    places = [here, *here.parents, installed] if root is None else [Path(root)]
    found = next((place for place in places if (place / ".dvc").is_dir()), places[0])
    if not (found / LOCK).is_file():
        raise UserError(f"{found} has no {LOCK}, which records the models; give the path of a checkout of robustgen")
    return found


def recorded_stages(root: Path) -> dict[str, Any]:
    """The stages of dvc.lock with their commands, dependencies and outputs; UserError where it is damaged."""
    import yaml

    try:
        content = yaml.load((root / LOCK).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        stages = content["stages"]
        found = {name: stages[name] for name in stages}
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise _damaged(root, " ".join(str(error).split())) from error
    for name, stage in found.items():
        if reason := _wrong(stage):
            raise _damaged(root, f"stage {name} {reason}")
    return found


def _wrong(stage: Any) -> str | None:
    """What is not as DVC records a stage, None where nothing is."""
    if not isinstance(stage, dict):
        return "is no mapping"
    for kind in ("deps", "outs"):
        entries = stage.get(kind, [])
        if not isinstance(entries, list):
            return f"has {kind} that are no list"
        if not all(isinstance(entry, dict) and isinstance(entry.get("path"), str) for entry in entries):
            return f"has one of its {kind} without a path"
    return None


def _damaged(root: Path, reason: str) -> UserError:
    return UserError(
        f"{root / LOCK} cannot be read ({reason}); resolve a merge's conflict, or bring it back with "
        f"`git checkout {LOCK}`"
    )


def published(root: Path) -> dict[str, Published]:
    """The models that dvc.lock records, by name, sorted; UserError where it is damaged."""
    found = []
    for stage, entry in recorded_stages(root).items():
        for out in entry.get("outs", ()):
            path = out["path"]
            if path.startswith(f"{FOLDER}/") and path.endswith(SUFFIX) and "md5" in out:
                if not (isinstance(out["md5"], str) and isinstance(out.get("size"), int)):
                    raise _damaged(root, f"stage {stage} has no MD5 and size of {path}")
                name = path.removeprefix(f"{FOLDER}/").removesuffix(SUFFIX)
                found.append(Published(name=name, path=path, md5=out["md5"], size=out["size"], stage=stage))
    return {model.name: model for model in sorted(found, key=lambda model: model.name)}


def resolve(name: str, known: Mapping[str, Published]) -> Published:
    """The model called `name`.

    That is the one of exactly this name; else the namesake of a folder, "quick/e-abs/e-abs" for "quick/e-abs"; else
    the only one whose name ends like it and has its other words before, "quick/gat/linf-small" for "linf-small" or
    "quick/linf-small". A path, models/….safetensors, is fine too. UserError naming candidates where none or several
    fit.
    """
    short = name.removeprefix(f"{FOLDER}/").removesuffix(SUFFIX).strip("/")
    for exact in (short, f"{short}/{short.rpartition('/')[2]}"):
        if exact in known:
            return known[exact]
    fitting = [each for each in known if _abbreviates(short, each)]
    if len(fitting) == 1:
        return known[fitting[0]]
    if fitting:
        raise UserError(f"several models are called {name!r}; name one of {', '.join(fitting)}")
    near = [each for each in known if each.startswith(f"{short}/")] or difflib.get_close_matches(short, known)
    hint = f"there are {', '.join(near)}" if near else "`robustgen models` lists those there are"
    raise UserError(f"no model is called {name!r} in {LOCK}; {hint}")


def _abbreviates(short: str, name: str) -> bool:
    """Whether `name` ends with the last word of `short` and has its others before, in their order."""
    *folders, last = name.split("/")
    *wanted, end = short.split("/")
    before = iter(folders)
    return end == last and all(word in before for word in wanted)


def damage(path: Path, model: Published) -> str | None:
    """What tells the file `path` from what dvc.lock records, None where nothing does."""
    size = path.stat().st_size
    if size != model.size:
        return f"it has {size:,} bytes of {model.size:,}"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return f"its MD5 is {digest}, not {model.md5}" if digest != model.md5 else None


def opened(root: Path) -> Repo:
    """DVC's view of the repository; UserError where DVC cannot read its configuration."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Repo(str(root))
    except DvcException as error:
        raise UserError(f"DVC cannot work in {root}: {words(error)}; see `dvc doctor`") from error


def words(error: BaseException) -> str:
    """An error's message, or its kind where it has none, on one line."""
    return " ".join(str(error).split()).rstrip(".;") or type(error).__name__


def _bring(repo: Repo, model: Published) -> None:
    """Have the remote's copy of `model` in the cache; UserError where it has none, or a damaged one."""
    cache = repo.cache.local
    with _folder(cache) as folder:
        copy = Path(folder, "model")
        place = _fetch(repo, model, copy)
        if reason := damage(copy, model):
            raise UserError(
                f"the remote's copy of {model.path} is damaged and was not loaded: {reason}; delete {place} and "
                f"`dvc push {model.path}` where the file is whole"
            )
        _keep(cache, copy, model)


def _folder(cache: HashFileDB) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder beside the cache's objects: the file system that has to have room for one more anyway."""
    place = Path(cache.path).parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".robustgen-", dir=place)
    except OSError as error:
        raise _unwritable(cache, error) from error


def _fetch(repo: Repo, model: Published, copy: Path) -> str:
    """Have the remote's copy of `model` at the path `copy`; where the remote keeps it. UserError where that fails."""
    try:
        remote = repo.cloud.get_remote_odb(command="pull")
        source = remote.oid_to_path(model.md5)
        place: str = remote.fs.unstrip_protocol(source)
        fetch = remote.fs.fs.get_file  # connects, where the remote is a server: a key file that is missing shows here
    except Exception as error:  # every kind of remote has errors of its own
        raise _silent(repo, model, error) from error
    try:
        fetch(source, str(copy))
    except FileNotFoundError as error:
        raise UserError(
            f"{model.path} is not here, not in the cache and not in the remote ({place}); `dvc push {model.path}` "
            f"where it was made, or make it here: {_making(repo, model)}"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _unwritable(repo.cache.local, error) from error
        raise _silent(repo, model, error) from error
    return place


def _making(repo: Repo, model: Published) -> str:
    """How a model is made, in words: first its scale may have to be switched on."""
    from robustgen.pipeline import way_on

    command = f"`snakemake --cores 2 {model.path}`"
    way = way_on(model.name.partition("/")[0], repo.root_dir)
    return f"{command}, where its paper is on at its scale ({way})" if way else command


def _silent(repo: Repo, model: Published, error: Exception) -> UserError:
    return UserError(
        f"{model.path} is not here nor in the cache, and the remote does not answer: {words(error)}; set the remote up "
        f"(`dvc remote list`), or make the file: {_making(repo, model)}"
    )


def _keep(cache: HashFileDB, copy: Path, model: Published) -> None:
    """Put `copy` into the cache, in place of a damaged object."""
    try:
        if cache.exists(model.md5):
            cache.delete(model.md5)
        cache.add(str(copy), cache.fs, model.md5)
    except OSError as error:
        raise _unwritable(cache, error) from error


def _unwritable(cache: HashFileDB, error: OSError) -> UserError:
    return UserError(
        f"DVC's cache {cache.path} cannot be written: {words(error)}; check its permissions and free space, or "
        "choose another with `dvc cache dir --local PATH`"
    )
