"""Everything measured at one scale, and what the tables, figures and claims ask of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustgen.errors import UserError
from robustgen.papers.adp.study import (
    Certification,
    Corrupted,
    Corruptions,
    ScoreDefense,
    Scores,
    first_row,
)
from robustgen.papers.adp.words import ATTACKS, ELSEWHERE, REEVALUATED
from robustgen.papers.langevin import Defense, Purification
from robustgen.papers.studies import PER_IMAGE, Attacked, Grid, OfImages, common
from robustgen.papers.words import pixels


@dataclass(frozen=True)
class Worst:
    """ADP under several attacks at once: an image withstands them where it withstands each."""

    names: tuple[str, ...]  # of the attacks
    tried: tuple[Attacked, ...]
    rows: tuple[np.ndarray, ...]  # of each, its rows of the images that all of them saw

    @property
    def robust(self) -> np.ndarray:
        """Which images (N,) withstand every attack."""
        verdicts = [each.robust[rows] for each, rows in zip(self.tried, self.rows, strict=True)]
        return np.asarray(np.all(verdicts, axis=0))

    @property
    def natural(self) -> np.ndarray:
        """Which natural images (N,) are right in every attack's run, each by draws of its own."""
        verdicts = [each.natural[rows] for each, rows in zip(self.tried, self.rows, strict=True)]
        return np.asarray(np.all(verdicts, axis=0))

    @property
    def images(self) -> OfImages:
        """These images, to be matched with another study's."""
        arrays, rows = self.tried[0].study.arrays, self.rows[0]
        return OfImages("worst of the attacks", {name: arrays[name][rows] for name in PER_IMAGE})

    @property
    def singly(self) -> str:
        """What each attack alone leaves of these images."""
        shares = [float(np.mean(each.robust[rows])) for each, rows in zip(self.tried, self.rows, strict=True)]
        return ", ".join(f"{name} {share:.1%}" for name, share in zip(self.names, shares, strict=True))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything measured at one scale; None or empty where the scale does without."""

    dataset: str  # as people write it
    scale: str
    short: int = 10  # T at which few-step purifications are compared
    attacks: tuple[ScoreDefense, ...] = ()  # ADP at the usual σ, every attack of Table 3 in one of them
    deterministic: tuple[ScoreDefense, ...] = ()  # ADP at σ 0
    longer: ScoreDefense | None = None  # BPDA of more updates
    reevaluation: ScoreDefense | None = None  # APGD+EOT as Croce et al. 2022 ran it
    control_of: ScoreDefense | None = None  # attacks of radius 0
    blind: ScoreDefense | None = None  # PGD on the classifier, at the usual σ
    small: ScoreDefense | None = None  # and at a smaller one
    released: ScoreDefense | None = None  # the released code's choices
    ml_langevin: ScoreDefense | None = None  # sweeps over T: energy-based model, Langevin or deterministic updates
    ml_deterministic: ScoreDefense | None = None
    dsm_langevin: ScoreDefense | None = None  # the same of the score network
    dsm_deterministic: ScoreDefense | None = None
    eot: ScoreDefense | None = None  # sweep over the EOT draws
    raw: Defense | None = None  # the classifier alone under PGD
    trained: Defense | None = None  # adversarial training under PGD
    hill: Purification | None = None  # Hill et al.'s defence under blind PGD
    scores: Scores | None = None
    certified: Certification | None = None  # ADP
    cohen: tuple[Certification, ...] = ()  # classifiers trained with Gaussian noise
    corrupted: tuple[Corrupted, ...] = ()  # ADP, all σ
    corrupted_raw: Corrupted | None = None
    corrupted_dct: Corrupted | None = None  # score networks trained on other perturbations
    corrupted_augmix: Corrupted | None = None
    corrupted_both: Corrupted | None = None
    corrupted_cohen: Corrupted | None = None
    corrupted_trained: Corrupted | None = None
    others: tuple[tuple[str, ScoreDefense], ...] = ()  # data set, ADP under BPDA: Sec. 5.1.5

    @property
    def eps(self) -> float:
        """The radius of the tables, L∞ in [0, 1]: the only positive one of the first study of attacks."""
        others = (self.blind, self.dsm_deterministic, self.eot, self.raw)
        studies: list[Grid] = [*self.attacks, *self.deterministic, *(study for study in others if study is not None)]
        if not studies:
            raise UserError("no study says the tables' radius; name one with --attacks")
        radii = [eps for eps in studies[0].values("eps", norm="linf") if eps > 0]
        if len(radii) != 1:
            raise UserError(
                f"defence study {studies[0].name!r} must hold exactly one positive L∞ radius, that of the tables, not "
                f"{', '.join(map(pixels, radii)) or 'none'}"
            )
        return float(radii[0])

    def against(self, attack: str, *, noise: bool = True) -> Attacked | None:
        """ADP at the usual σ, or without noise, under an attack; None where it was not made."""
        studies = self.attacks if noise else self.deterministic
        if attack == "classifier" and noise and self.blind is not None:
            studies = (self.blind, *studies)
        return next((found for study in studies if (found := self.under(study, attack)) is not None), None)

    def under(self, study: Grid | None, attack: str = "bpda", **fixed: object) -> Attacked | None:
        """A study under an attack of the tables' radius; None without the study, or where it lacks the attack."""
        if study is None:
            return None
        wanted = {"norm": "linf", "eps": self.eps, **fixed} | ({"attack": attack} if "attack" in study.COLUMNS else {})
        return Attacked(study, study.point(**wanted)) if study.has(**wanted) else None

    @property
    def control(self) -> Attacked | None:
        """BPDA+EOT of radius 0, which should break nothing."""
        wanted = {"attack": "bpda", "norm": "linf", "eps": 0.0}
        studies = [study for study in (self.control_of, *self.attacks) if study is not None and study.has(**wanted)]
        return Attacked(studies[0], studies[0].point(**wanted)) if studies else None

    def all_attacks(self) -> dict[str, Attacked]:
        """ADP at the usual σ under everything that was tried, by name: every attack once, and the repeated ones."""
        tried = {kind.name: self.against(attack) for attack, kind in ATTACKS.items()}
        if (longer := self.under(self.longer)) is not None:
            tried[f"{ATTACKS['bpda'].name} of {longer.study.attack_steps} updates"] = longer
        tried[REEVALUATED] = self.under(self.reevaluation, "apgd")
        return {name: found for name, found in tried.items() if found is not None}

    def worst(self, *, spsa: bool = True) -> Worst | None:
        """The worst of all attacks, or of all but SPSA, over the images that these saw; None without two of them."""
        tried = {name: found for name, found in self.all_attacks().items() if spsa or name != ATTACKS["spsa"].name}
        if len(tried) < 2:
            return None
        return Worst(tuple(tried), tuple(tried.values()), tuple(common([found.study for found in tried.values()])))

    @property
    def widest(self) -> Worst | None:
        """The worst case of the claims: SPSA, whose queries cost most, counts only where it loses no image."""
        every, others = self.worst(), self.worst(spsa=False)
        return others if others is not None and every is not None and len(others.robust) > len(every.robust) else every

    def noise_levels(self) -> tuple[float | None, float | None]:
        """The usual σ of the corruption studies, that closest to the attacked defence's, and a smaller one beside it,
        closest to the smaller one that was attacked.
        """
        levels = sorted({sigma for study in self.corrupted for sigma in study.sigmas if sigma > 0})
        if not levels:
            return None, None
        wanted = self.attacks[0].sigma if self.attacks else levels[-1]
        usual = min(levels, key=lambda sigma: abs(sigma - wanted))
        below = [sigma for sigma in levels if sigma < usual]
        least = self.small.sigma if self.small is not None else 0.0
        return usual, min(below, key=lambda sigma: abs(sigma - least), default=None)

    @property
    def elsewhere(self) -> dict[str, ScoreDefense]:
        """Data sets under BPDA, as in Sec. 5.1.5: those that were named, and the main one where that section has it."""
        main = next((study for study in self.attacks if self.under(study) is not None), None)
        here = {self.dataset: main} if self.dataset.split(" ")[0] in ELSEWHERE and main is not None else {}
        return here | dict(self.others)

    def step_words(self, study: Grid) -> str:
        """Whether a fixed step of a study without noise is the best of those tried on validation images; "" unknown."""
        scores, step = self.scores, study.config.get("defense", {}).get("step")
        if scores is None or not scores.tuned or step is None:
            return ""
        tried = f"{len(scores['tuning_alpha'])} tried on validation images at T {scores.tuned_steps}"
        if np.isclose(step, scores.best_step):
            return f"its step is the best of the {tried}"
        return f"its step is not the best of the {tried}, which is α {scores.best_step:g}"

    def corruptions(self, sigma: float | None, *, detection: bool = False) -> Corruptions | None:
        """ADP of a noise level on corrupted images; None where it was not run."""
        if sigma is None:
            return None
        return first_row(self.corrupted, sigma, detection=detection)

    def rival(self, sigma: float) -> Certification | None:
        """Cohen et al.'s classifier for a noise level."""
        return next((study for study in self.cohen if study.has(sigma)), None)
