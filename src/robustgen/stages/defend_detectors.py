"""Attack a classifier guarded by GAT's detectors, and these as a classifier (Yin et al. 2020, Sec. 4.2 and 4.3)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustgen.attacks.ball import Norm, ball_of
from robustgen.attacks.detection import ATTACKS, check_attack, check_targets, multi_targeted
from robustgen.attacks.first_order import Rule, check_ascent
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.options import Ratio
from robustgen.progress import progress
from robustgen.stages.classifiers import check_logits, described, load_classifier, logits_of, together
from robustgen.stages.compute import Compute, identity, prepare
from robustgen.stages.detector_models import SOURCES, detector_files, load_bank, modules_of, training_facts
from robustgen.stages.evaluation import Store, shard

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustgen.attacks.detection import DetectionAttack
    from robustgen.data import ImageSet
    from robustgen.models.detectors import Detectors

RIVAL_LOSSES = ("ce", "cw")  # what the attacks on the rival raise: cross-entropy, margin of logits


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    classifier: Path  # f of integrated detection, safetensors
    classifier_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    detectors: Path  # a detector of every class: a file of train-gat, or a folder of such files
    member_arch: str | None = None  # architecture of one detector; in the pipeline its source is a dependency
    rival: Path  # adversarially trained softmax classifier to compare with, safetensors
    rival_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them; thresholds are set on logits of its validation images
    out: Path  # logits to write, npz
    offset: int = 0  # first test image of this shard
    images: int  # test images of this shard
    # in turn: classifier (Eq. 12, blind to the detectors), detector (14), combined16, combined17, ce and cw on the
    # detectors' logits, multi-integrated and multi-generative (every target in turn, Tramèr et al. 2020)
    attacks: tuple[str, ...]
    norm: Norm = "linf"  # in which radii and steps are measured
    # a radius has an entry in each of the lists that follow; a list of one value serves all radii
    eps: tuple[Ratio, ...]  # pixel units; of an L2 ball the length of the whole change; 0 is a control
    steps: tuple[int, ...]  # updates of an attack
    alpha: tuple[Ratio, ...]  # length of a step in the norm, or Adam's learning rate, pixel units
    multi_steps: tuple[int, ...] = ()  # of the attacks called multi-* (Tramèr et al.: 100); none: as the others
    multi_alpha: tuple[Ratio, ...] = ()  # of the same (Tramèr et al.: 2.5 eps / 100); none: as the others
    targets: int | None = None  # wrong classes that multi-* try, of the largest predicting logits at x; None: all
    rule: Rule = "adam"  # how a step is made: normalised steepest ascent, or Adam on the change
    restarts: int = 1  # starts of which the worst for the defence counts
    random_start: bool = True  # start uniformly in the ball rather than at the image
    batch: int = 64  # images attacked together; they set the memory in use
    seed: int = 0  # of the per-image random streams


@dataclass(frozen=True, kw_only=True)
class Radius:
    """A radius and how it is climbed within."""

    eps: float
    steps: int
    alpha: float


def run(options: Options) -> None:
    """Write the file `options.out`: G attacks (each of `attacks` at each of E radii), N test, V validation images,
    K classes.

    attack, norm, eps, steps, alpha (G,), as each attack used them; classifier_logits, detector_logits float32
    (G, N, K), z_f and z_H of the adversarial images; natural_classifier, natural_detector (N, K),
    validation_classifier, validation_detector (V, K), those of natural images; validation_labels int64 (V,);
    rival_correct bool (N,); rival_eps (E,), rival_robust bool (E, N): right as it is and under every attack at that
    radius, of `steps` and `alpha`; labels, indices int64 (N,), indices being rows of the test split; config, the
    options as JSON with `trained`, how the detectors were. Finished parts survive an interruption, and no number
    depends on the batch or the shard.
    """
    radii, multi = check(options)
    device = prepare(options)
    images = shard(options.data, options.offset, options.images)
    classifier = load_classifier(options.classifier, device, options.classifier_arch, images, options.data)
    rival = load_classifier(options.rival, device, options.rival_arch, images, options.data)
    bank = load_bank(options.detectors, device, options.member_arch, images, options.data, complete=True)
    points = [(name, each) for name in options.attacks for each in (multi if multi_targeted(name) else radii)]
    attacks = [attack_of(name, classifier, bank, radius, options) for name, radius in points]
    store = stored(options, [classifier, bank, rival])
    found = natural(classifier, bank, images, options)
    logits = attacked(attacks, classifier, bank, images, options, store)
    found["classifier_logits"], found["detector_logits"] = np.split(logits, 2, axis=2)
    found["rival_correct"], found["rival_robust"] = rivalled(rival, images, radii, options, store)
    found |= {
        "attack": np.array([name for name, _ in points]),
        "norm": np.array([options.norm] * len(points)),
        "eps": np.array([radius.eps for _, radius in points], np.float64),
        "steps": np.array([radius.steps for _, radius in points], np.int64),
        "alpha": np.array([radius.alpha for _, radius in points], np.float64),
        "rival_eps": np.array([radius.eps for radius in radii], np.float64),
    }
    found |= described(options, images.labels, options.offset, trained=training_facts(options.detectors))
    save_arrays(options.out, found)
    store.clear()


def check(options: Options) -> tuple[list[Radius], list[Radius]]:
    """The radii, and the same for multi-targeted attacks; UserError for options that make no evaluation."""
    if not options.attacks:
        raise UserError(f"attacks is empty; known are {', '.join(ATTACKS)}")
    for name in options.attacks:
        check_attack(name)
    if options.batch < 1:
        raise UserError(f"batch is {options.batch}; give at least 1 image")
    own = {"multi_steps": options.multi_steps, "multi_alpha": options.multi_alpha}
    given = {name: values for name, values in own.items() if values}
    entries = together(eps=options.eps, steps=options.steps, alpha=options.alpha, **given)
    radii = [Radius(eps=each["eps"], steps=each["steps"], alpha=each["alpha"]) for each in entries]
    multi = [
        replace(radius, steps=each.get("multi_steps", radius.steps), alpha=each.get("multi_alpha", radius.alpha))
        for radius, each in zip(radii, entries, strict=True)
    ]
    for radius in radii + multi:
        check_ascent(
            norm=options.norm,
            rule=options.rule,
            restarts=options.restarts,
            random_start=options.random_start,
            **asdict(radius),
        )
    check_targets(options.targets)
    return radii, multi


def stored(options: Options, networks: list[nn.Module]) -> Store:
    """Where finished parts of this evaluation, and of no other, are kept."""
    files = [options.classifier, options.rival, *detector_files(options.detectors), options.data]
    own = ("attacks.base", "attacks.detection", "attacks.objectives", "stages.defend_detectors")
    return Store.of(identity(options, files, [*SOURCES, *own, *modules_of(networks)]))


def attack_of(name: str, classifier: nn.Module, bank: Detectors, radius: Radius, options: Options) -> DetectionAttack:
    """The attack called `name` at a radius."""
    from robustgen.attacks.detection import DetectionAttack

    return DetectionAttack(
        name,
        classifier,
        bank,
        norm=options.norm,
        eps=radius.eps,
        alpha=radius.alpha,
        steps=radius.steps,
        rule=options.rule,
        restarts=options.restarts,
        random_start=options.random_start,
        targets=options.targets,
        seed=options.seed,
    )


def natural(classifier: nn.Module, bank: Detectors, images: ImageSet, options: Options) -> dict[str, np.ndarray]:
    """The logits of the natural test images and of all validation images, and the labels of the latter."""
    validation = load_split(options.data, "validation")
    networks = {"classifier": classifier, "detector": bank}
    sets = {"natural": images, "validation": validation}
    found = {
        f"{which}_{who}": logits_of(network, each.images, options.batch, f"logits of the {who}")
        for (which, each), (who, network) in product(sets.items(), networks.items())
    }
    return {**found, "validation_labels": validation.labels.numpy()}


def attacked(
    attacks: list[DetectionAttack],
    classifier: nn.Module,
    bank: Detectors,
    images: ImageSet,
    options: Options,
    store: Store,
) -> np.ndarray:
    """float32 (G, N, 2K): z_f, then z_H, of the images that each attack makes. What `store` holds is not redone."""
    parts: list[list[np.ndarray]] = [[] for _ in attacks]
    work = list(product(range(len(attacks)), range(0, len(images), options.batch)))
    for number, first in progress(work, total=len(work), label=options.out.stem):
        compute = partial(logits_under, attacks[number], classifier, bank, images, slice(first, first + options.batch))
        parts[number].append(store.kept(f"{number}-{first}", compute))
    return np.stack([np.concatenate(each) for each in parts])


def logits_under(
    attack: DetectionAttack, classifier: nn.Module, bank: Detectors, images: ImageSet, rows: slice
) -> np.ndarray:
    """float32 (M, 2K): z_f, then z_H, of the adversarial images of `rows`."""
    device = next(bank.parameters()).device
    x, y, indices = images.images[rows], images.labels[rows], images.indices[rows].tolist()
    changed = attack(x.to(device), y.to(device), indices)
    what = "logits of the {} under attack"
    outputs = [
        logits_of(network, changed, len(changed), what.format(who))
        for who, network in (("classifier", classifier), ("detector", bank))
    ]
    return np.concatenate(outputs, axis=1)


def rivalled(
    rival: nn.Module, images: ImageSet, radii: list[Radius], options: Options, store: Store
) -> tuple[np.ndarray, np.ndarray]:
    """Which images the rival has right, bool (N,), and which it has right under attack too, bool (E, N)."""
    predicted = logits_of(rival, images.images, options.batch, "logits of the rival").argmax(1)
    right = predicted == images.labels.numpy()
    robust = np.stack([right for _ in radii])
    work = list(product(enumerate(radii), RIVAL_LOSSES, range(0, len(images), options.batch)))
    for (number, radius), loss, first in progress(work, total=len(work), label=f"{options.out.stem}, rival"):
        rows = slice(first, first + options.batch)
        compute = partial(withstood, rival, images, rows, loss, radius, options)
        robust[number, rows] &= store.kept(f"rival-{number}-{loss}-{first}", compute)
    return right, robust


def withstood(
    rival: nn.Module, images: ImageSet, rows: slice, loss: str, radius: Radius, options: Options
) -> np.ndarray:
    """Which images of `rows` the rival has right at the last iterate of each restart's climb of `loss`, bool (M,)."""
    import torch

    from robustgen.attacks.first_order import climb
    from robustgen.attacks.objectives import LOSSES
    from robustgen.replicates import in_company
    from robustgen.seeding import ImageStreams, derive

    device = next(rival.parameters()).device
    x, y = images.images[rows].to(device), images.labels[rows].to(device)
    ball = ball_of(options.norm, radius.eps)
    streams = ImageStreams(derive(options.seed, "rival", loss), images.indices[rows].tolist())
    right = torch.ones(len(x), dtype=torch.bool, device=device)

    def value(changed: Tensor) -> Tensor:
        return LOSSES[loss](in_company(rival, changed), y)

    for _ in range(options.restarts):
        start = ball.offset(x, streams) if options.random_start else None
        changed = climb(value, x, ball=ball, alpha=radius.alpha, steps=radius.steps, rule=options.rule, start=start)
        with torch.no_grad():
            logits = in_company(rival, changed)
        check_logits(logits, "logits of the rival under attack")
        ball.check(changed, x)
        right &= logits.argmax(1) == y
    return right.cpu().numpy()
