"""What a score network knows: norms that tell attacks, loss by noise level, samples, step sizes that purify, drift."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustgen import models
from robustgen.data import load_split
from robustgen.defenses import adp
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.options import Ratio, recorded
from robustgen.progress import progress
from robustgen.stages.adversarial import Pairs, load_pairs
from robustgen.stages.compute import Compute, check_data, prepare
from robustgen.stages.score_models import load_score

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustgen.protocols import ScoreModel

    Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Options(Compute):
    score: Path  # the score network s_θ, safetensors
    score_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    classifier: Path  # judges purified images, safetensors
    classifier_arch: str | None = None  # architecture its file must hold; in the pipeline its source is a dependency
    data: Path  # images, as `robustgen fetch` writes them
    adversarial: Path  # attacked test and validation images, as `robustgen attack` writes them
    out: Path  # norms, losses, samples, verdicts and contrasts to write, npz
    images: int  # test images, the first of the adversarial set
    validation: int  # validation images, the first of the adversarial set: thresholds and step sizes are tuned on them
    # the purification, here without noise; its steps T are those of the drift and of the tuning, its sigma does nothing
    defense: adp.Options = field(default_factory=adp.Options)
    # α, fixed step sizes in turn, with which validation images are purified without noise (the paper's ADP at σ = 0)
    tuning: tuple[Ratio, ...] = ()
    samples: int = 0  # images drawn by annealed Langevin dynamics
    sampler_steps: int = 5  # Langevin updates at each noise level (Song & Ermon 2020: 5 for CIFAR-10)
    # ε, step size at the smallest noise level, pixel units squared; unset: their Technique 4, from the levels
    sampler_step: float | None = None
    denoise: bool = True  # one denoising step after the last level
    batch: int = 128  # images computed together; results do not depend on it
    seed: int = 0  # of the samples, and of the noise behind the losses

    def __post_init__(self) -> None:
        if self.samples < 0 or min(self.sampler_steps, self.batch) < 1:
            raise UserError(
                f"samples is {self.samples}, sampler_steps {self.sampler_steps}, batch {self.batch}; give samples >= 0 "
                "and the others >= 1"
            )
        if not all(step > 0 for step in (*self.tuning, 1 if self.sampler_step is None else self.sampler_step)):
            raise UserError(f"tuning is {self.tuning} and sampler_step {self.sampler_step}; step sizes are above 0")


def run(options: Options) -> None:
    """Write the file `options.out`: N test images, V validation images, L noise levels, M samples, A step sizes.

    norm_natural, norm_adversarial, norm_natural_purified, norm_adversarial_purified float32 (N,), labels, indices int64
    (N,); validation_norm_natural, validation_norm_adversarial float32 (V,); median_sigma, guided_sigma_first,
    guided_levels (); levels, level_loss (L,); samples float32 (M, C, H, W); drift, drift_grey, drift_paper float64
    (T + 1,), see `drifts`; tuning_alpha float64 (A,), tuning_natural, tuning_adversarial bool (A, V); config, the
    options as JSON.
    """
    from robustgen.protocols import ScoreModel

    device = prepare(options)
    test, validation = (
        load_pairs(options.adversarial, split, count, options.data)
        for split, count in (("test", options.images), ("validation", options.validation))
    )
    classifier = models.load(options.classifier, device, options.classifier_arch)
    check_data(classifier, test.natural, options.data)
    score: nn.Module = load_score(options.score, device, options.score_arch, test.natural, options.data)
    config: Any = score.config
    if not isinstance(score, ScoreModel):
        raise UserError(f"{options.score} holds a {config.arch}, which has no noise levels; give one by train-ncsn")
    train = load_split(options.data, "train").images
    arrays = {
        **norms(quiet(classifier, score, options), test, validation, options.batch),
        **noise_facts(train),
        **level_facts(score, validation.natural.images, options),
        "samples": samples(score, test.natural.images.shape[1:], options),
        **drifts(test.natural.images, options.defense),
        **tuned(classifier, score, validation, options),
        "labels": test.natural.labels.numpy(),
        "indices": test.rows,
    }
    facts = {"attack": test.attack, "score_config": asdict(config), "sampler_step": sampler_step(score, options)}
    written = json.dumps({**recorded(options), **facts}, sort_keys=True, default=str)
    save_arrays(options.out, {**arrays, "config": np.array(written)})


def quiet(classifier: nn.Module, score: nn.Module, options: Options, **changes: Any) -> adp.ADP:
    """The defence without anything random, its other options changed as given."""
    certain = {"sigma": 0.0, "draws": 1, "updates": "deterministic", "detect": None}
    return adp.ADP(classifier, score, replace(options.defense, **{**certain, **changes})).eval()


def norms(defense: adp.ADP, test: Pairs, validation: Pairs, batch: int) -> Arrays:
    """‖s_θ(x)‖₂ of natural and attacked images, before and after one purification step (Fig. 3), float32."""
    from robustgen.defenses.detectors import ScoreNorm

    detector = ScoreNorm(defense.score_model, batch_size=batch)
    one = adp.ADP(defense.classifier, defense.score_model, replace(defense.options, steps=1))
    found = {}
    for name, images in (("natural", test.natural.images), ("adversarial", test.adversarial.images)):
        found[f"norm_{name}"] = -detector.score(images).numpy()
        found[f"norm_{name}_purified"] = -detector.score(purified(one, images, batch)).numpy()
    found["validation_norm_natural"] = -detector.score(validation.natural.images).numpy()
    found["validation_norm_adversarial"] = -detector.score(validation.adversarial.images).numpy()
    return found


def purified(defense: adp.ADP, images: Tensor, batch: int) -> Tensor:
    """The images (N, C, H, W) after a purification, on the CPU."""
    import torch

    device = next(defense.parameters()).device
    return torch.cat([defense.purify(x.to(device)).cpu() for x in images.split(batch)])


def noise_facts(train: Tensor) -> Arrays:
    """What the training images say about noise: σ by the median heuristic, and Song & Ermon's σ_1 and L."""
    from robustgen.sampling.noise_levels import guidance

    guided = guidance(train)
    return {
        "median_sigma": np.array(adp.sigma_of(train)),
        "guided_sigma_first": np.array(guided.first),
        "guided_levels": np.array(guided.levels),
    }


def level_facts(score: Any, images: Tensor, options: Options) -> Arrays:
    """The noise levels (L,), and the loss per pixel on images at each of them; 1 is a network that knows nothing."""
    from robustgen.training.dsm import level_losses

    losses = level_losses(score, images, options.seed).numpy()
    if not np.isfinite(losses).all():
        raise UserError(f"{options.score}: its losses are not finite; train the network again")
    return {"levels": score.sigmas.cpu().numpy(), "level_loss": losses}


def sampler_step(score: ScoreModel, options: Options) -> float:
    """ε of annealed Langevin dynamics."""
    from robustgen.sampling.noise_levels import langevin_step

    return options.sampler_step or langevin_step(score.sigmas.cpu(), options.sampler_steps)


def samples(score: ScoreModel, shape: Sequence[int], options: Options) -> np.ndarray:
    """(samples, C, H, W) by annealed Langevin dynamics from uniform noise; sample i has the random stream i."""
    import torch

    from robustgen.sampling.annealed import annealed_langevin
    from robustgen.sampling.langevin import stream_noise
    from robustgen.seeding import ImageStreams, derive

    if not options.samples:
        return np.empty((0, *shape), np.float32)
    device, step = score.sigmas.device, sampler_step(score, options)
    parts = torch.arange(options.samples).split(options.batch)
    total = len(parts) * len(score.sigmas)
    bar = progress(range(total), total=total, label=f"{options.out.stem} samples", unit="level")
    drawn = []
    for rows in parts:
        streams = ImageStreams(derive(options.seed, "samples"), rows.tolist(), device)
        drawn.append(
            annealed_langevin(
                score.score,
                streams.uniform(shape).contiguous(memory_format=torch.channels_last),
                score.sigmas,
                stream_noise(streams, shape, 1, device),
                step=step,
                steps=options.sampler_steps,
                denoise=options.denoise,
                callback=lambda *_: next(bar, None),  # type: ignore[arg-type]
            ).cpu()
        )
    for _ in bar:
        pass
    found = torch.cat(drawn).contiguous().numpy()
    if not np.isfinite(found).all():
        raise UserError(
            f"{options.score}: samples are not finite; train the network longer, or give a smaller sampler_step"
        )
    return found


def drifts(images: Tensor, defense: adp.Options) -> Arrays:
    """Contrast after t = 0..T purification steps with a score of 0, relative to the start, (T + 1,).

    `drift_paper` stays 1. `drift` is the released code's, whose pixel grid is entered once but left at every step;
    pixels near 0 and 1 are clipped on the way, which hides it on images of little else. `drift_grey` is that of the
    images 0.25 + x/2, which have none, so that it is a property of the grid alone: (256/255)^(t − 1).
    Contrast is the root mean square of x − 0.5 over all images.
    """
    released = replace(defense, fidelity="released")
    return {
        "drift": contrasts(images, released),
        "drift_grey": contrasts(0.25 + images / 2, released),
        "drift_paper": contrasts(images, replace(defense, fidelity="paper")),
    }


def contrasts(images: Tensor, defense: adp.Options) -> np.ndarray:
    """Contrast of images purified with a score of 0."""
    import torch

    from robustgen.sampling.purification import follow

    seen = [images]
    scheme = replace(defense, step=1.0, updates="deterministic").scheme()  # a fixed step: an adaptive one would be none
    follow(torch.zeros_like, images, scheme, callback=lambda _, x: seen.append(x))
    squares = torch.stack([(x.double() - 0.5).square().mean() for x in seen])
    return (squares / squares[0]).sqrt().numpy()


def tuned(classifier: nn.Module, score: nn.Module, validation: Pairs, options: Options) -> Arrays:
    """Which of V validation images are classified correctly after T noiseless steps of each of A fixed sizes α.

    tuning_alpha float64 (A,), tuning_natural and tuning_adversarial bool (A, V).
    """
    found = np.zeros((2, len(options.tuning), len(validation.rows)), bool)
    label = f"{options.out.stem} tuning"
    for a, step in enumerate(progress(options.tuning, total=len(options.tuning), label=label, unit="step size")):
        defense = quiet(classifier, score, options, step=step)
        for verdicts, images in zip(found, (validation.natural, validation.adversarial), strict=True):
            verdicts[a] = (predicted(defense, images.images, options.batch) == images.labels).numpy()
    return {
        "tuning_alpha": np.array(options.tuning, np.float64),
        "tuning_natural": found[0],
        "tuning_adversarial": found[1],
    }


def predicted(defense: adp.ADP, images: Tensor, batch: int) -> Tensor:
    """(N,) labels that the defence gives to images, on the CPU; UserError where its logits are not finite."""
    import torch

    from robustgen.replicates import check_finite

    device = next(defense.parameters()).device
    found = []
    for x in images.split(batch):
        with torch.no_grad():
            logits = defense(x.to(device))
        check_finite(logits, "logits of purified images", "; train the classifier again")
        found.append(logits.argmax(1).cpu())
    return torch.cat(found)
