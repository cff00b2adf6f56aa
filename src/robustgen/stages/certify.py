"""Count how a classifier, or ADP before it, names noisy copies of images: what randomized smoothing certifies from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustgen import models
from robustgen.defenses import adp
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.options import Ratio, recorded
from robustgen.progress import progress
from robustgen.stages.compute import Compute, check_data, identity, prepare
from robustgen.stages.evaluation import Store, shard
from robustgen.stages.score_models import load_score

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustgen.seeding import ImageStreams

    Copies = Callable[[Tensor, int, ImageStreams], Tensor]  # images, n, streams -> what the classifier sees (N, n, ...)

SOURCES = (  # modules that the counts depend on, beside the networks' own
    *("defenses.adp", "sampling.langevin", "sampling.purification", "models.energy", "models.wide_resnet"),
    *("replicates", "seeding", "stages.certify", "stages.score_models"),
)
TOGETHER = 50  # copies of an image computed at once; part of what is drawn, so independent of the batch


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    classifier: Path  # names the copies, safetensors
    classifier_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    score: Path | None = None  # score network or energy-based model that purifies each copy; None: the classifier alone
    score_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # counts to write, npz
    offset: int = 0  # first test image of this shard
    images: int  # test images of this shard
    sigmas: tuple[Ratio, ...]  # σ of the Gaussian noise, in turn, pixel units
    selection: int = 100  # n0, copies that choose the class (Cohen et al. 2019, Sec. 4)
    samples: int  # n, other copies that bound its probability; Cohen et al. 100000, Yoon et al. 100
    # the purification; its sigma and draws do nothing here: every copy has noise σ and is purified once
    defense: adp.Options = field(default_factory=adp.Options)
    batch: int = 16  # images at a time, each with up to 50 copies; they set the memory in use
    seed: int = 0  # of the per-image random streams; all σ scale the same draws


def run(options: Options) -> None:
    """Write the file `options.out`: S noise levels, N images, K classes.

    sigmas float64 (S,); selection_counts, counts int64 (S, N, K): how often each class was named among `selection` and
    `samples` other copies; labels, indices int64 (N,), indices being rows of the test split; config, the options as
    JSON with n0, n and has_score. Batches that are done survive an interruption. Copies are drawn for an image, whoever
    else is there: shards of one test set, NAME.000.npz, NAME.001.npz, ..., put together along N are the whole.
    """
    check(options)
    device = prepare(options)
    images = shard(options.data, options.offset, options.images)
    classifier = models.load(options.classifier, device, options.classifier_arch)
    check_data(classifier, images, options.data)
    score = None
    if options.score is not None:
        score = load_score(options.score, device, options.score_arch, images, options.data)
    roles = {"selection_counts": options.selection, "counts": options.samples}
    kept: dict[str, np.ndarray] = {
        name: np.zeros((len(options.sigmas), len(images), images.num_classes), np.int64) for name in roles
    }
    rows = np.array_split(np.arange(len(images)), range(options.batch, len(images), options.batch))
    work = list(product(range(len(options.sigmas)), rows, roles))
    store = stored(options, [classifier] if score is None else [classifier, score])
    for number, (level, chosen, role) in enumerate(progress(work, total=len(work), label=options.out.stem)):
        copies = copies_of(classifier, score, options.sigmas[level], options.defense)
        x, indices = images.images[chosen].to(device), images.indices[chosen].tolist()
        draws = streams(options.seed, role, indices, device)
        count = partial(counted, classifier, copies, x, roles[role], draws)
        kept[role][level, chosen] = store.kept(str(number), count)
    facts = {"n0": options.selection, "n": options.samples, "has_score": score is not None}
    config = np.array(json.dumps({**recorded(options), **facts}, sort_keys=True, default=str))
    where = {"labels": images.labels.numpy(), "indices": np.arange(options.offset, options.offset + len(images))}
    save_arrays(options.out, {"sigmas": np.array(options.sigmas, np.float64), **kept, **where, "config": config})
    store.clear()


def check(options: Options) -> None:
    """Raise UserError for options that certify nothing."""
    if not options.sigmas or min(options.sigmas) <= 0 or len({*options.sigmas}) < len(options.sigmas):
        raise UserError(f"sigmas are {options.sigmas}; give different numbers above 0")
    if options.selection < 1 or options.samples < 1 or options.batch < 1:
        raise UserError(
            f"selection is {options.selection}, samples {options.samples} and batch {options.batch}; "
            "give at least 1 of each"
        )
    if options.score is not None and options.defense.detect is not None:
        raise UserError("a certificate holds for one noise level at all images; leave defense.detect out")


def stored(options: Options, networks: list[nn.Module]) -> Store:
    """Where finished batches of this shard, and of no other, are kept."""
    files = [path for path in (options.classifier, options.score, options.data) if path is not None]
    modules = [type(network).__module__.removeprefix("robustgen.") for network in networks]
    return Store.of(identity(options, files, [*SOURCES, *modules]))


def streams(seed: int, role: str, indices: list[int], device: str) -> ImageStreams:
    """The images' random streams; those that select a class and those that count it are unrelated."""
    from robustgen.seeding import ImageStreams, derive

    return ImageStreams(derive(seed, role), indices, device)


def copies_of(classifier: nn.Module, score: nn.Module | None, sigma: float, defense: adp.Options) -> Copies:
    """x + σz, not clipped, or with a score model one ADP purification of each such copy, which begins with a clip.

    Either way what follows the noise is a function of the noisy image alone (and of other noise, where updates are
    Langevin's), as smoothing needs. With deterministic updates both see the same z.
    """
    if score is not None:
        return adp.ADP(classifier, score, replace(defense, sigma=sigma, draws=1)).purify_draws
    return lambda x, n, streams: x.unsqueeze(1) + sigma * streams.normal((n, *x.shape[1:]), x.device)


def votes(classifier: nn.Module, copies: Copies, x: Tensor, n: int, streams: ImageStreams) -> Tensor:
    """How often each class is given to n copies of each image x (N, C, H, W): int64 (N, K).

    Raises UserError where logits are NaN or infinite.
    """
    import torch
    import torch.nn.functional as F

    from robustgen.replicates import check_finite

    counts = torch.zeros((), dtype=torch.int64, device=x.device)
    for first in range(0, n, TOGETHER):
        with torch.no_grad():
            seen = copies(x, min(TOGETHER, n - first), streams)
            logits = classifier(seen.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        logits = logits.unflatten(0, seen.shape[:2])
        check_finite(logits, "logits of noisy copies", "; train the classifier again, or the score model before it")
        counts = counts + F.one_hot(logits.argmax(2), logits.shape[2]).sum(1)
    return counts


def counted(classifier: nn.Module, copies: Copies, x: Tensor, n: int, streams: ImageStreams) -> np.ndarray:
    """`votes`, on the CPU."""
    return votes(classifier, copies, x, n, streams).cpu().numpy()
