"""Input gradients of a natural, a robust and a quasi-robust classifier, and images synthesised by following them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustgen import models
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.progress import progress
from robustgen.stages.compute import Compute, check_data, prepare
from robustgen.training.classifier import Adversary

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustgen.data import ImageSet

ROLES = ("natural", "robust", "quasi_robust")


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    data: Path  # images, as `robustgen fetch` writes them
    natural: Path  # classifier trained on clean images
    robust: Path  # classifier trained adversarially at the attack's radius
    quasi_robust: Path  # classifier trained adversarially at a smaller radius
    judge: Path  # independent classifier that says whether a synthesised image looks like its class
    arch: str | None = None  # architecture the model file must hold; in the pipeline its source is a dependency
    out: Path  # measures and images to write, npz
    images: int  # test images whose gradients are measured, the first ones
    shown: int = 8  # of them, whose gradients are kept for the figure
    adversary: Adversary  # PGD that measures each classifier's robust accuracy
    per_class: int = 10  # synthesised images a class
    steps: int = 60  # synthesis steps
    step_size: float = 0.5  # L2 length of a synthesis step, pixel units
    noise: float = 0.1  # standard deviation around the mean training image at which synthesis starts, pixel units
    batch: int = 128  # images computed together
    seed: int = 0  # of attack starts and synthesis starts

    def __post_init__(self) -> None:
        if self.adversary.craft != "eval":
            raise UserError("the adversary attacks finished classifiers, in eval mode; leave --adversary.craft out")


def run(options: Options) -> None:
    device = prepare(options)
    test = load_split(options.data, "test", limit=options.images)
    train = load_split(options.data, "train")
    judge = models.load(options.judge, device, options.arch)
    check_data(judge, test, options.data)
    arrays: dict[str, np.ndarray] = {"images": test.images[: options.shown].numpy(), "labels": test.labels.numpy()}
    for role in ROLES:
        model = models.load(getattr(options, role), device, options.arch)
        check_data(model, test, options.data)
        found = measure(model, test, options, role) | generate(model, judge, train, options)
        arrays |= {f"{role}_{name}": value.cpu().numpy() for name, value in found.items()}
    save_arrays(options.out, arrays)


def measure(model: nn.Module, test: ImageSet, options: Options, label: str) -> dict[str, Tensor]:
    """Per test image: clean and robust correctness, density and alignment of the gradient; some gradients."""
    import torch
    import torch.nn.functional as F

    from robustgen.attacks.ascent import ascend
    from robustgen.attacks.ball import ball_of
    from robustgen.evaluation import gradients
    from robustgen.seeding import ImageStreams

    device, adversary = next(model.parameters()).device, options.adversary
    ball = ball_of(adversary.norm, adversary.eps)
    parts: dict[str, list[Tensor]] = {}
    batches = torch.arange(len(test.images)).split(options.batch)
    for rows in progress(batches, total=len(batches), label=f"gradients {label}"):
        x, y = test.images[rows].to(device, memory_format=torch.channels_last), test.labels[rows].to(device)
        start = ball.offset(x, ImageStreams(options.seed, test.indices[rows].tolist()))
        attacked = ascend(
            model,
            x,
            lambda logits, y=y: F.cross_entropy(logits, y, reduction="none"),  # type: ignore[misc]
            ball=ball,
            alpha=adversary.alpha,
            steps=adversary.steps,
            start=start,
        )
        margin = gradients.margin_gradient(model, x, y)
        with torch.no_grad():
            found = {
                "clean_correct": model(x).argmax(1) == y,
                "robust_correct": model(attacked).argmax(1) == y,
                "density": gradients.density(margin),
                "alignment": gradients.alignment(margin, x),
            }
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    shown = test.images[: options.shown].to(device), test.labels[: options.shown].to(device)
    return {name: torch.cat(values) for name, values in parts.items()} | {
        "gradients": gradients.loss_gradient(model, *shown)
    }


def generate(model: nn.Module, judge: nn.Module, train: ImageSet, options: Options) -> dict[str, Tensor]:
    """Images synthesised for every class in turn, and whether the judge sees the class that was asked for."""
    import torch

    from robustgen.evaluation.synthesis import synthesize
    from robustgen.seeding import ImageStreams

    device = next(model.parameters()).device
    y = torch.arange(len(train.classes), device=device).repeat(options.per_class)
    mean = train.images.mean(0)
    noise = ImageStreams(options.seed, range(len(y))).normal(mean.shape)
    start = (mean + options.noise * noise).to(device, memory_format=torch.channels_last)
    pairs = list(zip(torch.split(start, options.batch), torch.split(y, options.batch), strict=True))
    images = torch.cat(
        [
            synthesize(model, labels, x, steps=options.steps, step_size=options.step_size)
            for x, labels in progress(pairs, total=len(pairs), label="synthesis")
        ]
    )
    with torch.no_grad():
        judged = torch.cat([judge(x).argmax(1) for x in images.split(options.batch)])
    return {"synthesis": images[: 2 * len(train.classes)], "judged": judged == y}
