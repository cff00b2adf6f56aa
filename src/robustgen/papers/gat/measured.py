"""Everything measured at one scale, and what the tables, figures and claims ask of it."""

from __future__ import annotations

from dataclasses import dataclass

from robustgen.papers.gat.probe import Probe
from robustgen.papers.gat.study import Curve, Density, Detection, Distortion, Synthesis
from robustgen.papers.gat.words import L2, L2_LARGE, L2_SMALL, LINF_LARGE, LINF_SMALL


@dataclass(frozen=True, kw_only=True)
class Mnist:
    """Sec. 5.1: four banks trained from scratch, of two radii in either norm; None where the scale does without."""

    dataset: str = ""  # as people write it; "" where the section was not run
    linf_small: Probe | None = None  # the paper's L∞ eps 0.3
    linf_large: Probe | None = None  # 0.5
    l2_small: Probe | None = None  # L2 eps 2.5
    l2_large: Probe | None = None  # 5.0
    detection: Detection | None = None  # linf_small's detectors
    distortion_small: Distortion | None = None  # linf_small's
    distortion_large: Distortion | None = None  # linf_large's
    synthesis: Synthesis | None = None  # linf_small's: targeted perturbations
    synthesis_softmax: Synthesis | None = None  # the same of the adversarially trained softmax classifier

    @property
    def probes(self) -> dict[str, Probe]:
        """The models that were attacked, by role, in the order of Table 1."""
        found = {
            LINF_SMALL: self.linf_small,
            LINF_LARGE: self.linf_large,
            L2_SMALL: self.l2_small,
            L2_LARGE: self.l2_large,
        }
        return {role: probe for role, probe in found.items() if probe is not None}


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """Sec. 5.2: detectors fine-tuned from the classifier's logits; None where the scale does without."""

    dataset: str = ""
    large: Probe | None = None  # the paper's L∞ eps 8/255
    small: Probe | None = None  # 2/255
    l2: Probe | None = None  # L2 eps 80/255
    coarse: Probe | None = None  # too large a training step, in the ball of small (the paper) or large (Table 17)
    small_curve: Curve | None = None
    large_curve: Curve | None = None
    detection: Detection | None = None  # large's detectors
    distortion: Distortion | None = None  # large's
    synthesis: Synthesis | None = None  # large's
    synthesis_softmax: Synthesis | None = None  # the adversarially trained softmax classifier
    synthesis_natural: Synthesis | None = None  # the naturally trained classifier
    synthesis_small: Synthesis | None = None  # small's (Fig. 13)
    synthesis_wide: Synthesis | None = None  # eps 16/255 (Figs. 14 and 19); None: large's stand in

    @property
    def widest(self) -> Synthesis | None:
        """The images of the detectors of the largest radius."""
        return self.synthesis_wide or self.synthesis

    @property
    def fine(self) -> Probe | None:
        """The model of small enough a training step, in the same ball as `coarse`."""
        same = (probe for probe in (self.small, self.large) if probe and self.coarse and probe.ball == self.coarse.ball)
        return next(same, None)

    @property
    def probes(self) -> dict[str, Probe]:
        """The models that were attacked, by role, without the one that was trained with too large a step."""
        found = {LINF_LARGE: self.large, LINF_SMALL: self.small, L2: self.l2}
        return {role: probe for role, probe in found.items() if probe is not None}


@dataclass(frozen=True, kw_only=True)
class ImageNet:
    """Appendix C.3; None or empty where the scale does without."""

    dataset: str = ""
    probe: Probe | None = None  # Table 18
    synthesis: tuple[Synthesis, ...] = ()  # in the order of Fig. 15; Figs. 16 and 18 show the last
    synthesis_softmax: Synthesis | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything measured at one scale."""

    scale: str
    mnist: Mnist = Mnist()
    cifar: Cifar = Cifar()
    imagenet: ImageNet = ImageNet()
    densities: tuple[Density, ...] = ()

    def density(self, dimensions: int) -> tuple[Density, ...]:
        """The studies of problems of so many dimensions."""
        return tuple(study for study in self.densities if study["logits"].ndim == 3 + dimensions)
