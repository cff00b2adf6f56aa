"""Attack a classifier on validation and test images and write the adversarial images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from robustgen import models
from robustgen.attacks import ATTACKS, attack_type
from robustgen.data import load_split
from robustgen.io import save_arrays
from robustgen.options import recorded
from robustgen.progress import progress
from robustgen.stages.compute import Compute, check_data, chosen, prepare

if TYPE_CHECKING:
    from torch import Tensor

    from robustgen.attacks.base import BallAttack
    from robustgen.data import ImageSet

A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Options(Compute, Generic[A]):
    model: Path  # the attacked classifier, safetensors
    arch: str | None = None  # architecture the model file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them
    out: Path  # adversarial images to write, npz
    attack: A  # the attack: --attack.name chooses which options it has
    validation: int = 0  # validation images to attack, the first ones; detectors are fitted on these
    test: int  # test images to attack, the first ones
    batch: int = 128  # images attacked together; results do not depend on it
    trace: bool = False  # also keep energy and correctness of each test image after every step


def options_type(args: Sequence[str]) -> type[Options[object]]:
    """The options of the attack that `args` name."""
    config = attack_type(chosen(args, "--attack.name", ATTACKS[-1])).Options
    return Options[config]  # type: ignore[valid-type]


def run(options: Options[Any]) -> None:
    device = prepare(options)
    model = models.load(options.model, device, options.arch)
    given = asdict(options.attack)
    attack = attack_type(given["name"])(model, **given)
    label = options.out.stem
    arrays: dict[str, np.ndarray] = {"config": np.array(json.dumps(recorded(options.attack), sort_keys=True))}
    for split, count in (("validation", options.validation), ("test", options.test)):
        if count:
            images = load_split(options.data, split, limit=count)
            check_data(model, images, options.data)
            trace = Trace(images.labels, options.batch) if options.trace and split == "test" else None
            adversarial = attack_images(attack, images, options.batch, f"{label} {split}", trace)
            arrays[f"{split}_adversarial"] = adversarial.numpy()
            arrays[f"{split}_indices"] = np.arange(len(adversarial))
            if trace is not None:
                arrays |= trace.arrays()
    save_arrays(options.out, arrays)


class Trace:
    """Collects energy and correctness (steps + 1, N) from an attack's callback; row k is after k steps."""

    def __init__(self, labels: Tensor, batch: int) -> None:
        self.labels = labels.split(batch)
        self.energy: list[list[np.ndarray]] = []
        self.correct: list[list[np.ndarray]] = []

    def __call__(self, step: int, logits: Tensor) -> None:
        from robustgen.models.energy import energy

        if step == 0:
            self.energy.append([])
            self.correct.append([])
        labels = self.labels[len(self.energy) - 1]
        self.energy[-1].append(energy(logits).cpu().numpy())
        self.correct[-1].append((logits.argmax(1).cpu() == labels).numpy())

    def arrays(self) -> dict[str, np.ndarray]:
        """`trace_energy` float32 and `trace_correct` bool, (steps + 1, N)."""
        return {
            "trace_energy": np.concatenate([np.stack(rows) for rows in self.energy], axis=1),
            "trace_correct": np.concatenate([np.stack(rows) for rows in self.correct], axis=1),
        }


def attack_images(attack: BallAttack, images: ImageSet, batch: int, label: str, trace: Trace | None) -> Tensor:
    """(N, C, H, W) adversarial images on the CPU, each with the random stream of its position in the data set."""
    import torch

    attack.callback = trace
    rows = torch.arange(len(images.images)).split(batch)
    return torch.cat(
        [
            attack(
                images.images[r].to(memory_format=torch.channels_last), images.labels[r], images.indices[r].tolist()
            ).cpu()
            for r in progress(rows, total=len(rows), label=label)
        ]
    ).contiguous()
