"""The attacks on E-ABS and its rivals (Ju & Wagner 2020, Sec. 4.2): analysis by synthesis, and any other classifier.

Some climb within a given radius; the others search for the smallest change that is an error, and so serve all radii: an
image is broken at eps where that change is no longer than eps. All ask the network through `Following`. Where the paper
is silent: PGD raises the margin of the logits and keeps the best iterate, in steps of 2.5 eps / steps; an estimated
gradient has 100 queries a step; noise goes up to σ = 0.5 in steps of 0.005, along 10 draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgen.attacks import minimal
from robustgen.attacks.ball import Norm, ball_of, check_radius
from robustgen.attacks.first_order import better, climb_best
from robustgen.attacks.following import Following, Synthesis, Task
from robustgen.attacks.minimal import Nearest
from robustgen.attacks.objectives import margin
from robustgen.data.images import check_count, check_images, check_labels
from robustgen.errors import UserError
from robustgen.models import evaluating, frozen
from robustgen.options import Ratio
from robustgen.replicates import check_finite, in_company
from robustgen.seeding import ImageStreams, derive

STRETCHES = (1.0, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5)  # by which a change is lengthened until it is confirmed


@dataclass(frozen=True, kw_only=True)
class Details:
    """Options that only some attacks have."""

    step: Ratio = 2.5  # pgd, estimated: length of a step as a multiple of eps / steps; the paper does not say
    queries: int = 100  # estimated: logits asked for an estimate of the gradient
    delta: Ratio = 0.01  # estimated: length of a probe in each pixel, pixel units
    candidates: int = 10  # deepfool: likeliest classes, the image's own among them
    overshoot: Ratio = 0.02  # deepfool: by which part a step goes beyond the boundary
    init_eps: Ratio = 1.0  # ddn: radius at the start, pixel units
    gamma: Ratio = 0.05  # ddn: by which part the radius changes in a step
    searches: int = 5  # cw: values of the constant
    lr: Ratio = 0.01  # cw: Adam's learning rate
    c: Ratio = 0.001  # cw: the first constant
    directions: int = 10  # noise: draws, each of which is scaled
    sigma: Ratio = 0.5  # noise: the largest standard deviation, pixel units
    tries: int = 50  # boundary: random images among which one is sought to start from
    halvings: int = 10  # latent-descent: of the line from the error to the image

    def __post_init__(self) -> None:
        if min(self.searches, self.directions, self.tries) < 1 or self.candidates < 2 or self.halvings < 0:
            raise UserError(
                f"an attack needs searches, directions, tries >= 1, candidates >= 2, halvings >= 0, not {self}"
            )
        if self.queries < 2 or self.queries % 2 or not self.delta > 0:
            raise UserError(
                f"estimates need an even number of queries and delta > 0, not {self.queries}, {self.delta:g}"
            )
        positive = (self.step, self.init_eps, self.lr, self.c, self.sigma)
        if not min(positive) > 0 or not self.overshoot >= 0 or not 0 < self.gamma < 1:
            raise UserError(
                f"an attack needs step, init_eps, lr, c, sigma > 0, overshoot >= 0, 0 < gamma < 1, not {self}"
            )


@dataclass(frozen=True, kw_only=True)
class Options(Details):
    norm: Norm = "l2"
    eps: Ratio | None = None  # radius of pgd and estimated, pixel units; the other attacks have none
    steps: int | None = None  # of the attack, noise: values of σ; None: the number in ATTACKS
    seed: int = 0  # of the images' random streams, the attack's and the attacked inference's
    # analysis by synthesis as the attacker sees it
    follow: int = 5  # evaluations of the loss in a call that goes on from the call before; 0: full inference each time
    draws: int | None = 5  # samples of Q* that are averaged (EOT); None: as many as the defence averages
    runs: int = 1  # inferences of an image side by side whose logits are averaged (EOT)
    # pgd, estimated
    restarts: int = 20  # random starts (MNIST and Fashion MNIST: 5)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_radius(self.norm, self.eps or 0)
        if min(self.restarts, 1 if self.steps is None else self.steps) < 1:
            raise UserError(f"an attack needs steps and restarts >= 1, not {self.steps} and {self.restarts}")
        if self.follow < 0 or min(self.runs, 1 if self.draws is None else self.draws) < 1:
            raise UserError(
                f"an attacker needs follow >= 0, runs >= 1 and draws >= 1, not {self.follow}, {self.runs}, {self.draws}"
            )
        if not (self.eps or 0) >= 0:
            raise UserError(f"an attack needs eps >= 0, not {self.eps}")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an attack made of N images.

    adversarial (N, C, H, W) in [0, 1]: within a radius the best image found; of a search the nearest error, the image
    itself where none was found. distance (N,): its change in the norm, pixel units; infinite where a search found no
    error. broken_seen (N,) bool: whether the attacker saw an error; `confirmed` says which are errors.
    """

    adversarial: Tensor
    distance: Tensor
    broken_seen: Tensor


Climb = Callable[[Task, int, Options], tuple[Tensor, Tensor]]  # with the number of steps -> best images, margins (N,)
Search = Callable[[Nearest, int, Options], None]  # the same; the search holds what it finds


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What an attack is: a climb within a radius, or a search for the nearest error."""

    norms: tuple[Norm, ...]
    steps: int  # the paper's number; latent-descent: Schott et al.'s
    source: str
    gradient_free: bool = False
    climb: Climb | None = None
    search: Search | None = None

    @property
    def radius(self) -> bool:
        """Whether it needs eps, and must be run anew for another."""
        return self.climb is not None


def check_attack(name: str, norm: Norm) -> None:
    """Raise UserError for the name of no attack, and for a norm that it does not have."""
    if name not in ATTACKS:
        raise UserError(f"unknown attack {name!r}; known are {', '.join(ATTACKS)}")
    if norm not in ATTACKS[name].norms:
        raise UserError(f"{name} is an attack in {' and '.join(ATTACKS[name].norms)}, not {norm}")


def run_attack(
    name: str,
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    indices: Sequence[int],
    options: Options,
    *,
    wrong: Tensor | None = None,
    starts: Tensor | None = None,
) -> Outcome:
    """What the attack called `name` makes of images x (N, C, H, W) in [0, 1], labels y (N,), at `indices` in their set.

    `network` is a `Synthesis` or any classifier; its mode and weights stay as they are. Images that are errors already
    are not attacked: those of `wrong` (N,) bool, or where that is None those that `confirmed` names; nor is any at
    eps = 0. `starts` (J, C, H, W): images that the boundary attack may start from, test images of all classes for
    instance; without them it starts at uniform noise.
    Raises UserError for options that make no attack, images outside [0, 1], labels that are none, labels or indices
    that are not as many as the images, and logits that are not finite.
    """
    kind = _kind(name, options)
    check_images(x)
    check_labels(y, len(x))
    check_count(len(x), len(indices), "index", "indices")
    x, y = x.detach(), y.to(x.device).long()
    if wrong is None:
        wrong = confirmed(network, x, y, indices, runs=options.runs, seed=derive(options.seed, "natural"))
    following, streams = _following(name, network, indices, options), ImageStreams(derive(options.seed, name), indices)
    ball = ball_of(options.norm, math.inf if options.eps is None else options.eps)
    best, seen, distance = x.clone(), wrong.clone(), torch.zeros_like(x[:, 0, 0, 0])
    rows = (~wrong).nonzero().flatten()
    if ball.eps > 0 and len(rows):
        task = Task(following=following, x=x, y=y, ball=ball, streams=streams, starts=starts).part(rows)
        with evaluating(network), frozen(network):
            best[rows], distance[rows], seen[rows] = _attacked(kind, task, options.steps or kind.steps, options)
    check_images(best)
    ball.check(best, x)
    return Outcome(adversarial=best, distance=distance, broken_seen=seen)


def _kind(name: str, options: Options) -> Kind:
    """The attack called `name`; UserError where `options` do not go with it."""
    check_attack(name, options.norm)
    kind = ATTACKS[name]
    if kind.radius == (options.eps is None):
        raise UserError(f"{name} needs eps" if kind.radius else f"{name} finds the smallest change; leave eps out")
    return kind


def _following(name: str, network: nn.Module, indices: Sequence[int], options: Options) -> Following:
    """The network as the attacker asks it."""
    seed = derive(options.seed, name, "inference")
    return Following(network, indices, iterations=options.follow, draws=options.draws, runs=options.runs, seed=seed)


def _attacked(kind: Kind, task: Task, steps: int, options: Options) -> tuple[Tensor, Tensor, Tensor]:
    """Adversarial images, distances and which of them were seen to be errors."""
    if kind.climb is not None:
        best, score = kind.climb(task, steps, options)
        return best, task.ball.distance(best, task.x), score > 0
    assert kind.search is not None
    nearest = Nearest(task)
    kind.search(nearest, steps, options)
    return nearest.best, nearest.distance, nearest.distance.isfinite()


def pgd(task: Task, steps: int, options: Options) -> tuple[Tensor, Tensor]:
    """Projected gradient ascent of the margin: of each image the best iterate of all starts, and its margin (N,)."""

    def objective(images: Tensor) -> tuple[Tensor, Tensor]:
        value = margin(task.following(images), task.y)
        return value, value

    return _restarted(objective, task, steps, options)


def estimated(task: Task, steps: int, options: Options) -> tuple[Tensor, Tensor]:
    """As `pgd`, along gradients estimated from `queries` margins at x ± δ v, v random signs (Uesato et al. 2018)."""

    @torch.no_grad()
    def asked(images: Tensor) -> Tensor:
        return margin(task.following(images.clamp(0, 1)), task.y)

    def estimate(images: Tensor) -> Tensor:
        gradient = torch.zeros_like(images)
        for _ in range(options.queries // 2):
            v = (task.streams.uniform(images.shape[1:], images.device) < 0.5).to(images) * 2 - 1
            slope = (asked(images + options.delta * v) - asked(images - options.delta * v)) / (2 * options.delta)
            gradient += slope.view(-1, 1, 1, 1) * v / (options.queries // 2)
        return gradient

    def objective(images: Tensor) -> tuple[Tensor, Tensor]:
        score = asked(images)
        if not images.requires_grad:
            return score, score
        return (images * estimate(images.detach())).flatten(1).sum(1), score

    return _restarted(objective, task, steps, options)


def _restarted(
    objective: Callable[[Tensor], tuple[Tensor, Tensor]], task: Task, steps: int, options: Options
) -> tuple[Tensor, Tensor]:
    """The best of climbs from `restarts` random starts; latents are inferred fully at each start."""
    x, ball = task.x, task.ball
    alpha = options.step * ball.eps / steps
    best, top = x, torch.full_like(x[:, 0, 0, 0], -math.inf)
    for number in range(options.restarts):
        task.following.renew("restart", number)
        start = ball.offset(x, task.streams).to(x)
        best, top = better(best, top, *climb_best(objective, x, ball=ball, alpha=alpha, steps=steps, start=start))
    return best, top


@torch.no_grad()
def fresh_logits(network: nn.Module, images: Tensor, indices: Sequence[int], *, runs: int = 1, seed: int = 0) -> Tensor:
    """Logits (N, K) of images (N, C, H, W) at `indices` in their set.

    A `Synthesis` infers from nothing, `runs` times, averaged, with random streams named by `seed` that no attack has.
    Raises UserError where logits are not finite.
    """
    with evaluating(network):
        if isinstance(network, Synthesis):
            streams = ImageStreams(derive(seed, "confirmed"), indices, images.device)
            logits = network.logits(images, network.infer(images, streams, runs=runs))
        else:
            logits = in_company(network, images)
    check_finite(logits, "logits", "; train the attacked network again")
    return logits


def confirmed(
    network: nn.Module, adversarial: Tensor, y: Tensor, indices: Sequence[int], *, runs: int = 1, seed: int = 0
) -> Tensor:
    """(N,) bool: which images (N, C, H, W) the network takes for another class than y (N,), by `fresh_logits`.

    Raises UserError also where y are not labels of these images and of the network's classes.
    """
    logits = fresh_logits(network, adversarial, indices, runs=runs, seed=seed)
    check_labels(y, len(adversarial), logits.shape[1])
    return logits.argmax(1) != y.to(logits.device)


def settled(
    network: nn.Module,
    outcome: Outcome,
    x: Tensor,
    y: Tensor,
    indices: Sequence[int],
    *,
    norm: Norm,
    runs: int = 1,
    seed: int = 0,
) -> Outcome:
    """What a search found, as far as it is confirmed: each change as long as it was found or, where that is no error by
    fresh inference, up to half as long again.

    The nearest of the many images that a search asked a random classifier about is often one where it erred by chance.
    """
    ball = ball_of(norm, math.inf)
    best, distance = x.clone(), torch.full_like(outcome.distance, math.inf)
    rows = outcome.broken_seen.nonzero().flatten()
    for stretch in STRETCHES:
        if not len(rows):
            break
        images = torch.lerp(x[rows], outcome.adversarial[rows], stretch).clamp(0, 1)
        wrong = confirmed(network, images, y[rows], [int(indices[row]) for row in rows.tolist()], runs=runs, seed=seed)
        best[rows[wrong]], distance[rows[wrong]] = images[wrong], ball.distance(images, x[rows])[wrong]
        rows = rows[~wrong]
    return Outcome(adversarial=best, distance=distance, broken_seen=distance.isfinite())


BOTH: tuple[Norm, ...] = ("linf", "l2")

ATTACKS: dict[str, Kind] = {
    "pgd": Kind(norms=BOTH, steps=80, climb=pgd, source="Madry et al. 2018, arXiv 1706.06083"),
    "deepfool": Kind(
        norms=BOTH, steps=100, search=minimal.deepfool, source="Moosavi-Dezfooli et al. 2016, arXiv 1511.04599; foolbox"
    ),
    "ddn": Kind(norms=("l2",), steps=80, search=minimal.ddn, source="Rony et al. 2019, arXiv 1811.09600; foolbox"),
    "cw": Kind(norms=("l2",), steps=100, search=minimal.cw, source="Carlini & Wagner 2017, arXiv 1608.04644; foolbox"),
    "noise": Kind(norms=BOTH, steps=100, search=minimal.noise, gradient_free=True, source="Ju & Wagner 2020, Sec. 4.2"),
    "boundary": Kind(
        norms=("l2",),
        steps=100_000,
        search=minimal.boundary,
        gradient_free=True,
        source="Brendel et al. 2018, arXiv 1712.04248; foolbox",
    ),
    "estimated": Kind(
        norms=BOTH, steps=50, climb=estimated, gradient_free=True, source="Uesato et al. 2018, arXiv 1802.05666"
    ),
    "latent-descent": Kind(
        norms=BOTH,
        steps=50,
        search=minimal.latent_descent,
        source="Schott et al. 2018, arXiv 1805.09190, and their code",
    ),
}
