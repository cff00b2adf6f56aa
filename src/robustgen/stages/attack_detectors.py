"""Attack each detector on its own, by a list of attacks: are single detectors robust (Yin et al. 2020, Sec. 4.1)?"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from robustgen.attacks.ball import Norm, ball_of
from robustgen.attacks.first_order import Rule, check_ascent
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.options import Ratio
from robustgen.progress import progress
from robustgen.stages.classifiers import check_logits, described, load_classifier, logits_of, together
from robustgen.stages.compute import Compute, identity, prepare
from robustgen.stages.detector_models import SOURCES, detector_files, load_bank, modules_of, training_facts
from robustgen.stages.evaluation import Store, shard

if TYPE_CHECKING:
    from torch import Tensor

    from robustgen.data import ImageSet
    from robustgen.models.detectors import Detectors

Start = Literal["image", "random"]


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    classifier: Path  # f, whose predictions divide the images into the sets that a detector has to tell apart
    classifier_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    detectors: Path  # the detectors d_k: a file of train-gat, or a folder of such files
    member_arch: str | None = None  # architecture of one detector; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # logits to write, npz
    offset: int = 0  # first test image of this shard
    images: int  # test images of this shard
    # an attack has an entry in each of the lists that follow; a list of one value serves all attacks
    norm: tuple[Norm, ...] = ("linf",)  # in which radius and steps are measured
    eps: tuple[Ratio, ...]  # radius of the ball, pixel units; of an L2 ball the length of the whole change
    rule: tuple[Rule, ...] = ("adam",)  # how a step is made: normalised steepest ascent, or Adam on the change
    steps: tuple[int, ...]  # updates of an attack
    alpha: tuple[Ratio, ...]  # length of a step in the norm, or Adam's learning rate, pixel units
    restarts: tuple[int, ...] = (1,)  # starts of which the one with the largest logit counts
    starts: tuple[Start, ...] = ("image",)  # where an attack starts: at the image, or uniformly in the ball
    batch: int = 64  # images attacked together, by all detectors at once: they set the memory in use
    seed: int = 0  # of the per-image random streams


@dataclass(frozen=True, kw_only=True)
class Point:
    """An attack; fields as the arrays of the result."""

    norm: Norm
    eps: float
    rule: Rule
    steps: int
    alpha: float
    restarts: int
    starts: Start


def run(options: Options) -> None:
    """Write the file `options.out`: G attacks, N images, L detectors.

    norm, eps, rule, steps, alpha, restarts, starts (G,); adversarial float32 (G, N, L), detector l's logit at the image
    that was changed to raise it, the largest of the restarts' last iterates, whatever the image's class; natural
    float32 (N, L); predicted int64 (N,), f's classes; labels, indices int64 (N,), indices being rows of the test split;
    detectors int64 (L,), their classes; config, the options as JSON with `trained`, how the detectors were. Finished
    parts survive an interruption, and no number depends on the batch, the shard or the other detectors.
    """
    points = check(options)
    device = prepare(options)
    images = shard(options.data, options.offset, options.images)
    classifier = load_classifier(options.classifier, device, options.classifier_arch, images, options.data)
    bank = load_bank(options.detectors, device, options.member_arch, images, options.data)
    files = [options.classifier, *detector_files(options.detectors), options.data]
    sources = [*SOURCES, "stages.attack_detectors", *modules_of([classifier, bank])]
    store = Store.of(identity(options, files, sources))
    found = {f.name: np.array([getattr(point, f.name) for point in points]) for f in fields(Point)}
    found["natural"] = logits_of(bank, images.images, options.batch, "logits of the detectors")
    predictions = logits_of(classifier, images.images, options.batch, "logits of the classifier")
    found["adversarial"] = adversarial(bank, images, points, options, store)
    found |= {
        "predicted": predictions.argmax(1),
        "detectors": np.array(bank.labels, np.int64),
    }
    found |= described(options, images.labels, options.offset, trained=training_facts(options.detectors))
    save_arrays(options.out, found)
    store.clear()


def check(options: Options) -> list[Point]:
    """The attacks; UserError for options that make none."""
    if options.batch < 1:
        raise UserError(f"batch is {options.batch}; give at least 1 image")
    lists = {f.name: getattr(options, f.name) for f in fields(Point)}
    points = [Point(**entry) for entry in together(**lists)]
    for point in points:
        if point.starts not in ("image", "random"):
            raise UserError(f"unknown start {point.starts!r}; known are image, random")
        settings = asdict(point)
        random_start = settings.pop("starts") == "random"
        check_ascent(**settings, random_start=random_start)
    return points


def adversarial(bank: Detectors, images: ImageSet, points: list[Point], options: Options, store: Store) -> np.ndarray:
    """float32 (G, N, L): what each attack raises each detector's logit to. Parts that `store` holds are not redone."""
    found = np.full((len(points), len(images), len(bank.labels)), -np.inf, np.float32)
    starts = [(number, point, restart) for number, point in enumerate(points) for restart in range(point.restarts)]
    work = list(product(starts, range(0, len(images), options.batch)))
    for (number, point, restart), first in progress(work, total=len(work), label=options.out.stem):
        rows = slice(first, first + options.batch)
        x, indices = images.images[rows], images.indices[rows].tolist()
        compute = partial(attacked, bank, x, indices, point, restart, options.seed)
        kept = store.kept(f"{number}-{restart}-{first}", compute)
        found[number, rows] = np.maximum(found[number, rows], kept)
    return found


def attacked(bank: Detectors, x: Tensor, indices: list[int], point: Point, restart: int, seed: int) -> np.ndarray:
    """float32 (N, L): each detector's logit at its own perturbation of the images x (N, C, H, W) in [0, 1].

    All detectors and images climb together. A random start is drawn for (seed, restart, detector, image).
    Raises UserError where a logit is NaN or infinite.
    """
    import torch

    from robustgen.attacks.first_order import climb
    from robustgen.seeding import ImageStreams, derive

    ball, sizes = ball_of(point.norm, point.eps), (len(bank.labels), len(x))
    x = x.to(next(bank.parameters()).device)
    own = x.expand(sizes[0], *x.shape).flatten(0, 1)  # every detector changes the images on its own
    start = None
    if point.starts == "random":
        seeds = [derive(seed, "restart", restart, label) for label in bank.labels]
        start = torch.cat([ball.offset(x, ImageStreams(each, indices)) for each in seeds])

    def logits(images: Tensor) -> Tensor:
        return bank.each(images.unflatten(0, sizes)).flatten(0, 1)

    changed = climb(logits, own, ball=ball, alpha=point.alpha, steps=point.steps, rule=point.rule, start=start)
    with torch.no_grad():
        found = bank.each(changed.unflatten(0, sizes)).T.cpu()
    check_logits(found, "logits of attacked detectors")
    ball.check(changed, own)
    return found.numpy()
