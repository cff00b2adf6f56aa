"""Accuracy under common corruptions: of a classifier alone, or behind ADP with several σ and with detection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustgen import models
from robustgen.data import ImageSet, load_split
from robustgen.defenses import adp
from robustgen.errors import UserError
from robustgen.io import existing, load_arrays, save_arrays
from robustgen.options import Ratio, recorded
from robustgen.progress import progress
from robustgen.stages.compute import Compute, check_data, identity, prepare
from robustgen.stages.evaluation import Store
from robustgen.stages.score_models import load_score, resolved

if TYPE_CHECKING:
    from torch import nn

SOURCES = (  # modules that the outcome depends on, beside the networks' own
    *("defenses.adp", "defenses.detectors.score_norm", "replicates", "sampling.langevin", "sampling.purification"),
    *("seeding", "stages.corruption_accuracy", "stages.score_models"),
)


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    classifier: Path  # the defended classifier, safetensors
    classifier_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    score: Path | None = None  # score network or energy-based model that purifies; None: the classifier alone
    score_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    corrupted: Path  # corrupted test images, as `robustgen corrupt` writes them
    data: Path  # the images they were made from; the validation images set the detection threshold
    out: Path  # which images are right, npz
    sigmas: tuple[Ratio, ...] = ()  # σ of the injected noise, in turn, pixel units; with a score these or median
    median: bool = False  # before these, σ by the median heuristic on the training images in `data`
    fixed_step: Ratio | None = None  # α of every step where σ is 0; None: as where it is not
    detection: bool = False  # each σ above 0 a second time: images that look natural take defense.calm of the noise
    detection_quantile: float = 0.95  # share of natural validation images whose score norm shall count as natural
    defense: adp.Options = field(default_factory=adp.Options)  # its sigma and detect are set by what is above
    batch: int = 64  # images purified together; with their draws they set the memory in use
    seed: int = 0  # of the per-image random streams


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the result: a defence, or the classifier alone."""

    sigma: float  # pixel units
    detection: bool
    threshold: float  # score norm up to which an image counts as natural; NaN without detection
    model: nn.Module  # images -> logits (N, K); an ADP knows `predict` too

    def __str__(self) -> str:
        return f"σ {self.sigma:g}{', detection' if self.detection else ''}"


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """What `robustgen corrupt` wrote; all its fields go into the result but for the images.

    images: uint8 (K, S, N, C, H, W), K corruptions at S severities; natural: uint8 (N, C, H, W).
    """

    images: np.ndarray
    natural: np.ndarray
    corruptions: np.ndarray
    groups: np.ndarray
    severities: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    source: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The same N images under one corruption: uint8 (N, C, H, W)."""

    name: str
    severity: int
    images: np.ndarray


def run(options: Options) -> None:
    """Write the file `options.out`: R variants, K corruptions at S severities of N images.

    sigmas (that of the median heuristic as found), threshold float64, detection bool (R,); correct bool (R, K, S, N),
    natural bool (R, N); corruptions, groups unicode (K,), severities int64 (S,), labels, indices int64 (N,), source
    unicode as `robustgen corrupt` wrote them; config, the options as JSON. A variant and corruption that are done
    survive an interruption.
    """
    check(options)
    device = prepare(options)
    test = load_split(options.data, "test")
    found = load(options.corrupted, test, options.data)
    classifier = models.load(options.classifier, device, options.classifier_arch)
    check_data(classifier, test, options.data)
    score = None
    if options.score is not None:
        score = load_score(options.score, device, options.score_arch, test, options.data)
    rows = variants(options, classifier, score)
    store = stored(options, [classifier] if score is None else [classifier, score])
    table = evaluated(rows, found, options, store)
    arrays = {
        "sigmas": np.array([row.sigma for row in rows], np.float64),
        "detection": np.array([row.detection for row in rows]),
        "threshold": np.array([row.threshold for row in rows], np.float64),
        "natural": table[:, 0],
        "correct": table[:, 1:].reshape(len(rows), *found.images.shape[:3]),
        "config": np.array(
            json.dumps({**recorded(options), "has_score": score is not None}, sort_keys=True, default=str)
        ),
    }
    named = ("corruptions", "groups", "severities", "labels", "indices", "source")
    save_arrays(options.out, {**arrays, **{name: getattr(found, name) for name in named}})
    store.clear()


def check(options: Options) -> None:
    """Raise UserError for options that do not go together."""
    if options.batch < 1:
        raise UserError(f"batch is {options.batch}; give at least 1 image")
    if options.score is None:
        if options.sigmas or options.median or options.detection:
            raise UserError("sigmas, median and detection need a score model; give score, or leave them out")
        return
    if not (options.sigmas or options.median):
        raise UserError("sigmas are (); give different numbers from 0 on, in pixel units, or median")
    distinct(options.sigmas)
    if not 0 < options.detection_quantile < 1:
        raise UserError(f"detection_quantile is {options.detection_quantile:g}; give a share between 0 and 1")
    if options.detection and not (any(options.sigmas) or options.median):
        raise UserError("detection lowers the noise, and the only sigma is 0; give another, or leave detection out")


def distinct(sigmas: tuple[float, ...]) -> None:
    """Raise UserError unless the noise levels are different numbers from 0 on."""
    if (sigmas and min(sigmas) < 0) or len({*sigmas}) < len(sigmas):
        raise UserError(f"sigmas are {sigmas}; give different numbers from 0 on, in pixel units")


def levels(options: Options) -> tuple[float, ...]:
    """Every σ, in turn: that of the median heuristic where it is asked for, then those given."""
    if not options.median:
        return options.sigmas
    sigma = resolved(replace(options.defense, sigma=None), options.data).sigma
    assert sigma is not None
    found = (sigma, *options.sigmas)
    distinct(found)
    return found


def load(path: Path, test: ImageSet, data: Path) -> Corrupted:
    """The corrupted images in `path`; UserError unless they were made from the test images `test`, read from `data`."""
    existing(path, "corrupted images")
    found = Corrupted(**load_arrays(path, *Corrupted.__dataclass_fields__))
    shape, rows = found.images.shape, found.indices
    wanted = (len(found.corruptions), len(found.severities), *found.natural.shape)
    if shape != wanted or {found.images.dtype, found.natural.dtype} != {np.dtype(np.uint8)}:
        raise UserError(
            f"{path}: images are {found.images.dtype} of shape {shape}, not uint8 of {wanted}; make it again"
        )
    fits = len(rows) > 0 and 0 <= rows.min() <= rows.max() < len(test) and shape[3:] == tuple(test.images.shape[1:])
    if fits:
        originals = np.rint(255 * test.images[rows].numpy())
        fits = np.array_equal(originals, found.natural) and np.array_equal(test.labels[rows].numpy(), found.labels)
    if not fits:
        raise UserError(f"{path} was not made from the test images of {data}; corrupt these first")
    return found


def variants(options: Options, classifier: nn.Module, score: nn.Module | None) -> list[Variant]:
    """The rows of the result: each σ, and where detection is asked for each σ above 0 with it too."""
    if score is None:
        return [Variant(sigma=0.0, detection=False, threshold=np.nan, model=classifier)]
    threshold = norm_threshold(options, classifier, score) if options.detection else np.nan
    found = []
    for sigma in levels(options):
        o = replace(options.defense, sigma=sigma, detect=None)
        if sigma == 0 and options.fixed_step is not None:
            o = replace(o, step=options.fixed_step)
        plain = adp.ADP(classifier, score, o).eval()
        found.append(Variant(sigma=sigma, detection=False, threshold=np.nan, model=plain))
        if options.detection and sigma > 0:
            model = adp.ADP(classifier, score, replace(o, detect=threshold)).eval()
            found.append(Variant(sigma=sigma, detection=True, threshold=threshold, model=model))
    return found


def norm_threshold(options: Options, classifier: nn.Module, score: nn.Module) -> float:
    """The quantile of ‖s(x)‖ over the natural validation images."""
    from robustgen.defenses.detectors.score_norm import ScoreNorm

    validation = load_split(options.data, "validation")
    network = adp.ADP(classifier, score, replace(options.defense, sigma=0.0)).score_model.eval()
    norms = -ScoreNorm(network, batch_size=options.batch).score(validation.images)
    return float(np.quantile(norms.double().numpy(), options.detection_quantile))


def stored(options: Options, networks: list[nn.Module]) -> Store:
    """Where finished parts of this evaluation, and of no other, are kept."""
    files = [path for path in (options.classifier, options.score, options.corrupted, options.data) if path is not None]
    modules = [type(network).__module__.removeprefix("robustgen.") for network in networks]
    return Store.of(identity(options, files, [*SOURCES, *modules]))


def evaluated(rows: list[Variant], found: Corrupted, options: Options, store: Store) -> np.ndarray:
    """Which images each variant names rightly under each of its conditions, bool (R, 1 + K·S, N)."""
    work = list(product(rows, conditions(found)))
    right = []
    for number, (row, condition) in enumerate(progress(work, total=len(work), label=options.out.stem, unit="set")):
        compute = partial(correct, row, condition, found.labels, found.indices, options)
        right.append(store.kept(str(number), compute))
    return np.stack(right).reshape(len(rows), -1, len(found.labels))


def conditions(found: Corrupted) -> Iterator[Condition]:
    """The natural images, as severity 0, then each corruption at each severity."""
    yield Condition(name="natural", severity=0, images=found.natural)
    for name, images in zip(found.corruptions, found.images, strict=True):
        for severity, each in zip(found.severities, images, strict=True):
            yield Condition(name=str(name), severity=int(severity), images=each)


def correct(
    row: Variant, condition: Condition, labels: np.ndarray, indices: np.ndarray, options: Options
) -> np.ndarray:
    """Which of the condition's images the variant names rightly, bool (N,); each draws from a stream of its own."""
    import torch

    from robustgen.replicates import check_logits
    from robustgen.seeding import derive

    if isinstance(row.model, adp.ADP):
        row.model.seed = derive(options.seed, str(row), condition.name, condition.severity)
    right = []
    for chosen in np.split(np.arange(len(labels)), range(options.batch, len(labels), options.batch)):
        x = torch.from_numpy(condition.images[chosen]).to(options.device).float() / 255
        with torch.no_grad():
            if isinstance(row.model, adp.ADP):
                logits = row.model.predict(x, indices[chosen].tolist())
            else:
                logits = row.model(x.contiguous(memory_format=torch.channels_last))
        check_logits(logits.unsqueeze(1))
        right.append(logits.argmax(1).cpu().numpy() == labels[chosen])
    return np.concatenate(right)
