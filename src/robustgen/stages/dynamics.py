"""How Langevin chains of energy-based models behave: samples, energies, chaos, distance from the data, cost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robustgen import models
from robustgen.data import ImageSet, load_split
from robustgen.errors import UserError
from robustgen.io import load_arrays, save_arrays
from robustgen.stages.compute import Compute, check_data, prepare
from robustgen.stages.ebms import load_ebm

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustgen.evaluation.fid import Extractor
    from robustgen.training.snapshots import Snapshots

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    data: Path  # images, as `robustgen fetch` writes them; chains start at training images
    ebm: Path  # the convergent energy-based model, safetensors
    ebm_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    twin: Path | None = None  # its non-convergent twin; None leaves its FID out
    jem: Path | None = None  # a JEM to compare with, or None
    jem_arch: str | None = None  # architecture its file must hold
    igebm: Path | None = None  # an IGEBM to compare with, or None
    igebm_arch: str | None = None  # architecture its file must hold
    snapshots: Path | None = None  # models along the training of the EBM, as `robustgen train-ebm` writes them
    adversarial: Path | None = None  # test images attacked through a classifier, as `robustgen attack` writes them
    classifier: Path  # classifier whose penultimate layer gives features, unless Inception does
    classifier_arch: str | None = None  # architecture its file must hold
    out: Path  # arrays to write, npz; the times in it are all that differs between two runs
    samples: int = 16  # images kept of each kind, for the figures
    short_steps: int = 0  # Langevin steps from the bank to a short-run sample; 0 shows the bank as training left it
    long_steps: int  # Langevin steps from there to a long-run sample
    steady_steps: int  # Langevin steps from training images for Figures 4 and 10
    energy_images: int = 500  # test images whose energies are measured, the first of the adversarial set
    etas: tuple[float, ...] = ()  # η, noise strengths of Eq. 13, ascending
    lyapunov_chains: int = 16  # chains, each with an exponent of its own; they start in the bank
    lyapunov_burn_in: int = 500  # steps before growth counts
    lyapunov_steps: int = 1000  # steps over which it counts
    lyapunov_every: int = 1  # steps between two measurements of a separation
    lyapunov_distances: tuple[float, ...] = (1.0, 0.3, 0.1)  # separations, units of τ√D; the first is the reported one
    fid_steps: tuple[int, ...] = ()  # Langevin steps from the data at which FID is taken, ascending; 0 is the data
    fid_images: int = 500  # chains, and as many other training images that they are compared with
    fid_features: Literal["classifier", "inception", "auto"] = "classifier"  # auto: Inception if its weights are here
    fid_resamples: int = 100  # bootstrap resamples behind an interval
    inception: Path | None = None  # weights of torchvision's Inception v3; None looks in torch.hub's cache
    timed_steps: int = 20  # Langevin steps timed together
    timed_repetitions: int = 3  # such runs; the fastest counts
    timed_images: int = 100  # images moved together while timing; the paper's batch
    batch: int = 100  # chains computed together; results do not depend on it
    seed: int = 0  # of all chains and controls

    def __post_init__(self) -> None:
        for name in ("twin", "jem", "igebm", "snapshots", "adversarial", "inception"):
            if getattr(self, name) == Path():  # an empty word on the command line
                object.__setattr__(self, name, None)
        for name, values in (("etas", self.etas), ("fid_steps", self.fid_steps)):
            if list(values) != sorted({*values}) or any(value < 0 for value in values):
                raise UserError(f"{name} are {values}; give different numbers from 0 on, in ascending order")
        counts = {name: value for name, value in vars(self).items() if type(value) is int and name != "seed"}
        free = {"short_steps", "long_steps", "steady_steps", "lyapunov_burn_in"}
        wrong = {name: value for name, value in counts.items() if value < (0 if name in free else 1)}
        if wrong:
            raise UserError(f"{', '.join(f'{name} is {value}' for name, value in wrong.items())}; too small")


def run(options: Options) -> None:
    device = prepare(options)
    train = load_split(options.data, "train")
    ours = load_ebm(options.ebm, device, options.ebm_arch, train, options.data)
    along = read_snapshots(options, train)
    arrays: Arrays = {"config": np.array(json.dumps(asdict(options), sort_keys=True, default=str))}
    if along is not None:
        arrays |= training_samples(along, options, device)
    if options.adversarial is not None:
        arrays |= energies(ours, options, options.adversarial)
    if options.etas:
        arrays |= chaos(ours, bank_of(along, train), options)
    if options.fid_steps:
        arrays |= distances(ours, train, options, device)
    for name, model in compared(ours, train, options, device):
        arrays |= steady_state(name, model, train, options)
        arrays |= times(name, model, train, options) if name != "twin" else {}
    save_arrays(options.out, arrays)


def read_snapshots(options: Options, train: ImageSet) -> Snapshots | None:
    """The snapshots, if a file is given; UserError where they are of other images."""
    from robustgen.training.snapshots import load_snapshots

    if options.snapshots is None:
        return None
    found = load_snapshots(options.snapshots)
    shapes = {tuple(snapshot.bank.shape[1:]) for snapshot in found.snapshots} - {tuple(train.images.shape[1:])}
    if shapes:
        raise UserError(f"{options.snapshots} holds states of shape {shapes}, not of the images in {options.data}")
    return found


def bank_of(along: Snapshots | None, train: ImageSet) -> Tensor:
    """Where long chains start: the persistent bank at the end of training, as images; without one, training images."""
    return (along.snapshots[-1].bank + 1) / 2 if along is not None and along.snapshots else train.images


def training_samples(along: Snapshots, options: Options, device: str) -> Arrays:
    """Figure 2: states of the bank at each snapshot, and the same after a long run under the model of that time."""
    from robustgen.evaluation.chains import run_chains
    from robustgen.seeding import derive

    samples: dict[str, list[np.ndarray]] = {"short_samples": [], "long_samples": []}
    for snapshot in along.snapshots:
        model = along.model(snapshot, device)
        x = (snapshot.bank[: options.samples] + 1) / 2
        for name, steps in (("short_samples", options.short_steps), ("long_samples", options.long_steps)):
            label = f"{options.out.stem} snapshot {snapshot.update}"
            seed = derive(options.seed, name)
            x = run_chains(model, x, steps=steps, seed=seed, label=label, batch=options.batch).images
            samples[name].append(x.numpy())
    if not along.snapshots:
        return {}
    return {
        "snapshot_updates": np.array([snapshot.update for snapshot in along.snapshots], dtype=np.int64),
        "snapshot_phase": np.array([snapshot.phase for snapshot in along.snapshots]),
        **{name: np.stack(values) for name, values in samples.items()},
    }


def energies(model: nn.Module, options: Options, path: Path) -> Arrays:
    """Figure 7: U in nats of natural, attacked and noise images, and of natural ones under random signs."""
    import torch

    from robustgen.evaluation.chains import checked
    from robustgen.sampling.langevin import energy
    from robustgen.seeding import ImageStreams, derive

    natural, attacked, radius = attacked_images(options, path)
    indices = range(len(natural))
    shape = natural.shape[1:]
    signs = ImageStreams(derive(options.seed, "perturbed"), indices).uniform(shape).sub(0.5).sign()
    kinds = {
        "natural": natural,
        "adversarial": attacked,
        "perturbed": (natural + radius * signs).clamp(0, 1),
        "noise": ImageStreams(derive(options.seed, "noise"), indices).uniform(shape),
    }
    device, ebm = next(model.parameters()).device, checked(model, "ebm")
    found: Arrays = {}
    with torch.no_grad():
        for name, x in kinds.items():
            parts = [energy(ebm, part.to(device)).cpu() for part in x.split(options.batch)]
            found[f"energy_{name}"] = torch.cat(parts).numpy()
            if not np.isfinite(found[f"energy_{name}"]).all():
                raise UserError(f"{options.ebm}: energies of {name} images are not finite; train the model again")
    return found


def attacked_images(options: Options, path: Path) -> tuple[Tensor, Tensor, float]:
    """Test images, the same attacked, and the size per pixel of a perturbation as large as the attack's.

    Raises UserError where the adversarial set was not made from these images.
    """
    import torch

    test = load_split(options.data, "test")
    found = load_arrays(path, "test_adversarial", "test_indices", "config")
    rows = found["test_indices"][: options.energy_images]
    attacked = torch.from_numpy(found["test_adversarial"][: options.energy_images])
    if len(rows) < 1 or rows.max() >= len(test) or attacked.shape[1:] != test.images.shape[1:]:
        raise UserError(f"{path} was not made from {options.data}; attack these images first")
    attack = json.loads(str(found["config"]))
    radius, norm = float(attack["eps"]), attack.get("norm", "linf")
    return test.images[rows], attacked, radius if norm == "linf" else radius / math.sqrt(attacked[0].numel())


def chaos(model: nn.Module, start: Tensor, options: Options) -> Arrays:
    """Figure 8: maximal Lyapunov exponents per step at each η and distance, and the chains they were measured on."""
    from robustgen.evaluation.chains import checked
    from robustgen.evaluation.lyapunov import lyapunov
    from robustgen.progress import progress
    from robustgen.sampling.langevin import force, stream_noise
    from robustgen.seeding import ImageStreams, derive

    ebm, device = checked(model, "ebm"), next(model.parameters()).device
    v = (2 * start[[i % len(start) for i in range(options.lyapunov_chains)]] - 1).to(device)
    unit = ebm.tau * math.sqrt(v[0].numel())
    total = options.lyapunov_burn_in + options.lyapunov_steps
    growths = []
    for eta in options.etas:
        label = f"{options.out.stem} η {eta:g}"
        bar = progress(range(total), total=total, label=label, unit="step")
        growth = lyapunov(
            force(ebm),
            v,
            stream_noise(ImageStreams(derive(options.seed, "lyapunov"), range(len(v)), device), v.shape[1:], 1, device),
            steps=options.lyapunov_steps,
            tau=ebm.tau,
            distances=[unit * distance for distance in options.lyapunov_distances],
            eta=eta,
            burn_in=options.lyapunov_burn_in,
            every=options.lyapunov_every,
            seed=options.seed,
            callback=lambda k, _, bar=bar: next(bar, None),  # type: ignore[misc]
        )
        if not growth.steps.all():
            raise UserError(
                f"{label}: states are no longer finite before growth counts; lower lyapunov_burn_in or etas"
            )
        growths.append(growth)
    exponents = np.stack([growth.exponents.cpu().numpy() for growth in growths])
    return {
        "etas": np.array(options.etas),
        "lyapunov": exponents[:, 0],
        "lyapunov_distances": np.array(options.lyapunov_distances),
        "lyapunov_by_distance": exponents.transpose(1, 0, 2),
        "lyapunov_counted": np.stack([growth.steps.cpu().numpy() for growth in growths]),
        "eta_samples": np.stack([((growth.states[: options.samples] + 1) / 2).cpu().numpy() for growth in growths]),
    }


def distances(ours: nn.Module, train: ImageSet, options: Options, device: str) -> Arrays:
    """Figure 9: FID between chains that started at training images and as many other training images."""
    from robustgen.evaluation.chains import run_chains
    from robustgen.evaluation.fid import bootstrapped
    from robustgen.seeding import derive

    n = options.fid_images
    if len(train) < 2 * n:
        raise UserError(f"fid_images is {n}, but {options.data} holds {len(train)} training images; give half of them")
    extract = extractor(options, device, train)
    start, other = train.images[:n], extract(train.images[n : 2 * n])
    made = {"convergent": ours}
    if options.twin is not None:
        made["nonconvergent"] = load_ebm(options.twin, device, options.ebm_arch, train, options.data)

    def fid(features: np.ndarray) -> list[float]:
        found = bootstrapped(features, other, resamples=options.fid_resamples, seed=options.seed)
        return [found.value, found.low, found.high]

    found: Arrays = {
        "fid_steps": np.array(options.fid_steps, dtype=np.int64),
        "fid_floor": np.array(fid(extract(start))),
        "fid_features": np.array(extract.name),
    }
    for name, model in made.items():
        chains = run_chains(
            model,
            start,
            steps=options.fid_steps[-1],
            seed=derive(options.seed, "fid"),
            label=f"{options.out.stem} FID {name}",
            at=options.fid_steps,
            look=extract,
            batch=options.batch,
        )
        found[f"fid_{name}"] = np.array([fid(features) for features in chains.seen])
    return found


def extractor(options: Options, device: str, train: ImageSet) -> Extractor:
    """What gives the features of FID."""
    from robustgen.evaluation import fid

    if options.fid_features != "classifier":
        weights = fid.inception_weights(options.inception)
        if weights is not None:
            return fid.inception_features(weights, device)
        if options.fid_features == "inception":
            raise UserError(
                f"no Inception weights here: give --inception, put {fid.INCEPTION_FILE} into torch.hub's cache, or "
                "take --fid-features classifier"
            )
    model = models.load(options.classifier, device, options.classifier_arch)
    config: Any = model.config
    found = fid.classifier_features(model, f"our {config.arch} {options.classifier.stem}", device)
    check_data(model, train, options.data)
    return found


def compared(ours: nn.Module, train: ImageSet, options: Options, device: str) -> Iterator[tuple[str, nn.Module]]:
    """Our model and those it is compared with."""
    yield "ours", ours
    for name, path, arch in (
        ("twin", options.twin, options.ebm_arch),
        ("igebm", options.igebm, options.igebm_arch),
        ("jem", options.jem, options.jem_arch),
    ):
        if path is not None:
            yield name, load_ebm(path, device, arch, train, options.data)


def steady_state(name: str, model: nn.Module, train: ImageSet, options: Options) -> Arrays:
    """Figure 10: what a model's chains become from training images, and how large it is. Only a model of another kind
    may diverge: its chains then end where they were last seen finite, `diverged_<model>` tells after how many steps."""
    from robustgen.evaluation.chains import run_chains
    from robustgen.seeding import derive

    chains = run_chains(
        model,
        train.images[: options.samples],
        steps=options.steady_steps,
        seed=derive(options.seed, "steady"),
        label=f"{options.out.stem} chains of {name}",
        may_diverge=name not in ("ours", "twin"),
        batch=options.batch,
    )
    return {
        f"steady_{name}": chains.images.numpy(),
        f"diverged_{name}": chains.diverged.numpy(),
        f"parameters_{name}": np.array(sum(weight.numel() for weight in model.parameters())),
    }


def times(name: str, model: nn.Module, train: ImageSet, options: Options) -> Arrays:
    """Figure 10: milliseconds of a Langevin step on `timed_images` images. IGEBM's is that of its own sampler, which is
    given one label an image; ours is timed by plain autograd, too, as the others are."""
    import torch

    from robustgen.evaluation.chains import milliseconds_per_step
    from robustgen.models.igebm import IGEBM
    from robustgen.sampling.langevin import Force, by_autograd

    rows = torch.arange(options.timed_images) % len(train)
    network: Any = model
    labels = train.labels[rows].to(next(model.parameters()).device)
    given = (lambda v: network.force(v, labels)) if isinstance(model, IGEBM) else None
    pushes: dict[str, Force | None] = {name: given}
    if name == "ours":
        pushes["ours_autograd"] = by_autograd(network)
    count, repetitions = options.timed_steps, options.timed_repetitions
    return {
        f"ms_per_step_{key}": np.array(
            milliseconds_per_step(model, train.images[rows], steps=count, repetitions=repetitions, push=push)
        )
        for key, push in pushes.items()
    }
