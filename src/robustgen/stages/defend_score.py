"""Attack a defence that purifies by a score, by any of the attacks on it, over a grid; write what broke when."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robustgen import models
from robustgen.attacks import registry
from robustgen.defenses import adp
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.options import Ratio, recorded
from robustgen.stages.compute import Compute, check_data, identity, prepare
from robustgen.stages.evaluation import Store, arrays, evaluate_grid, shard
from robustgen.stages.score_models import load_score, resolved

if TYPE_CHECKING:
    from torch import nn

    from robustgen.attacks.eot import EotAttack
    from robustgen.data import ImageSet

SOURCES = (  # modules that the outcome depends on, beside the attacks' and the networks' own
    *("defenses.adp", "defenses.identity", "sampling.langevin", "sampling.purification"),
    *("models.energy", "models.wide_resnet", "replicates", "seeding", "stages.score_models"),
)


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    classifier: Path  # the defended classifier g, safetensors
    classifier_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    score: Path | None = None  # score network or energy-based model that purifies; None: the classifier alone
    score_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them; an unset defense.sigma is found on its training images
    out: Path  # outcomes to write, npz
    offset: int = 0  # first test image of this shard
    images: int  # test images of this shard
    defense: adp.Options = field(default_factory=adp.Options)
    # in turn: classifier (PGD that ignores the defence), bpda, joint-score, joint-full, spsa, full (gradient through
    # the unrolled purification), apgd (the same gradient, Croce & Hein's steps)
    attacks: tuple[str, ...]
    purification_steps: tuple[int, ...] = ()  # T, in turn; none: defense.steps
    linf: tuple[Ratio, ...] = ()  # radii of L∞ attacks, pixel units; 0 is the control that should break nothing
    l2: tuple[Ratio, ...] = ()  # radii of L2 attacks, pixel units, length of the whole change
    eot: tuple[int, ...]  # in turn: draws behind a gradient and a screen (the paper's 15); classifier ignores them
    # fresh draws that confirm a break and judge the natural image; unset: S, the defence's own (defense.draws), so that
    # the verdict is the defence's prediction; more make it less random
    verify: int | None = None
    steps: int = 40  # attack updates (Table 3: 40 and 100)
    step: Ratio = 0.25  # attack step size α as a fraction of the radius (2/255 of 8/255); apgd has its own
    # bpda, full and joint: the gradient of the draws' mean loss (the paper's), of the loss of their combined output
    # (Hill et al. 2021), or a vote of the draws' signs (the released code)
    expectation: Literal["combined", "mean", "vote"] = "mean"
    queries: int = 1280  # spsa: losses asked for in an update
    query_draws: int = 1  # spsa: draws behind one of them
    spsa_delta: Ratio = 0.01  # spsa: size of the probing perturbation, pixel units
    weight: float = 0.5  # joint: ε, the share of the purification's direction; Table 1 takes 0.5
    # joint: where the loss's gradient is taken, at purified draws as BPDA does, or at the image, as Table 1 prints it
    at: Literal["purified", "image"] = "purified"
    loss: Literal["ce", "cw", "dlr"] = "ce"  # apgd and spsa: cross-entropy, margin of logits, or that over their range
    restarts: int = 1  # random starts
    batch: int = 64  # images attacked together; with their draws they set the memory in use
    seed: int = 0  # of the per-image random streams


@dataclass(frozen=True, kw_only=True)
class Point:
    """A grid point; fields as the arrays of the result."""

    attack: str
    purification_steps: int
    norm: str
    eps: float
    eot: int  # 1 where the defence draws nothing: all draws are equal

    def __str__(self) -> str:
        return f"{self.attack}, T {self.purification_steps}, {self.norm} {self.eps:g}, EOT {self.eot}"


def grid(options: Options) -> list[Point]:
    """The product of attacks, purification steps, radii (L∞, then L2) and draws; UserError where it is empty."""
    radii = [("linf", float(eps)) for eps in options.linf] + [("l2", float(eps)) for eps in options.l2]
    default = options.defense.steps if options.score else 0
    points = [
        Point(attack=attack, purification_steps=t, norm=norm, eps=eps, eot=eot)
        for attack, t, (norm, eps), eot in product(
            options.attacks, options.purification_steps or (default,), radii, options.eot
        )
    ]
    if not points:
        raise UserError("the grid is empty; give at least one value to attacks, eot, and linf or l2")
    return points


def run(options: Options) -> None:
    device = prepare(options)
    points = check(options)
    images = shard(options.data, options.offset, options.images)
    setting = Setting(options, device, images)
    points = [replace(point, eot=setting.draws(point.eot)) for point in points]
    attacks = [setting.attack(point) for point in points]  # every error of theirs before the first hour of work
    store = Store.of(identity(options, setting.files, [*SOURCES, *setting.modules]))
    outcomes = evaluate_grid(
        points, attacks, images, store, label=options.out.stem, defense=lambda point: point.purification_steps
    )
    config = {**recorded(options), **setting.facts()}
    found = arrays(points, images, outcomes, options.offset, config)
    save_arrays(options.out, {**found, "sigma": np.array(setting.sigma)})
    store.clear()


def check(options: Options) -> list[Point]:
    """The grid; UserError for options that make no evaluation."""
    points = grid(options)
    for name in options.attacks:
        registry.entry(name)
    verify = drawn(options)
    if min(*options.eot, verify, options.batch) < 1:
        raise UserError(f"eot is {options.eot}, verify {verify}, batch {options.batch}; give at least 1")
    if min(point.purification_steps for point in points) < 0:
        raise UserError(f"purification_steps are {options.purification_steps}; give steps >= 0")
    if options.score is None:
        joint = [name for name in options.attacks if name.startswith("joint")]
        if joint:
            raise UserError(f"{', '.join(joint)} needs the model that purifies; give score")
        if any(point.purification_steps for point in points):
            raise UserError("purification steps need a model to follow; give score, or 0 steps")
    return points


def drawn(options: Options) -> int:
    """How many fresh draws judge an image, where draws may differ."""
    return options.defense.draws if options.verify is None else options.verify


class Setting:
    """The networks, checked against the images, the defences they make, and the attacks on these."""

    def __init__(self, options: Options, device: str, images: ImageSet) -> None:
        from robustgen.defenses.identity import Undefended

        self.options = options
        self.classifier = models.load(options.classifier, device, options.classifier_arch)
        check_data(self.classifier, images, options.data)
        self.score: nn.Module | None = None
        self.defense = replace(options.defense, sigma=0.0, updates="deterministic")  # of the classifier alone
        self.defenses: dict[int, nn.Module] = {0: Undefended(self.classifier)}
        if options.score is not None:
            self.score = load_score(options.score, device, options.score_arch, images, options.data)
            self.defense = resolved(options.defense, options.data)
            self.defenses.clear()

    @property
    def sigma(self) -> float:
        """σ of the injected noise, pixel units."""
        assert self.defense.sigma is not None
        return float(self.defense.sigma)

    @property
    def files(self) -> list[Path]:
        """Every file that the outcome depends on."""
        o = self.options
        return [path for path in (o.classifier, o.score, o.data) if path is not None]

    @property
    def modules(self) -> list[str]:
        """The modules of the attacks and the networks."""
        networks = [network for network in (self.classifier, self.score) if network is not None]
        own = [type(network).__module__.removeprefix("robustgen.") for network in networks]
        return [*registry.modules(self.options.attacks), *own]

    def draws(self, count: int) -> int:
        """How many draws are computed where `count` are asked for: those of a deterministic defence are all equal."""
        return count if self.defense.random else 1

    def attack(self, point: Point) -> EotAttack:
        """The attack of a grid point."""
        o = self.options
        shared = {
            "steps": o.steps,
            "step": o.step,
            "draws": point.eot,
            "verify": self.draws(drawn(o)),
            "restarts": o.restarts,
            "expectation": o.expectation,
            "queries": o.queries,
            "query_draws": self.draws(o.query_draws),
            "delta": o.spsa_delta,
            "weight": o.weight,
            "at": o.at,
            "loss": o.loss,
            "seed": o.seed,
        }
        defense = self.purified(point.purification_steps)
        return registry.build_attack(
            point.attack, defense, shared=shared, batch=o.batch, norm=point.norm, eps=point.eps
        )

    def purified(self, steps: int) -> nn.Module:
        """The defence with T purification steps; one for each T."""
        if steps not in self.defenses:
            assert self.score is not None
            options = replace(self.defense, steps=steps)
            self.defenses[steps] = adp.ADP(self.classifier, self.score, options, seed=self.options.seed)
        return self.defenses[steps]

    def facts(self) -> dict[str, Any]:
        """What the result says beside the options: σ as used, whether the defence draws, how many draws judge an image,
        its model's config.
        """
        score: Any = self.score
        return {
            "sigma": self.sigma,
            "random": self.defense.random,
            "verified": self.draws(drawn(self.options)),
            "score_config": score and asdict(score.config),
        }
