"""Attack a Langevin defence by BPDA+EOT over a grid of settings and write what broke when."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from robustgen import models
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.options import Ratio
from robustgen.stages.compute import Compute, check_data, identity, prepare
from robustgen.stages.ebms import load_ebm
from robustgen.stages.evaluation import Store, arrays, evaluate_grid, shard

if TYPE_CHECKING:
    from torch import nn

    from robustgen.attacks.bpda_eot import BpdaEot
    from robustgen.data import ImageSet

SOURCES = (  # modules that the outcome depends on, beside the networks' own
    *("attacks.ball", "attacks.base", "attacks.bpda_eot", "attacks.eot", "attacks.objectives"),
    *("defenses.identity", "defenses.langevin", "models.energy", "models.wide_resnet"),
    *("replicates", "sampling.langevin", "seeding"),
)


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    classifier: Path  # the defended classifier f, safetensors
    classifier_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    ebm: Path | None = None  # the energy-based model whose Langevin dynamics purify; None: the classifier alone
    ebm_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # outcomes to write, npz
    offset: int = 0  # first test image of this shard
    images: int  # test images of this shard
    langevin_steps: tuple[int, ...]  # K, in turn; 0 is the classifier alone
    linf: tuple[Ratio, ...] = ()  # radii of L∞ attacks, pixel units; 0 is the control that should break nothing
    l2: tuple[Ratio, ...] = ()  # radii of L2 attacks, pixel units, length of the whole change
    draws: tuple[int, ...]  # H_adv, in turn: replicates behind a gradient and the screen
    verify: tuple[int, ...]  # H_def, in turn: fresh replicates that confirm a break
    steps: int = 50  # N, attack updates
    step: Ratio = 0.25  # attack step size α as a fraction of the radius (2/255 of 8/255)
    restarts: int = 1  # random starts (Table 2 takes 5)
    gradient: Literal["bpda", "full"] = "bpda"  # through the purification: taken for the identity, or unrolled
    average: Literal["logits", "softmax", "log_softmax"] = "logits"  # what the defence averages over its replicates
    precision: Literal["float32", "bfloat16"] = "float32"  # of the energy network's convolutions in the purification
    batch: int = 64  # images attacked together; with their replicates they set the memory in use
    seed: int = 0  # of the per-image random streams


@dataclass(frozen=True, kw_only=True)
class Point:
    """A grid point; fields as the arrays of the result."""

    langevin_steps: int
    norm: str
    eps: float
    draws: int
    verify: int

    def __str__(self) -> str:
        return f"K {self.langevin_steps}, {self.norm} {self.eps:g}, H {self.draws}/{self.verify}"


def grid(options: Options) -> list[Point]:
    """The product of Langevin steps, radii (L∞, then L2), attack and defence replicates."""
    radii = [("linf", eps) for eps in options.linf] + [("l2", eps) for eps in options.l2]
    return [
        Point(langevin_steps=k, norm=norm, eps=eps, draws=draws, verify=verify)
        for k, (norm, eps), draws, verify in product(options.langevin_steps, radii, options.draws, options.verify)
    ]


def run(options: Options) -> None:
    device = prepare(options)
    points = grid(options)
    images = shard(options.data, options.offset, options.images)
    setting = Setting(options, device, images)
    attacks = [setting.attack(point) for point in points]  # every error of theirs before the first hour of work
    networks = [network for network in (setting.classifier, setting.ebm) if network]
    files = [path for path in (options.classifier, options.ebm, options.data) if path is not None]
    modules = [type(network).__module__.removeprefix("robustgen.") for network in networks]
    store = Store.of(identity(options, files, [*SOURCES, *modules]))
    outcomes = evaluate_grid(
        points,
        attacks,
        images,
        store,
        label=options.out.stem,
        defense=lambda point: (point.langevin_steps, point.verify),
    )
    config = {**asdict(options), **setting.facts()}
    save_arrays(options.out, arrays(points, images, outcomes, options.offset, config))
    store.clear()


class Setting:
    """The networks, checked against the images, and the attacks on the defences they make."""

    def __init__(self, options: Options, device: str, images: ImageSet) -> None:
        self.options = options
        if not grid(options):
            raise UserError(
                "the grid is empty; give at least one value to langevin_steps, draws, verify, and linf or l2"
            )
        if options.batch < 1:
            raise UserError(f"batch is {options.batch}; give at least 1 image")
        if options.ebm is None and any(options.langevin_steps):
            raise UserError("Langevin steps need an energy model; give ebm, or 0 steps")
        self.classifier = models.load(options.classifier, device, options.classifier_arch)
        check_data(self.classifier, images, options.data)
        self.ebm: nn.Module | None = None
        if options.ebm is not None:
            self.ebm = load_ebm(options.ebm, device, options.ebm_arch, images, options.data)

    def attack(self, point: Point) -> BpdaEot:
        """The attack of a grid point. Without Langevin steps all replicates are equal, so one is computed."""
        from robustgen.attacks.bpda_eot import BpdaEot

        o = self.options
        stochastic = point.langevin_steps != 0
        if min(point.draws, point.verify) < 1:
            raise UserError(f"draws is {point.draws} and verify {point.verify}; give at least 1")
        return BpdaEot(
            self.defense(point.langevin_steps),
            norm=point.norm,
            eps=point.eps,
            step=o.step,
            steps=o.steps,
            draws=point.draws if stochastic else 1,
            verify=point.verify if stochastic else 1,
            restarts=o.restarts,
            gradient=o.gradient,
            seed=o.seed,
            batch=o.batch,
        )

    def facts(self) -> dict[str, Any]:
        """What the result says about the energy model: its tau and its config."""
        network: Any = self.ebm
        return {"tau": network and network.tau, "ebm_config": network and asdict(network.config)}

    def defense(self, langevin_steps: int) -> nn.Module:
        """The defence with K Langevin steps."""
        if langevin_steps == 0:
            from robustgen.defenses.identity import Undefended

            return Undefended(self.classifier)
        from robustgen.defenses.langevin import LangevinDefense

        assert self.ebm is not None
        o = self.options
        return LangevinDefense(
            self.classifier, self.ebm, steps=langevin_steps, average=o.average, precision=o.precision
        )
