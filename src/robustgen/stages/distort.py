"""The mean L2 distortion that makes the detectors, as a generative classifier, err (Yin et al. 2020, Appendix B)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustgen.attacks import distortion
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.progress import INTERVAL, log, progress
from robustgen.stages.classifiers import described
from robustgen.stages.compute import Compute, identity, prepare
from robustgen.stages.detector_models import SOURCES, detector_files, load_bank, modules_of, training_facts
from robustgen.stages.evaluation import Store, shard

if TYPE_CHECKING:
    from robustgen.data import ImageSet
    from robustgen.models.detectors import Detectors


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    detectors: Path  # a detector of every class: a file of train-gat, or a folder of such files
    member_arch: str | None = None  # architecture of one detector; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them; the validation images set the threshold
    out: Path  # distances to write, npz
    offset: int = 0  # first test image of this shard
    images: int  # test images of this shard
    share: float = 0.95  # of the validation images that the threshold T lets pass (the paper's TPR)
    search: distortion.Options = field(default_factory=distortion.Options)
    shown: int = 16  # first images of the shard whose nearest error is kept, for who wants to see them
    batch: int = 64  # images searched together; they set the memory in use


def run(options: Options) -> None:
    """Write the file `options.out`: N test images, S of them shown.

    distance (N,), L2 norm of the smallest change found, pixel units, 0 where the natural image is an error already and
    infinite where none was found; c (N,), the weight of Eq. 21 that found it, NaN where none did; threshold float64 (),
    T; validation_share float64 (), the share of validation images that pass T; natural_error bool (N,); adversarial
    float32 (S, C, H, W), the natural image where no error was found; labels, indices int64 (N,), indices being rows of
    the test split; config, the options as JSON with `trained`, how the detectors were. Finished batches survive an
    interruption, and no number depends on the batch or the shard.
    """
    from robustgen.defenses.gat import REJECTED, Generative

    check(options)
    device = prepare(options)
    images = shard(options.data, options.offset, options.images)
    bank = load_bank(options.detectors, device, options.member_arch, images, options.data, complete=True)
    validation = load_split(options.data, "validation").images.to(device)
    defense = Generative(bank, batch=options.batch).fit(validation, options.share)
    passed = (defense.predict(validation) != REJECTED).double().mean()
    predicted, logit = (values.cpu() for values in defense.decide(images.images.to(device)))
    store = stored(options, bank)
    found = searched(bank, images, defense.threshold, options, store)
    found |= {
        "threshold": np.array(defense.threshold, np.float64),
        "validation_share": np.array(float(passed), np.float64),
        "natural_error": ((predicted != images.labels) & (logit > defense.threshold)).numpy(),
    }
    found |= described(options, images.labels, options.offset, trained=training_facts(options.detectors))
    save_arrays(options.out, found)
    store.clear()


def check(options: Options) -> None:
    """Raise UserError for options that measure nothing."""
    if options.batch < 1 or options.shown < 0:
        raise UserError(
            f"batch is {options.batch} and shown {options.shown}; give at least 1 image a batch, 0 or more shown"
        )


def stored(options: Options, bank: Detectors) -> Store:
    """Where finished batches of this search, and of no other, are kept."""
    files = [*detector_files(options.detectors), options.data]
    own = ("attacks.objectives", "attacks.distortion", "stages.distort")
    fitting = ("defenses.gat", "defenses.threshold")
    return Store.of(identity(options, files, [*SOURCES, *own, *fitting, *modules_of([bank])]))


def searched(
    bank: Detectors, images: ImageSet, threshold: float, options: Options, store: Store
) -> dict[str, np.ndarray]:
    """The arrays distance, c and adversarial of the result; batches that `store` holds are not searched again."""
    firsts = range(0, len(images), options.batch)
    parts = []
    for first in progress(firsts, total=len(firsts), label=options.out.stem):
        compute = partial(nearest, bank, images, slice(first, first + options.batch), threshold, options)
        parts.append(store.kept(str(first), compute))
    table = np.concatenate(parts)
    shown = table[: options.shown, 2:].astype(np.float32)
    return {
        "distance": table[:, 0],
        "c": table[:, 1],
        "adversarial": shown.reshape(-1, *images.images.shape[1:]),
    }


def nearest(bank: Detectors, images: ImageSet, rows: slice, threshold: float, options: Options) -> np.ndarray:
    """float64 (M, 2 + D) of the images of `rows`: distance, c, and the D pixels of the nearest error."""
    device = next(bank.parameters()).device
    x, y = images.images[rows].to(device), images.labels[rows].to(device)
    report = Report(f"{options.out.stem}, image {rows.start} of {len(images)}")
    found = distortion.distort(bank, x, y, threshold, options.search, progress=report)
    columns = (found.distance[:, None], found.c[:, None], found.adversarial.flatten(1))
    return np.concatenate([column.detach().cpu().double().numpy() for column in columns], axis=1)


class Report:
    """Says on standard error how a batch's search gets on: seldom, and nothing in a short one."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.last = time.monotonic()

    def __call__(self, tried: int, standing: int) -> None:
        now = time.monotonic()
        if now - self.last >= INTERVAL:
            self.last = now
            log(f"{self.label}: {tried} values of c tried, {standing} of the batch searched on")
