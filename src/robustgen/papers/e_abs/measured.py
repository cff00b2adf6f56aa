"""Everything measured at one scale, and what the tables, figures and claims ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np

from robustgen.evaluation.statistics import holm, mcnemar
from robustgen.papers.e_abs.study import AttackStudy, Curve
from robustgen.papers.e_abs.words import (
    ABS,
    ADV_L2,
    ADV_LINF,
    ALL_THREE,
    CLEAN,
    CNN,
    E_ABS,
    FASHION,
    MNIST,
    NORM_ORDER,
    PAPERS_ATTACKS,
    SVHN,
    TRAFFIC,
    all_line,
    is_random,
    line,
)
from robustgen.papers.studies import common

Pair = tuple[str, str]  # two models


def on_common_images(studies: Mapping[str, AttackStudy | None]) -> dict[str, AttackStudy]:
    """Those of the studies that are there, each of the images that all of them saw, in one order."""
    there = {label: study for label, study in studies.items() if study is not None}
    if not there:
        return {}
    rows = common(list(there.values()))
    return {label: study.at(chosen) for (label, study), chosen in zip(there.items(), rows, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The five models of Tables 1-4 on one data set; None where the scale does without."""

    dataset: str = ""  # as people write it; "" where the section was not run
    cnn: AttackStudy | None = None
    adv_linf: AttackStudy | None = None
    adv_l2: AttackStudy | None = None
    abs: AttackStudy | None = None
    e_abs: AttackStudy | None = None
    natural: Comparison | None = None  # the same models on more images, for accuracy without attack

    @cached_property
    def models(self) -> dict[str, AttackStudy]:
        """The models that were attacked, in the paper's order, on the images that all of them saw."""
        found = {CNN: self.cnn, ADV_LINF: self.adv_linf, ADV_L2: self.adv_l2, ABS: self.abs, E_ABS: self.e_abs}
        return on_common_images(found)

    @property
    def clean(self) -> dict[str, AttackStudy]:
        """The models, on the images by which their accuracy without attack is told."""
        return self.models if self.natural is None else self.natural.models

    def main_eps(self, norm: str) -> float | None:
        """The tables' radius in a norm, that of the last of the models attacked in it; None where none was."""
        radii = [study.main_eps(norm) for study in self.models.values() if norm in study.norms]
        return radii[-1] if radii else None

    @property
    def kinds(self) -> list[str]:
        """The lines of Tables 1-4 of the paper's attacks that some model has: Clean, L∞ PGD, ..., All L2."""
        names = [CLEAN]
        for norm in NORM_ORDER:
            names += [*(line(norm, attack) for attack in PAPERS_ATTACKS[norm]), all_line(norm)]
        return [name for name in names if self.correct(name)]

    def correct(self, kind: str) -> dict[str, np.ndarray]:
        """Which images (N,) each model has right: naturally (Clean), under an attack of the tables' radius (L∞ PGD),
        or under all of a norm together (All L∞; All L∞, with ours). Models that were not so attacked are left out.
        """
        if kind == CLEAN:
            return {label: study.natural for label, study in self.clean.items()}
        for norm in NORM_ORDER:
            for ours in (False, True):
                if kind == all_line(norm, ours=ours):
                    return self._together(norm, ours=ours)
        return {label: study.robust(point) for label, (study, point) in self.attacked(kind).items()}

    def _together(self, norm: str, *, ours: bool) -> dict[str, np.ndarray]:
        """Those under the paper's attacks of a norm; with `ours` those that others were made on, under all of them."""
        eps, found = self.main_eps(norm), {}
        for label, study in self.models.items() if eps is not None else ():
            papers = len(study.counted(norm, eps))
            if len(study.counted(norm, eps, ours=True)) > papers if ours else papers:
                found[label] = study.worst(norm, eps, ours=ours)
        return found

    def attacked(self, kind: str) -> dict[str, tuple[AttackStudy, int]]:
        """The models under one attack of the tables' radius (L∞ PGD), each with its grid point."""
        found = {}
        for norm in NORM_ORDER:
            eps = self.main_eps(norm)
            for label, study in self.models.items():
                for attack in study.attacks(norm, eps) if eps is not None and norm in study.norms else []:
                    if line(norm, attack) == kind:
                        found[label] = study, study.point(attack=attack, norm=norm, eps=eps)
        return found

    def tested(self, kind: str) -> dict[Pair, float]:
        """McNemar's exact p-value of every pair of models, by Holm's method over these pairs."""
        found = self.raw(kind)
        return dict(zip(found, holm(list(found.values())).tolist(), strict=True)) if found else {}

    def raw(self, kind: str) -> dict[Pair, float]:
        """McNemar's exact p-value of every pair of models, as they are."""
        right = self.correct(kind)
        return {(a, b): mcnemar(right[a], right[b]) for a, b in combinations(right, 2)}


@dataclass(frozen=True)
class Bounded:
    """A model whose bound ε* (Eq. 7) was computed."""

    paper: str  # the paper's name of the data set whose table it is of; "" of the ablation
    dataset: str
    name: str
    study: AttackStudy

    @property
    def assumed(self) -> bool:
        """Whether the model predicts as the bound assumes: by exact inference."""
        return not is_random(self.study.config)


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Sec. 4.4: every combination of the three extensions; None where the scale does without."""

    dataset: str = ""
    abs: AttackStudy | None = None  # none of them
    a: AttackStudy | None = None
    d: AttackStudy | None = None
    v: AttackStudy | None = None
    ad: AttackStudy | None = None
    av: AttackStudy | None = None
    dv: AttackStudy | None = None
    adv: AttackStudy | None = None  # all three: E-ABS

    @cached_property
    def variants(self) -> dict[str, AttackStudy]:
        """The models that were attacked, as Table 5 calls and orders them, on the images that all of them saw."""
        found = {"ABS": self.abs, "A-ABS": self.a, "D-ABS": self.d, "V-ABS": self.v, "AD-ABS": self.ad}
        found |= {"AV-ABS": self.av, "DV-ABS": self.dv, ALL_THREE: self.adv}
        return on_common_images(found)


@dataclass(frozen=True, kw_only=True)
class Sweeps:
    """Appendix B: E-ABS under L∞ PGD of various settings; None where the scale does without."""

    dataset: str = ""
    eot: AttackStudy | None = None  # Table 6
    restarts: AttackStudy | None = None  # Table 7
    steps: AttackStudy | None = None  # Table 8


@dataclass(frozen=True, kw_only=True)
class GradientFree:
    """Sec. 5: E-ABS under attacks without gradients, and under PGD on the same images."""

    dataset: str = ""
    study: AttackStudy | None = None


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """E-ABS by choices that the paper leaves open; the first is the one taken."""

    dataset: str = ""
    studies: tuple[AttackStudy, ...] = ()
    labels: tuple[str, ...] = ()

    @cached_property
    def choices(self) -> dict[str, AttackStudy]:
        """The studies by label, on the images that all of them saw."""
        return on_common_images(dict(zip(self.labels, self.studies, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything measured at one scale."""

    scale: str
    mnist: Comparison = Comparison()
    fashion_mnist: Comparison = Comparison()
    supertraffic: Comparison = Comparison()
    svhn: Comparison = Comparison()
    ablation: Ablation = Ablation()
    curve: Comparison = Comparison()  # PGD over radii (Fig. 3)
    sweeps: Sweeps = Sweeps()
    gradient_free: GradientFree = GradientFree()
    sensitivity: Sensitivity = Sensitivity()
    curves: Mapping[str, Curve] = field(default_factory=dict)  # training curves of autoencoders, by the model's name

    def curve_of(self, study: AttackStudy) -> Curve | None:
        """The training curve of a study's model; None of a classifier, and where none was named."""
        return self.curves.get(study.model)

    @property
    def tables(self) -> dict[str, Comparison]:
        """The comparisons of Tables 1-4 by the paper's name of their data set, whether run or not."""
        return {MNIST: self.mnist, FASHION: self.fashion_mnist, TRAFFIC: self.supertraffic, SVHN: self.svhn}

    @property
    def bounded(self) -> list[Bounded]:
        """The models of Tables 1-4 whose bound was computed, then those of the ablation, of any file once."""
        found = [Bounded(paper, made.dataset, *each) for paper, made in self.comparisons.items()
                 for each in made.models.items()]  # fmt: skip
        found += [Bounded("", self.ablation.dataset, *each) for each in self.ablation.variants.items()]
        files = {each.study.name: each for each in reversed(found)}
        return [each for each in found if each.study.bound is not None and files[each.study.name] is each]

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """Those that were run: each may be on another data set, which it names itself."""
        return {paper: comparison for paper, comparison in self.tables.items() if comparison.dataset}
