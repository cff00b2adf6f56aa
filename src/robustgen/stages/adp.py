"""Tables, figures, claims and coverage of Yoon, Hwang & Lee 2021, from what was measured at one scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from robustgen.evaluation.rows import Claim, Row
    from robustgen.papers.adp.measured import Measured
    from robustgen.papers.adp.study import Corrupted, ScoreDefense

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Studies are files below the five folders, without suffix; "" or none: the scale does without."""

    defense: Path  # folder of defence files, whole (NAME.npz) or in shards (NAME.000.npz, ...)
    scores: Path  # folder of score files
    certification: Path  # folder of certification files
    corruptions: Path  # folder of accuracies on corrupted images
    purification: Path  # folder of purification files
    dataset: str  # of everything but Sec. 5.1.5: cifar10, digits16, ...
    short: int = 10  # purification steps T at which the models of Figure 2 are compared
    attacks: tuple[str, ...] = ()  # ADP at the usual σ; the first that holds an attack says what it does
    deterministic: tuple[str, ...] = ()  # the same at σ 0
    longer: str = ""  # BPDA+EOT of more updates
    reevaluation: str = ""  # APGD+EOT as Croce et al. 2022 ran it: 10 updates, 200 draws, margin loss
    control: str = ""  # BPDA+EOT of radius 0; "": among the attacks
    blind: str = ""  # PGD on the classifier alone, at the usual σ; "": among the attacks
    small: str = ""  # the same at a smaller σ
    released: str = ""  # BPDA+EOT on the released code's choices
    ml_langevin: str = ""  # sweeps over T: energy-based model, Langevin updates
    ml_deterministic: str = ""  # energy-based model, deterministic updates
    dsm_langevin: str = ""  # score network, Langevin updates
    dsm_deterministic: str = ""  # score network, deterministic updates
    eot: str = ""  # sweep over the EOT draws
    raw: str = ""  # PGD on the classifier without purification, by `robustgen defend`
    at: str = ""  # PGD on the adversarially trained classifier, by `robustgen defend`
    hill: str = ""  # Hill et al.'s defence under PGD on the classifier, by `robustgen purify`
    norms: str = ""  # scores: norms, noise levels, samples
    certified: str = ""  # certification of ADP
    cohen: tuple[str, ...] = ()  # of classifiers trained with Gaussian noise, one a σ
    corrupted: tuple[str, ...] = ()  # corrupted images: ADP of all σ, with and without detection
    corrupted_raw: str = ""  # the classifier alone
    corrupted_dct: str = ""  # ADP at σ 0 whose score network was trained on DCT perturbations
    corrupted_augmix: str = ""  # on AugMix's
    corrupted_both: str = ""  # on both
    corrupted_cohen: str = ""  # the classifier trained with Gaussian noise
    corrupted_at: str = ""  # the adversarially trained classifier
    others: tuple[str, ...] = ()  # data sets of Sec. 5.1.5; their defence files are called so
    scale: str  # quick, desktop or paper; every result row carries it
    out: Path  # folder to write


def run(options: Options) -> None:
    from robustgen.papers.adp import PAPER
    from robustgen.papers.adp.claims import claims
    from robustgen.papers.adp.coverage import coverage
    from robustgen.papers.adp.figures import FIGURES
    from robustgen.papers.adp.tables import tables
    from robustgen.papers.results import save_results

    found = measured(options)
    made, decided = tables(found), claims(found)
    save_results(
        options.out,
        PAPER,
        found,
        tables=made,
        figures=FIGURES,
        claims=decided,
        coverage=coverage(found),
        headline=headline(made, decided),
        remark=f". Each of the {len(decided)} verdicts is at a 95 % level of its own, not corrected for their number.",
    )


def measured(options: Options) -> Measured:
    """Every study that the options name; UserError for one that is missing or damaged."""
    from robustgen.papers.adp import study
    from robustgen.papers.adp.measured import Measured
    from robustgen.papers.langevin import load_defense, load_purification
    from robustgen.papers.words import named

    def one(load: Callable[[Path, str], Found], folder: Path, name: str) -> Found | None:
        return load(folder, name) if name else None

    def defense(name: str) -> ScoreDefense | None:
        return one(study.load_score_defense, options.defense, name)

    def corrupted(name: str) -> Corrupted | None:
        return one(study.load_corrupted, options.corruptions, name)

    o = options
    return Measured(
        dataset=named(o.dataset),
        scale=o.scale,
        short=o.short,
        attacks=tuple(study.load_score_defense(o.defense, name) for name in o.attacks),
        deterministic=tuple(study.load_score_defense(o.defense, name) for name in o.deterministic),
        longer=defense(o.longer),
        reevaluation=defense(o.reevaluation),
        control_of=defense(o.control),
        blind=defense(o.blind),
        small=defense(o.small),
        released=defense(o.released),
        ml_langevin=defense(o.ml_langevin),
        ml_deterministic=defense(o.ml_deterministic),
        dsm_langevin=defense(o.dsm_langevin),
        dsm_deterministic=defense(o.dsm_deterministic),
        eot=defense(o.eot),
        raw=one(load_defense, o.defense, o.raw),
        trained=one(load_defense, o.defense, o.at),
        hill=one(load_purification, o.purification, o.hill),
        scores=one(study.load_scores, o.scores, o.norms),
        certified=one(study.load_certification, o.certification, o.certified),
        cohen=tuple(study.load_certification(o.certification, name) for name in o.cohen),
        corrupted=tuple(study.load_corrupted(o.corruptions, name) for name in o.corrupted),
        corrupted_raw=corrupted(o.corrupted_raw),
        corrupted_dct=corrupted(o.corrupted_dct),
        corrupted_augmix=corrupted(o.corrupted_augmix),
        corrupted_both=corrupted(o.corrupted_both),
        corrupted_cohen=corrupted(o.corrupted_cohen),
        corrupted_trained=corrupted(o.corrupted_at),
        others=tuple((named(name), study.load_score_defense(o.defense, name)) for name in o.others),
    )


def headline(made: dict[str, list[Row]], decided: list[Claim]) -> dict[str, float]:
    """A handful of numbers."""
    from robustgen.papers.adp.tables import lines as t

    shown = {
        "accuracy without defence under PGD %": ("table2", t.RAW, t.ROBUST),
        "natural accuracy of ADP %": ("table3", t.BPDA, t.NATURAL),
        "ADP under blind PGD %": ("table2", t.ADP, t.ROBUST),
        "ADP under BPDA+EOT %": ("table3", t.BPDA, t.ROBUST),
        "ADP under APGD+EOT %": ("table3", f"{t.ADP}: {t.UNDER['apgd']}", t.ROBUST),
        "ADP under APGD+EOT, as in the re-evaluation %": ("table3", t.REEVALUATION, t.ROBUST),
        "ADP under the worst of all attacks %": ("table3", t.WORST, t.ROBUST),
        "ADP under the worst of all attacks but SPSA %": ("table3", t.WORST_BUT_SPSA, t.ROBUST),
        "false breaks at zero radius %": ("table3", t.CONTROL, t.FALSE_BREAKS),
        "adversarial training under PGD %": ("table3", t.TRAINED_PGD, t.ROBUST),
        "ADP on common corruptions %": ("table4", t.ADP, t.ACCURACY),
    }
    cells = {(name, row.row, row.column): row.value for name, rows in made.items() for row in rows}
    numbers = {name: round(value, 2) for name, cell in shown.items() if (value := cells.get(cell)) is not None}
    areas = {claim.id: claim.value for claim in decided}
    if (area := areas.get("score-norms-separate")) is not None:
        numbers["AUC of the score norm"] = round(area, 4)
    return numbers
