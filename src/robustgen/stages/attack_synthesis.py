"""Attack analysis by synthesis, or any classifier, and confirm by fresh inference (Ju & Wagner 2020, Sec. 4.2)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from robustgen.attacks import synthesis
from robustgen.attacks.ball import Norm
from robustgen.data import load_split
from robustgen.defenses import e_abs
from robustgen.errors import UserError
from robustgen.evaluation.e_abs_bound import Bounds, Reason
from robustgen.io import load_weights, save_arrays
from robustgen.options import Ratio
from robustgen.progress import progress
from robustgen.seeding import ImageStreams, derive
from robustgen.stages.classifiers import SOURCES, described, load_classifier, together
from robustgen.stages.compute import Compute, identity, prepare, sources
from robustgen.stages.evaluation import Store, shard
from robustgen.stages.synthesis_points import Found, Point, Run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustgen.data import ImageSet

REASONS = np.array(get_args(Reason))
NO_ATTACK = Point(attack="pgd", norm="linf", eps=0, steps=0, restarts=1, draws=1)


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How analysis by synthesis infers latents; β and the cost are those that it was trained with."""

    variational: bool = True  # V: mean and variance of Q(Z) are optimised, z is drawn from it; else z itself
    candidates: int = 8000  # random starts, from N(0, I)
    encoder: bool = True  # whether the encoder's output is one more
    compared: int = 4  # samples by whose mean loss it and the best random start are compared, where variational
    iterations: int = 50  # evaluations of the loss; all but the last are followed by an update
    lr: Ratio = 0.05  # Adam's learning rate (Schott et al.)
    draws: int = 1  # samples of the optimal Q(Z) whose losses are averaged, where variational
    cache: float = 4.0  # gigabytes of reconstructed candidates that are kept; more are made anew in each call


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    model: Path  # autoencoders of all classes, or a classifier, safetensors
    arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # outcomes to write, npz
    offset: int = 0  # first test image of this shard
    images: int  # test images of this shard
    inference: Inference = field(default_factory=Inference)  # of autoencoders; a classifier has none
    # A grid point has an entry in each of the lists that follow; a list of one value serves all points. pgd and
    # estimated (along estimated gradients) climb within eps; deepfool, ddn, cw, noise, boundary and latent-descent
    # search for the nearest error, and points that differ in eps share one search; none: natural images alone
    attack: tuple[str, ...] = ()
    norm: tuple[Norm, ...] = ()  # deepfool, noise and latent-descent have both; ddn, cw and boundary have l2
    # radius at which the point is judged, pixel units; 0 is a control. The tables are of the first of each norm
    eps: tuple[Ratio, ...] = ()
    steps: tuple[int, ...] = ()  # of the attack, noise: values of σ; none: the paper's of each attack
    restarts: tuple[int, ...] = (1,)  # random starts of pgd and estimated; the other attacks have one
    draws: tuple[int, ...] = (5,)  # samples of Q* that the attacker averages (EOT), where inference is variational
    follow: int = 5  # evaluations of the loss when the attacker goes on from known latents; 0: full inference each time
    details: synthesis.Details = field(default_factory=synthesis.Details)  # of particular attacks
    # boundary: the first validation images, among which it seeks its start ("a random sample", Sec. 4.2); 0: noise
    starts: int = 100
    # inferences that are averaged when natural images are judged and errors confirmed; the attacker goes by one
    runs: int = 1
    shown: int = 10  # first images of the shard, of those that are right, whose adversarial images are kept
    bound: bool = False  # whether ε* of every image is estimated (Eq. 7); autoencoders only
    batch: int = 64  # images attacked together; they set the memory in use
    seed: int = 0  # of the per-image random streams, and of the candidates


def run(options: Options) -> None:
    """Write the file `options.out`: G grid points, N test images, K classes, S images shown, K' classes present.

    attack, norm, eps, steps, restarts, draws (G,), as used: a search has one restart, an inference that draws nothing
    one draw; natural_correct bool (N,) and natural_logits float32 (N, K) by one inference; control_correct bool (N,),
    the same by another. seen bool (G, N), where the attacker saw an error within eps; chosen bool (G, N), where the
    inference behind control_correct found one, and an image to show for it; robust bool (G, N), where the inference
    behind natural_correct has the natural image right and, once, that image (of what was tried in vain the first);
    distance float32 (G, N), length of its change in pixel units, infinite where a search found no error, and 0 where
    the natural image is one; shown int64 (S,), rows; shown_images float32 (S, C, H, W), shown_adversarial
    (G, S, C, H, W), of searches the nearest error found whatever eps, or the image; shown_predicted int64 (G, S), by
    the inference that judges. Of autoencoders: example_rows int64 (K',), the first image of each class; example_images
    float32 (K', C, H, W); example_reconstructions (K', K, C, H, W) and example_losses (K', K), l_k. With `bound`:
    bound float64 (N,), ε*, NaN where misclassified, and bound_reason (N,), why there is none. labels, indices int64
    (N,), indices being rows of the test split; config, the options as JSON with `trained`, how the model was, and its
    `arch`. Finished parts survive an interruption, and no number depends on the batch or the shard, but the last
    digit of the boundary attack's, and DeepFool's on random inference, which asks on while others of its batch stand.
    """
    points = check(options)
    device = prepare(options)
    images = shard(options.data, options.offset, options.images)
    network, header = loaded(options, images, device)
    points = [point.used(random=randomised(network)) for point in points]
    store = stored(options, network)
    found: dict[str, np.ndarray] = {}
    if isinstance(network, e_abs.AnalysisBySynthesis):
        if options.bound:  # first: its candidates leave memory before others are made
            found |= bounds(network, images, options, store)
        found |= examples(network, images, options)
    found |= natural(network, images, options, store)
    shown = np.flatnonzero(found["natural_correct"])[: options.shown]
    target = Target(
        network=network, images=images, right=found["natural_correct"], shown=shown, starts=boundary_starts(options)
    )
    found |= attacked(target, points, options, store)
    found |= {"shown": shown, "shown_images": images.images.numpy()[shown]}
    found["shown_predicted"] = predicted(target, found["shown_adversarial"], options)
    found |= {f.name: np.array([getattr(point, f.name) for point in points]) for f in fields(Point)}
    facts = {"trained": header.get("training"), "arch": header["architecture"], "parameters": header["parameters"]}
    found |= described(options, images.labels, options.offset, **facts)
    save_arrays(options.out, found)
    store.clear()


def check(options: Options) -> list[Point]:
    """The grid points; UserError for options that make no evaluation."""
    if min(options.batch, options.runs) < 1 or min(options.shown, options.starts) < 0:
        raise UserError(
            f"batch is {options.batch}, runs {options.runs}, shown {options.shown} and starts {options.starts}; "
            "give at least 1 image a batch, 1 run, 0 or more shown and starts"
        )
    if not (options.attack or options.norm or options.eps):
        return []
    lists = {name: getattr(options, name) for name in ("attack", "norm", "eps", "restarts", "draws")}
    if options.steps:
        lists["steps"] = options.steps
    points = [Point.of(entry) for entry in together(**lists)]
    for point in points:
        attack_options(point.run, options)
    return points


def loaded(options: Options, images: ImageSet, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network that is attacked, on `device`, and the header of its file.

    Raises UserError where the file holds no classifier, or one for other images; where an autoencoder's file does not
    say how it was trained; where a classifier is asked for what needs latents.
    """
    model = load_classifier(options.model, device, options.arch, images, options.data)
    header = load_weights(options.model)[1]
    if header["architecture"] != "aae":
        if options.bound or "latent-descent" in options.attack:
            what = "ε* is a bound of" if options.bound else "latent-descent is an attack on"
            raise UserError(
                f"{what} autoencoders, but {options.model} holds a {header['architecture']}; leave it out for this one"
            )
        return model, header
    recipe = header.get("training") or {}
    if not {"beta", "cost"} <= recipe.keys():
        raise UserError(
            f"{options.model} does not say with which beta and cost it was trained; make it with train-autoencoder"
        )
    given = {**asdict(options.inference), "beta": recipe["beta"], "cost": recipe["cost"]}
    return e_abs.AnalysisBySynthesis(model, e_abs.Options(**given, seed=options.seed, batch=options.batch)), header


def stored(options: Options, network: nn.Module) -> Store:
    """Where finished parts of this evaluation, and of no other, are kept."""
    attacks = ("attacks.following", "attacks.minimal", "attacks.objectives", "attacks.synthesis")
    own = ("evaluation.e_abs_bound", "models.folded", "stages.attack_synthesis", "stages.synthesis_points")
    modules = [*SOURCES, *attacks, *own, *sources(network)]
    return Store.of(identity(options, [options.model, options.data], modules))


def randomised(network: nn.Module) -> bool:
    """Whether two predictions for an image may differ."""
    return bool(getattr(network, "random", False))


def pieces(count: int, batch: int) -> list[slice]:
    """Slices of at most `batch` rows."""
    return [slice(first, min(first + batch, count)) for first in range(0, count, batch)]


def natural(network: nn.Module, images: ImageSet, options: Options, store: Store) -> dict[str, np.ndarray]:
    """natural_logits, natural_correct and control_correct of the result."""
    names = ("natural", "control") if randomised(network) else ("natural",)
    logits: dict[str, list[np.ndarray]] = {name: [] for name in names}
    work = list(product(names, pieces(len(images), options.batch)))
    for name, rows in progress(work, total=len(work), label=f"{options.out.stem}, natural images"):
        compute = partial(fresh, network, images.images[rows], images.indices[rows], name, options)
        logits[name].append(store.kept(f"{name}-{rows.start}", compute))
    right = {name: np.concatenate(each).argmax(1) == images.labels.numpy() for name, each in logits.items()}
    return {
        "natural_logits": np.concatenate(logits["natural"]),
        "natural_correct": right["natural"],
        "control_correct": right[names[-1]],
    }


def fresh(network: nn.Module, images: Tensor, indices: Tensor, name: str, options: Options) -> np.ndarray:
    """Logits float32 (M, K) of images (M, C, H, W) at `indices`; `name` says by which random streams: natural,
    those that judge, or control, those that look for errors.
    """
    x = images.to(options.device)
    seed = derive(options.seed, name)
    logits = synthesis.fresh_logits(network, x, indices.tolist(), runs=options.runs, seed=seed)
    return logits.cpu().numpy()


def bounds(
    network: e_abs.AnalysisBySynthesis, images: ImageSet, options: Options, store: Store
) -> dict[str, np.ndarray]:
    """bound and bound_reason of the result."""
    estimate = Bounds(network.model, network.options)

    def compute(rows: slice) -> dict[str, np.ndarray]:
        x, y = images.images[rows].to(options.device), images.labels[rows].to(options.device)
        found = estimate(x, y)
        return {"bound": found.eps, "bound_reason": np.array(found.reasons, REASONS.dtype)}

    work = pieces(len(images), options.batch)
    label = f"{options.out.stem}, bound"
    parts = [
        store.all_kept(f"bound-{rows.start}", partial(compute, rows))
        for rows in progress(work, total=len(work), label=label)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def examples(network: e_abs.AnalysisBySynthesis, images: ImageSet, options: Options) -> dict[str, np.ndarray]:
    """The example_... of the result: what the decoders make of the first image of each class that is present."""
    _, rows = np.unique(images.labels.numpy(), return_index=True)
    x, indices = images.images[rows].to(options.device), images.indices[rows].tolist()
    inferred = network.infer(x, ImageStreams(derive(options.seed, "examples"), indices, x.device))
    return {
        "example_rows": rows,
        "example_images": images.images[rows].numpy(),
        "example_reconstructions": inferred.reconstruction.cpu().numpy(),
        "example_losses": inferred.losses.cpu().numpy(),
    }


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is attacked."""

    network: nn.Module
    images: ImageSet  # N images
    right: np.ndarray  # bool (N,): those that are attacked; the others are errors already
    shown: np.ndarray  # int64 (S,): rows of those whose adversarial images are kept
    starts: Tensor | None  # (J, C, H, W): images that the boundary attack may start from; None: noise

    def found(self, restarts: int) -> Found:
        """What a run has found at its outset."""
        return Found(self.right, self.shown, self.images.images.numpy()[self.shown], restarts)


def attacked(target: Target, points: list[Point], options: Options, store: Store) -> dict[str, np.ndarray]:
    """robust, seen, distance and shown_adversarial of the result.

    Points that share a run share its work; what `store` holds is not redone.
    """
    starts: dict[Run, int] = {}
    for point in points:
        starts[point.run] = max(point.starts, starts.get(point.run, 1))
    runs = {run: target.found(restarts) for run, restarts in starts.items()}
    batches = range(0, len(target.images), options.batch)
    work = [(run, *each) for run, restarts in starts.items() for each in product(range(restarts), batches)]
    for run, restart, first in progress(work, total=len(work), label=options.out.stem):
        rows = runs[run].standing(restart)[first : first + options.batch]
        if len(rows):
            compute = partial(outcome, target, rows, run, restart, options)
            runs[run].take(restart, rows, store.all_kept(f"{run}-{restart}-{first}", compute))
    # one more, for the shapes where there is none
    each = [*(runs[point.run].at(point) for point in points), target.found(1).at(NO_ATTACK)]
    return {name: np.stack([one[name] for one in each])[:-1] for name in each[0]}


def boundary_starts(options: Options) -> Tensor | None:
    """The images that the boundary attack may start from; None for noise."""
    if not options.starts or "boundary" not in options.attack:
        return None
    return load_split(options.data, "validation", limit=options.starts).images


def attack_options(run: Run, options: Options, restart: int = 0) -> synthesis.Options:
    """Of one restart of a run."""
    return synthesis.Options(
        **asdict(options.details),
        norm=run.norm,
        eps=run.eps,
        steps=run.steps,
        seed=derive(options.seed, "restart", restart),
        follow=options.follow,
        draws=run.draws,
        restarts=1,
    )


def outcome(target: Target, rows: np.ndarray, run: Run, restart: int, options: Options) -> dict[str, np.ndarray]:
    """What one restart makes of the images at `rows` (M,), as `Found.take` has it; distance and seen are float32.

    By fresh inference an error is looked for, and what was found is judged by another one, the one that judged the
    images themselves: of many looks at a random network one errs.
    """
    network, images = target.network, target.images
    x, y = images.images[rows].to(options.device), images.labels[rows].to(options.device)
    indices = images.indices[rows].tolist()
    given = attack_options(run, options, restart)
    wrong = torch.zeros_like(y, dtype=torch.bool)
    made = synthesis.run_attack(run.attack, network, x, y, indices, given, wrong=wrong, starts=target.starts)
    look: Any = {"runs": options.runs, "seed": derive(options.seed, "control")}
    if run.climb:
        found = replace(made, broken_seen=synthesis.confirmed(network, made.adversarial, y, indices, **look))
    else:
        found = synthesis.settled(network, made, x, y, indices, norm=run.norm, **look)
    broken = found.broken_seen
    if randomised(network):
        judge = look | {"seed": derive(options.seed, "natural")}
        broken = synthesis.confirmed(network, found.adversarial, y, indices, **judge)
    seen = torch.where(made.broken_seen, made.distance, math.inf)
    return {
        "distance": found.distance.to(x).cpu().numpy(),
        "seen": seen.to(x).cpu().numpy(),
        "chosen": found.broken_seen.cpu().numpy(),
        "broken": broken.cpu().numpy(),
        "adversarial": found.adversarial.cpu().numpy()[np.isin(rows, target.shown)],
    }


def predicted(target: Target, adversarial: np.ndarray, options: Options) -> np.ndarray:
    """int64 (G, S): the classes of images (G, S, C, H, W) by the inference that judged errors."""
    indices = target.images.indices[target.shown]
    found = [
        fresh(target.network, each[rows], indices[rows], "natural", options).argmax(1)
        for each, rows in product(torch.from_numpy(adversarial), pieces(len(indices), options.batch))
    ]
    return np.concatenate([*found, np.empty(0, np.int64)]).reshape(adversarial.shape[:2])
