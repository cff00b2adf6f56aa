"""Tables, figures, claims and coverage of Ju & Wagner 2020, from what was measured at one scale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from robustgen.evaluation.rows import Row
    from robustgen.papers.e_abs import measured as m
    from robustgen.papers.e_abs.study import Curve


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The five models on one data set."""

    dataset: str = ""  # mnist, digits16, ...; "": the section is left out
    cnn: str = ""  # E-ABS's encoder as a classifier
    adv_linf: str = ""  # the same, trained adversarially in L∞
    adv_l2: str = ""  # in L2
    abs: str = ""  # variational autoencoders, exact inference
    e_abs: str = ""  # all three extensions
    natural: str = ""  # folder of studies of the same names on more images, for accuracy without attack


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Sec. 4.4: the three extensions one by one."""

    dataset: str = ""  # svhn, digits16, ...; "": the section is left out
    abs: str = ""  # none of them
    a: str = ""  # adversarial autoencoders
    d: str = ""  # discriminative loss and shared encoder
    v: str = ""  # variational inference
    ad: str = ""
    av: str = ""
    dv: str = ""
    adv: str = ""  # all three: E-ABS


@dataclass(frozen=True, kw_only=True)
class Sweeps:
    """Appendix B: E-ABS under L∞ PGD of various settings."""

    dataset: str = ""  # svhn, digits16, ...; "": the section is left out
    eot: str = ""  # samples that the attacker averages (Table 6)
    restarts: str = ""  # random starts (Table 7)
    steps: str = ""  # steps (Table 8)


@dataclass(frozen=True, kw_only=True)
class GradientFree:
    """Sec. 5: E-ABS under attacks without gradients, and under PGD on the same images."""

    dataset: str = ""  # svhn, digits16, ...; "": the section is left out
    study: str = ""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """E-ABS by choices that the paper leaves open."""

    dataset: str = ""  # digits16, ...; "": the section is left out
    studies: tuple[str, ...] = ()  # the first: the choices taken everywhere else
    labels: tuple[str, ...] = ()  # what is other in each of them


Section = TypeVar("Section", Comparison, Ablation, Sweeps, GradientFree, Sensitivity)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Studies are files below the first folder, without suffix; "" or none: the scale does without."""

    attacks: Path  # folder of attack-synthesis files, whole (NAME.npz) or in shards (NAME.000.npz, ...)
    curves: Path  # folder of the training curves of train-autoencoder, CSV, each with the name of its model's file
    mnist: Comparison = field(default_factory=Comparison)  # Table 1
    fashion_mnist: Comparison = field(default_factory=Comparison)  # Table 2
    supertraffic: Comparison = field(default_factory=Comparison)  # Table 3
    svhn: Comparison = field(default_factory=Comparison)  # Table 4
    ablation: Ablation = field(default_factory=Ablation)  # Table 5
    curve: Comparison = field(default_factory=Comparison)  # PGD over radii (Fig. 3)
    sweeps: Sweeps = field(default_factory=Sweeps)  # Tables 6-8
    gradient_free: GradientFree = field(default_factory=GradientFree)
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    scale: str  # quick, desktop or paper; every result row carries it
    out: Path  # folder to write


def run(options: Options) -> None:
    from robustgen.papers.e_abs import PAPER
    from robustgen.papers.e_abs.claims import claims
    from robustgen.papers.e_abs.coverage import coverage
    from robustgen.papers.e_abs.figures import FIGURES
    from robustgen.papers.e_abs.tables import tables
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
        headline=headline(made),
        remark=remark(found, len(decided)),
    )


def remark(found: m.Measured, verdicts: int) -> str:
    """What all claims have in common: their level, and the data sets that the sections were run on."""
    from robustgen.papers.e_abs.words import SVHN

    here = {paper: made.dataset for paper, made in found.comparisons.items()}
    if found.ablation.dataset:
        here.setdefault(SVHN, found.ablation.dataset)
    where = [f"“{paper}” is what the paper does on it, run on {name}" for paper, name in here.items() if name != paper]
    level = (
        f"Each of the {verdicts} verdicts is at a 95 % level of its own, not corrected for their number, and of one "
        "training of each model"
    )
    return f". {'; '.join([level, *where])}."


def checked(section: Section, name: str) -> Section:
    """The names of a section's studies; UserError where there are some but no data set."""
    from robustgen.errors import UserError

    named = [role for role, value in vars(section).items() if value and role != "dataset"]
    if named and not section.dataset:
        raise UserError(f"{name} names {', '.join(named)} but no data set; give --{name.replace('_', '-')}.dataset")
    return section


def measured(options: Options) -> m.Measured:
    """Every study that the options name; UserError for one that is missing or damaged."""
    from robustgen.papers.e_abs import measured as m

    kinds: dict[str, type[Any]] = dict.fromkeys(
        ("mnist", "fashion_mnist", "supertraffic", "svhn", "curve"), m.Comparison
    )
    kinds |= {"ablation": m.Ablation, "sweeps": m.Sweeps, "gradient_free": m.GradientFree}
    found = {name: kind(**studies(options, name)) for name, kind in kinds.items()}
    found["sensitivity"] = sensitivity(options)
    everything = m.Measured(scale=options.scale, **found)
    return replace(everything, curves=curves(options.curves, everything))


def studies(options: Options, name: str) -> dict[str, Any]:
    """The studies of a section by role, and its data set as people write it."""
    from robustgen.papers.e_abs import measured as m
    from robustgen.papers.e_abs.loading import load_attacks
    from robustgen.papers.words import named

    section = checked(getattr(options, name), name)
    roles = {role: value for role, value in vars(section).items() if role not in ("dataset", "natural")}
    loaded = {role: load_attacks(options.attacks, study) if study else None for role, study in roles.items()}
    if folder := getattr(section, "natural", ""):
        more = {role: f"{folder}/{PurePath(study).name}" for role, study in roles.items() if study}
        found: dict[str, Any] = {
            role: load_attacks(options.attacks, study, natural=True) for role, study in more.items()
        }
        return {"dataset": named(section.dataset), **loaded, "natural": m.Comparison(**found)}
    return {"dataset": named(section.dataset), **loaded}


def sensitivity(options: Options) -> m.Sensitivity:
    """The studies of open choices; UserError where they have not a label each."""
    from robustgen.errors import UserError
    from robustgen.papers.e_abs.loading import load_attacks
    from robustgen.papers.e_abs.measured import Sensitivity as FoundSensitivity
    from robustgen.papers.words import named

    section = checked(options.sensitivity, "sensitivity")
    if len(section.studies) != len(set(section.labels)) or len(section.labels) != len(section.studies):
        raise UserError(
            f"sensitivity names {len(section.studies)} studies and {len(set(section.labels))} different labels; "
            "give --sensitivity.labels one for each"
        )
    return FoundSensitivity(
        dataset=named(section.dataset),
        studies=tuple(load_attacks(options.attacks, name) for name in section.studies),
        labels=section.labels,
    )


def curves(folder: Path, found: m.Measured) -> dict[str, Curve]:
    """The training curves of the autoencoders of Tables 1-5, by name; UserError for one that is missing or damaged."""
    from robustgen.papers.e_abs.loading import load_curve
    from robustgen.papers.e_abs.words import by_synthesis

    trained = [study for made in found.tables.values() for study in made.models.values()]
    trained += found.ablation.variants.values()
    names = dict.fromkeys(study.model for study in trained if by_synthesis(study.config))
    return {name: load_curve(folder, name) for name in names}


def headline(made: dict[str, list[Row]]) -> dict[str, float]:
    """A handful of numbers of Tables 1-5, of E-ABS and what it is compared with."""
    from robustgen.papers.e_abs import words as w

    shown: dict[str, tuple[str, str, str]] = {}
    for paper, item in w.TABLES.items():
        for kind in (w.CLEAN, *map(w.all_line, w.NORM_ORDER)):
            for model in (w.ABS, w.E_ABS) if kind == w.CLEAN else (w.ADV_LINF, w.ADV_L2, w.ABS, w.E_ABS):
                shown[f"{paper}'s recipe: {model}, {kind} %"] = (item.lower().replace(" ", ""), kind, model)
    for variant in w.VARIANTS:
        shown[f"Ablation: {variant}, {w.CLEAN} %"] = ("table5", variant, w.CLEAN)
    cells = {(name, row.row, row.column): row.value for name, rows in made.items() for row in rows}
    return {name: round(value, 4) for name, cell in shown.items() if (value := cells.get(cell)) is not None}
