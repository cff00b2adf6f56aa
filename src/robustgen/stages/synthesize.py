"""Images that raise a logit of detectors or of a softmax classifier: from natural images, class Gaussians and noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustgen.attacks.ball import Norm
from robustgen.attacks.first_order import Rule, check_ascent
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.io import load_weights, save_arrays
from robustgen.options import Ratio
from robustgen.progress import progress
from robustgen.stages.classifiers import described, load_classifier, logits_of, together
from robustgen.stages.compute import Compute, prepare
from robustgen.stages.detector_models import load_bank, training_facts

if TYPE_CHECKING:
    from torch import Tensor

    from robustgen.attacks.ball import Ball
    from robustgen.data import ImageSet


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    model: Path  # what is attacked: detectors, a file or a folder of files, or a softmax classifier
    arch: str | None = None  # architecture of the classifier or of the detectors' members; in the pipeline a dependency
    data: Path  # images, as `robustgen fetch` writes them
    judge: Path  # independent classifier that says what an image looks like
    judge_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    out: Path  # images and logits to write, npz
    images: int = 300  # first test images whose logits are kept, to compare with (Figs. 9, 11); 0: none
    # Natural images perturbed towards every class (Figs. 4, 6, 13, 16). norm, eps, steps and alpha belong together, an
    # entry a setting, a list of one serving all. No eps: this part is left out.
    per_class: int = 1  # test images of each class, the first ones; 0: this part is left out
    norm: tuple[Norm, ...] = ("linf",)  # in which radius and steps are measured
    eps: tuple[Ratio, ...] = ()  # radii, pixel units; of an L2 ball the length of the whole change
    steps: tuple[int, ...] = (100,)  # ascent steps (Fig. 4: 100)
    alpha: tuple[Ratio, ...] = (0.01,)  # length of a step in the norm, pixel units; of the rule adam its learning rate
    rule: Rule = "steepest"  # normalised steepest ascent (Figs. 6, 13), or Adam on the change (MNIST)
    # Images from class Gaussians (Figs. 7, 14, 15, 18), L2, normalised steepest ascent, from the Gaussian sample itself
    generated: int = 10  # images of each class; 0: this part is left out
    radius: Ratio = 30.0  # of the L2 ball around the start, pixel units; 30 as Santurkar et al. 2019
    generate_steps: int = 60  # ascent steps
    generate_alpha: Ratio = 0.5  # L2 length of a step, pixel units
    factor: int = 1  # the Gaussians are of images averaged over squares of so many pixels a side (ImageNet: 4)
    # Images from white noise, the same for every class (Fig. 19), L2 without a ball, normalised steepest ascent.
    noise_steps: tuple[int, ...] = ()  # steps at which the image is kept, rising (0 50 100 150 200); none: left out
    noise_alpha: Ratio = 0.5  # L2 length of a step, pixel units
    noises: int = 1  # noise images; all are judged, the first is kept
    batch: int = 128  # images computed together, over all targets
    seed: int = 0  # of Gaussian samples and noise; they do not depend on the model


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How natural images are perturbed; fields as the arrays shift_... of the result."""

    norm: str
    eps: float
    steps: int
    alpha: float


def run(options: Options) -> None:
    """Write the file `options.out`: L outputs of the model, N + M test images, S settings, P noise steps, K classes.

    kind, "detectors" or "softmax"; model_labels int64 (L,), classes of the outputs; natural float32 (N, L) logits of
    the first test images; labels, indices int64 (N,), indices being rows of the test split.
    images float32 (M, C, H, W), image_labels (M,); shift_norm, shift_eps, shift_steps, shift_alpha (S,); shifted
    float16 (S, L, M, C, H, W), each image moved towards each class; shifted_logits float32 (S, L, M, L);
    shifted_judged, shifted_nearest int64 (S, L, M), the judge's class and that of the nearest training image.
    start, generated float16 (L, G, C, H, W), class Gaussian samples and what they became; generated_logits
    (L, G, L); start_judged, generated_judged, generated_nearest (L, G).
    noise_steps (P,); noise float16 (P, L, C, H, W) of the first of R noise images; noise_logits float32, each class'
    own, noise_judged, noise_nearest int64 (P, L, R) of all of them; config as JSON.
    Logits are of the images before rounding to float16. A part that is left out has length 0.
    """
    settings = check(options)
    device = prepare(options)
    test = load_split(options.data, "test")
    natural, chosen = first_rows(test, options), first_of_classes(test, options.per_class if settings else 0)
    subject = Subject(options, device, test)
    judge = Judge(options, device, load_split(options.data, "train"))
    arrays = {
        "kind": np.array(subject.kind),
        "model_labels": np.array(subject.labels, np.int64),
        "natural": subject.logits(test.images[natural]),
        "images": test.images[chosen].numpy(),
        "image_labels": test.labels[chosen].numpy(),
        **shift(subject, judge, test.images[chosen], settings),
        **generate(subject, judge),
        **climb_noise(subject, judge, test.images.shape[1:]),
        **described(options, test.labels[natural], trained=subject.trained),
    }
    save_arrays(options.out, arrays)


def check(options: Options) -> list[Setting]:
    """The settings of the targeted part; UserError for options that make no synthesis."""
    counts = {"images": options.images, "per_class": options.per_class, "generated": options.generated}
    if min(counts.values()) < 0 or options.batch < 1:
        found = ", ".join(f"{name} is {count}" for name, count in counts.items())
        raise UserError(f"{found} and batch {options.batch}; give counts >= 0 and a batch >= 1")
    steps = options.noise_steps
    if list(steps) != sorted({*steps}) or min(steps, default=0) < 0 or options.noises < 1:
        raise UserError(
            f"noise_steps are {steps} and noises {options.noises}; give rising numbers >= 0, and noises >= 1"
        )
    check_ascent(norm="l2", eps=0, rule="steepest", steps=0, alpha=options.noise_alpha)
    check_ascent(
        norm="l2", eps=options.radius, rule="steepest", steps=options.generate_steps, alpha=options.generate_alpha
    )
    if not (options.eps and options.per_class):
        return []
    settings = together(norm=options.norm, eps=options.eps, steps=options.steps, alpha=options.alpha)
    for setting in settings:
        check_ascent(**setting, rule=options.rule)
    return [Setting(**setting) for setting in settings]


def first_rows(test: ImageSet, options: Options) -> Tensor:
    """(N,) rows of the first test images; UserError where there are not so many."""
    import torch

    if options.images > len(test):
        raise UserError(f"{options.data} holds {len(test)} test images, not the {options.images} that images asks for")
    return torch.arange(options.images)


def first_of_classes(test: ImageSet, each: int) -> Tensor:
    """(K · each,) rows of the first images of every class, class by class; UserError where a class has fewer."""
    import torch

    found = [(test.labels == label).nonzero()[:each, 0] for label in range(test.num_classes)]
    short = [name for name, rows in zip(test.classes, found, strict=True) if len(rows) < each]
    if short:
        raise UserError(f"fewer than {each} test images of {', '.join(short)}; lower per_class")
    return torch.cat(found)


class Subject:
    """The model that is attacked, checked against the images: L logits, each of them raised on images of its own."""

    def __init__(self, options: Options, device: str, images: ImageSet) -> None:
        self.options, self.device = options, device
        path, asked = options.model, (device, options.arch, images, options.data)
        header = {} if path.is_dir() else load_weights(path)[1]
        self.network: Any
        if path.is_dir() or header.get("architecture") == "detectors":
            self.kind, self.network = "detectors", load_bank(path, *asked)
            self.labels, self.trained = tuple(self.network.labels), training_facts(path)
        else:
            self.kind, self.network = "softmax", load_classifier(path, *asked)
            self.labels, self.trained = tuple(range(images.num_classes)), [{"training": header.get("training")}]

    def logits(self, images: Tensor) -> np.ndarray:
        """float32 (..., L) of images (..., C, H, W), which may be none."""
        shape = (*images.shape[:-3], len(self.labels))
        if not images.numel():
            return np.zeros(shape, np.float32)
        found = logits_of(self.network, images.flatten(0, -4), self.options.batch, f"logits of {self.options.model}")
        return found.reshape(shape)

    def own(self, x: Tensor) -> Tensor:
        """(L·M,) logit l of the l-th M of images (L·M, C, H, W), differentiable."""
        import torch

        from robustgen.replicates import in_company

        if self.kind == "detectors":
            each: Tensor = self.network.each(x.unflatten(0, (len(self.labels), -1)))
            return each.flatten()
        logits = in_company(self.network, x).unflatten(0, (len(self.labels), -1))  # (L, M, L)
        return torch.diagonal(logits, dim1=0, dim2=2).T.flatten()

    def raised(self, images: Tensor, label: str, *, ball: Ball, alpha: float, steps: int, rule: Rule) -> Tensor:
        """Images (L, M, C, H, W), the l-th M of them moved up logit l within the ball around them."""
        import torch

        from robustgen.attacks.first_order import climb

        parts = images.split(max(1, self.options.batch // len(self.labels)), 1)
        done = []
        for part in progress(parts, total=len(parts), label=f"{self.options.out.stem} {label}"):
            x = part.flatten(0, 1).to(self.device)
            moved = climb(self.own, x, ball=ball, alpha=alpha, steps=steps, rule=rule)
            within(moved, x, ball)
            done.append(moved.cpu().unflatten(0, part.shape[:2]))
        return torch.cat(done, 1)


def within(moved: Tensor, x: Tensor, ball: Ball) -> None:
    """Assert that images (N, C, H, W) lie in [0, 1] and in the ball around x; UserError where they are not finite."""
    from robustgen.data.images import check_images
    from robustgen.replicates import check_finite

    check_finite(moved, "images", ": the model's gradients are; train it again, with a smaller --recipe.lr")
    check_images(moved)
    ball.check(moved, x)


class Judge:
    """Says what images look like: an independent classifier, and the nearest training image."""

    def __init__(self, options: Options, device: str, train: ImageSet) -> None:
        self.options, self.device, self.train = options, device, train
        self.network = load_classifier(options.judge, device, options.judge_arch, train, options.data)

    def judged(self, images: Tensor) -> np.ndarray:
        """int64 (...) classes that the classifier gives to images (..., C, H, W)."""
        flat = images.flatten(0, -4)
        logits = logits_of(self.network, flat, self.options.batch, f"logits of {self.options.judge}")
        classes: np.ndarray = logits.argmax(1).reshape(images.shape[:-3])
        return classes

    def nearest(self, images: Tensor) -> np.ndarray:
        """int64 (...) classes of the training images that are nearest (L2) to images (..., C, H, W)."""
        import torch

        known = self.train.images.flatten(1).to(self.device)
        squares = known.square().sum(1)
        parts = images.flatten(0, -4).flatten(1).split(self.options.batch)
        rows = [(squares - 2 * x.to(self.device) @ known.T).argmin(1).cpu() for x in parts]  # ‖x‖² is the same for all
        return self.train.labels[torch.cat(rows)].numpy().reshape(images.shape[:-3])


def shift(subject: Subject, judge: Judge, images: Tensor, settings: Sequence[Setting]) -> dict[str, np.ndarray]:
    """Images (M, C, H, W) moved towards every class in every setting, and what became of them."""
    from robustgen.attacks.ball import ball_of

    shape = (len(settings), len(subject.labels), len(images))
    arrays = {
        "shift_norm": np.array([setting.norm for setting in settings], "U4"),
        "shift_eps": np.array([setting.eps for setting in settings], np.float64),
        "shift_steps": np.array([setting.steps for setting in settings], np.int64),
        "shift_alpha": np.array([setting.alpha for setting in settings], np.float64),
        "shifted": np.zeros((*shape, *images.shape[1:]), np.float16),
        "shifted_logits": np.zeros((*shape, len(subject.labels)), np.float32),
        "shifted_judged": np.zeros(shape, np.int64),
        "shifted_nearest": np.zeros(shape, np.int64),
    }
    start = images.expand(len(subject.labels), *images.shape)
    for row, setting in enumerate(settings):
        moved = subject.raised(
            start,
            f"{setting.norm} {setting.eps:g}",
            ball=ball_of(setting.norm, setting.eps),
            alpha=setting.alpha,
            steps=setting.steps,
            rule=subject.options.rule,
        )
        arrays["shifted"][row] = half(moved)
        arrays["shifted_logits"][row] = subject.logits(moved)
        arrays["shifted_judged"][row] = judge.judged(moved)
        arrays["shifted_nearest"][row] = judge.nearest(moved)
    return arrays


def generate(subject: Subject, judge: Judge) -> dict[str, np.ndarray]:
    """Samples of every class' Gaussian moved up the class' logit, and what became of them."""
    from robustgen.attacks.ball import L2
    from robustgen.evaluation.gaussians import class_samples

    options, train = subject.options, judge.train
    shape = (len(subject.labels), options.generated)
    if not options.generated:
        pixels = np.zeros((*shape, *train.images.shape[1:]), np.float16)
        judged = dict.fromkeys(("start_judged", "generated_judged", "generated_nearest"), np.zeros(shape, np.int64))
        logits = np.zeros((*shape, len(subject.labels)), np.float32)
        return {"start": pixels, "generated": pixels, "generated_logits": logits, **judged}
    start = class_samples(
        train.images,
        train.labels,
        classes=subject.labels,
        each=options.generated,
        factor=options.factor,
        seed=options.seed,
    )
    moved = subject.raised(
        start,
        "generated",
        ball=L2(options.radius),
        alpha=options.generate_alpha,
        steps=options.generate_steps,
        rule="steepest",
    )
    return {
        "start": half(start),
        "generated": half(moved),
        "generated_logits": subject.logits(moved),
        "start_judged": judge.judged(start),
        "generated_judged": judge.judged(moved),
        "generated_nearest": judge.nearest(moved),
    }


def climb_noise(subject: Subject, judge: Judge, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """R images of white noise moved up every class' logit, as they are after each of P numbers of steps, P maybe 0."""
    import torch

    from robustgen.attacks.ball import L2
    from robustgen.attacks.first_order import climb
    from robustgen.evaluation.gaussians import white_noise
    from robustgen.seeding import ImageStreams, derive

    options, outputs = subject.options, len(subject.labels)
    kept = [torch.zeros(0, outputs, options.noises, *shape)]

    def keep(step: int, images: Tensor) -> None:
        if step in options.noise_steps:
            kept.append(images.detach().cpu().clone().unflatten(0, (1, outputs, options.noises)))

    if options.noise_steps:
        streams = ImageStreams(derive(options.seed, "noise"), range(options.noises))
        start = white_noise(shape, streams).to(subject.device).repeat(outputs, 1, 1, 1)
        climb(
            subject.own,
            start,
            ball=L2(math.inf),
            alpha=options.noise_alpha,
            steps=options.noise_steps[-1],
            callback=keep,
        )
    images = torch.cat(kept)
    own = np.diagonal(subject.logits(images), axis1=1, axis2=3)  # of (P, L, R, L), every image's target's: (P, R, L)
    judged = dict.fromkeys(("noise_judged", "noise_nearest"), np.zeros(images.shape[:3], np.int64))
    if len(images):
        judged = {"noise_judged": judge.judged(images), "noise_nearest": judge.nearest(images)}
    return {
        "noise_steps": np.array(options.noise_steps, np.int64),
        "noise": half(images[:, :, 0]),
        "noise_logits": np.ascontiguousarray(own.swapaxes(1, 2)),
        **judged,
    }


def half(images: Tensor) -> np.ndarray:
    """Images as float16, as they are kept: to 0.0005 of the pixel range."""
    return images.numpy().astype(np.float16)
