"""Purify natural images, and images attacked in ignorance of the defence, by Langevin dynamics and classify them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robustgen import models
from robustgen.data import ImageSet, load_split
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.progress import progress
from robustgen.stages.adversarial import load_pairs
from robustgen.stages.compute import Compute, check_data, prepare
from robustgen.stages.ebms import load_ebm

if TYPE_CHECKING:
    from torch import Tensor

    from robustgen.defenses.langevin import LangevinDefense
    from robustgen.seeding import ImageStreams


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    classifier: Path  # the defended classifier f, safetensors
    classifier_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    ebm: Path  # the energy-based model that purifies; where it is its own classifier, the same file
    ebm_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them
    adversarial: Path  # test images attacked through the classifier alone, as `robustgen attack` writes them
    out: Path  # logits to write, npz
    images: int  # test images, the first of the adversarial set
    steps: tuple[int, ...]  # Langevin steps K at which the chains are looked at, ascending; 0 is the classifier alone
    draws: int = 1  # H, chains behind one prediction
    keep: int | None = None  # K at which the natural images' logits are kept draw by draw; None: the last
    average: Literal["logits", "softmax", "log_softmax"] = "logits"  # what is averaged over them
    batch: int = 64  # images purified together; with their chains they set the memory in use
    seed: int = 0  # of the per-image random streams


def run(options: Options) -> None:
    from robustgen.defenses.langevin import LangevinDefense

    if not options.steps or list(options.steps) != sorted({*options.steps}) or options.steps[0] < 0:
        raise UserError(f"steps are {options.steps}; give different numbers from 0 on, in ascending order")
    if options.keep is not None and options.keep not in options.steps:
        raise UserError(f"keep is {options.keep}; give one of the steps {options.steps}")
    if options.batch < 1:
        raise UserError(f"batch is {options.batch}; give at least 1 image")
    device = prepare(options)
    test = load_split(options.data, "test")
    classifier = models.load(options.classifier, device, options.classifier_arch)
    check_data(classifier, test, options.data)
    ebm = load_ebm(options.ebm, device, options.ebm_arch, test, options.data)
    found = load_pairs(options.adversarial, "test", options.images, options.data)
    natural = found.natural
    defense = LangevinDefense(
        classifier, ebm, steps=options.steps[-1], draws=options.draws, average=options.average
    ).eval()
    arrays: dict[str, np.ndarray] = {}
    for name, images in (("natural", natural), ("adversarial", found.adversarial)):
        arrays[f"{name}_logits"], draws = draw_logits(defense, name, images, options)
        if name == "natural":
            arrays["natural_draws"] = draws
    arrays |= {"steps": np.array(options.steps), "labels": natural.labels.numpy(), "indices": found.rows}
    network: Any = ebm.config
    facts = {"keep": kept(options), "tau": ebm.tau, "ebm_config": asdict(network), "attack": found.attack}
    config = {**asdict(options), **facts}
    arrays["config"] = np.array(json.dumps(config, sort_keys=True, default=str))
    save_arrays(options.out, arrays)


def kept(options: Options) -> int:
    """K at which the natural images' logits are kept draw by draw."""
    return options.steps[-1] if options.keep is None else options.keep


def draw_logits(
    defense: LangevinDefense, name: str, images: ImageSet, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (S, N, K) of the defence at each of the S step counts, and those of its draws (N, H, K) at one.

    `name` tells the random streams of two sets of the same images apart.
    """
    import torch

    from robustgen.seeding import ImageStreams, derive

    device = next(defense.parameters()).device
    batches = torch.arange(len(images)).split(options.batch)
    combined, single = [], []
    for rows in progress(batches, total=len(batches), label=f"{options.out.stem} {name}"):
        streams = ImageStreams(derive(options.seed, name), images.indices[rows].tolist(), device)
        along = along_chain(defense, images.images[rows].to(device), options.steps, streams)
        combined.append(torch.stack([defense.combine(logits) for logits in along]).cpu())
        single.append(along[options.steps.index(kept(options))].cpu())
    return torch.cat(combined, 1).numpy(), torch.cat(single).numpy()


def along_chain(defense: LangevinDefense, x: Tensor, steps: Sequence[int], streams: ImageStreams) -> list[Tensor]:
    """The draws' logits (N, H, K) after each of the ascending numbers `steps` of Langevin steps of one chain per draw.

    After 0 steps they are the classifier's own. Raises UserError where a chain diverges.
    """
    from robustgen.replicates import check_logits

    def look(purified: Tensor) -> Tensor:
        logits = defense.logits(purified)
        check_logits(logits)
        return logits

    return defense.chain(x, defense.draws, streams, steps, look)
