"""Tables, figures, claims and coverage of Yin, Kolouri & Rohde 2020, from what was measured at one scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from robustgen.evaluation.rows import Claim, Row
    from robustgen.papers.gat import measured as m

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Mnist:
    """Sec. 5.1: detectors trained from scratch, with Adam on the perturbation."""

    dataset: str = ""  # mnist, digits16, ...; "": the section is left out
    linf_small: str = ""  # each detector attacked alone, of a bank trained against L∞
    linf_large: str = ""  # against a larger L∞ radius
    l2_small: str = ""  # against L2
    l2_large: str = ""  # against a larger L2 radius
    detection: str = ""  # linf_small's detectors with a classifier, and a softmax rival
    distortion_small: str = ""  # least L2 distortion, linf_small's
    distortion_large: str = ""  # linf_large's
    synthesis: str = ""  # targeted perturbations, linf_small's
    synthesis_softmax: str = ""  # the rival's


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """Sec. 5.2: detectors fine-tuned from the classifier, with normalised steepest descent."""

    dataset: str = ""  # cifar10, digits16, ...; "": the section is left out
    large: str = ""  # each detector attacked alone, of the main bank
    small: str = ""  # trained against a smaller radius
    l2: str = ""  # against L2
    coarse: str = ""  # with too large a training step, in the ball of small or large, under its attacks (Table 17)
    small_curve: str = ""  # training history; "": that of small
    large_curve: str = ""  # "": that of large
    detection: str = ""  # large's detectors with a classifier, and a softmax rival
    distortion: str = ""  # least L2 distortion, large's
    synthesis: str = ""  # perturbed, generated and noise images, large's
    synthesis_softmax: str = ""  # the rival's
    synthesis_natural: str = ""  # the naturally trained classifier's
    synthesis_small: str = ""  # small's (Fig. 13)
    synthesis_wide: str = ""  # of detectors trained against a still larger radius (Figs. 14, 19); "": large's


@dataclass(frozen=True, kw_only=True)
class ImageNet:
    """App. C.3: a detector of dogs."""

    dataset: str = ""  # restricted-imagenet; "": the section is left out
    probe: str = ""  # the detector under attack (Table 18)
    synthesis: tuple[str, ...] = ()  # perturbed and generated images, in the order of Fig. 15; the last: largest radius
    synthesis_softmax: str = ""  # a softmax classifier's


Section = TypeVar("Section", Mnist, Cifar, ImageNet)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Studies are files below the six folders, without suffix; "" or none: the scale does without."""

    probes: Path  # folder of attack-detectors files, whole (NAME.npz) or in shards (NAME.000.npz, ...)
    detection: Path  # folder of defend-detectors files
    distortion: Path  # folder of distort files
    synthesis: Path  # folder of synthesize files
    density: Path  # folder of density files
    curves: Path  # folder of the training histories of train-gat, CSV
    mnist: Mnist = field(default_factory=Mnist)
    cifar: Cifar = field(default_factory=Cifar)
    imagenet: ImageNet = field(default_factory=ImageNet)
    densities: tuple[str, ...] = ()  # App. F: synthetic problems of one or two dimensions
    scale: str  # quick, desktop or paper; every result row carries it
    out: Path  # folder to write


def run(options: Options) -> None:
    from robustgen.papers.gat import PAPER
    from robustgen.papers.gat.claims import claims
    from robustgen.papers.gat.coverage import coverage
    from robustgen.papers.gat.figures import FIGURES
    from robustgen.papers.gat.tables import tables
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
        remark=remark(found, len(decided)),
    )


def remark(found: m.Measured, verdicts: int) -> str:
    """What all claims have in common: their level, and the data sets that the sections were run on."""
    sections = {"MNIST": found.mnist.dataset, "CIFAR-10": found.cifar.dataset}
    where = [f"“{paper}” is what the paper does on it, run on {here}" for paper, here in sections.items() if here]
    level = f"Each of the {verdicts} verdicts is at a 95 % level of its own, not corrected for their number"
    return f". {'; '.join([level, *where])}."


def one(load: Callable[[Path, str], Found], folder: Path, name: str) -> Found | None:
    """What a reader finds under a name, None where there is no name."""
    return load(folder, name) if name else None


def checked(section: Section) -> Section:
    """The names of a section's studies; UserError where there are some but no data set."""
    from robustgen.errors import UserError

    named = [name for name, value in vars(section).items() if value and name != "dataset"]
    if named and not section.dataset:
        kind = type(section).__name__.lower()
        raise UserError(f"{kind} names {', '.join(named)} but no data set; give --{kind}.dataset")
    return section


def measured(options: Options) -> m.Measured:
    """Every study that the options name; UserError for one that is missing or damaged."""
    from robustgen.papers.gat import loading
    from robustgen.papers.gat.measured import ImageNet as FoundImageNet
    from robustgen.papers.gat.measured import Measured
    from robustgen.papers.words import named

    o, imagenet = options, checked(options.imagenet)
    dogs = FoundImageNet(
        dataset=named(imagenet.dataset),
        probe=one(loading.load_probe, o.probes, imagenet.probe),
        synthesis=tuple(loading.load_synthesis(o.synthesis, name) for name in imagenet.synthesis),
        synthesis_softmax=one(loading.load_softmax, o.synthesis, imagenet.synthesis_softmax),
    )
    return Measured(
        scale=o.scale,
        mnist=mnist(o),
        cifar=cifar(o),
        imagenet=dogs,
        densities=tuple(loading.load_density(o.density, name) for name in o.densities),
    )


def mnist(options: Options) -> m.Mnist:
    """The studies of Sec. 5.1; UserError for one that is missing or damaged, or without a data set."""
    from robustgen.papers.gat import loading
    from robustgen.papers.gat.measured import Mnist as FoundMnist
    from robustgen.papers.words import named

    o, names = options, checked(options.mnist)
    return FoundMnist(
        dataset=named(names.dataset),
        linf_small=one(loading.load_probe, o.probes, names.linf_small),
        linf_large=one(loading.load_probe, o.probes, names.linf_large),
        l2_small=one(loading.load_probe, o.probes, names.l2_small),
        l2_large=one(loading.load_probe, o.probes, names.l2_large),
        detection=one(loading.load_detection, o.detection, names.detection),
        distortion_small=one(loading.load_distortion, o.distortion, names.distortion_small),
        distortion_large=one(loading.load_distortion, o.distortion, names.distortion_large),
        synthesis=one(loading.load_synthesis, o.synthesis, names.synthesis),
        synthesis_softmax=one(loading.load_softmax, o.synthesis, names.synthesis_softmax),
    )


def cifar(options: Options) -> m.Cifar:
    """The studies of Sec. 5.2; UserError for one that is missing or damaged, or without a data set."""
    from robustgen.papers.gat import loading
    from robustgen.papers.gat.measured import Cifar as FoundCifar
    from robustgen.papers.words import named

    o, names = options, checked(options.cifar)
    return FoundCifar(
        dataset=named(names.dataset),
        large=one(loading.load_probe, o.probes, names.large),
        small=one(loading.load_probe, o.probes, names.small),
        l2=one(loading.load_probe, o.probes, names.l2),
        coarse=one(loading.load_probe, o.probes, names.coarse),
        small_curve=one(loading.load_curve, o.curves, names.small_curve or names.small),
        large_curve=one(loading.load_curve, o.curves, names.large_curve or names.large),
        detection=one(loading.load_detection, o.detection, names.detection),
        distortion=one(loading.load_distortion, o.distortion, names.distortion),
        synthesis=one(loading.load_synthesis, o.synthesis, names.synthesis),
        synthesis_softmax=one(loading.load_softmax, o.synthesis, names.synthesis_softmax),
        synthesis_natural=one(loading.load_softmax, o.synthesis, names.synthesis_natural),
        synthesis_small=one(loading.load_synthesis, o.synthesis, names.synthesis_small),
        synthesis_wide=one(loading.load_synthesis, o.synthesis, names.synthesis_wide),
    )


def headline(made: dict[str, list[Row]], decided: list[Claim]) -> dict[str, float]:
    """A handful of numbers of either section."""
    from robustgen.papers.gat import words as w
    from robustgen.papers.gat.tables.detection import RADII, line_of, natural_line
    from robustgen.papers.gat.tables.lines import DISTORTION, ERROR, STANDARD

    shown = {
        "MNIST's recipe: AUC of d1 under a short attack": ("table1", f"{w.LINF_SMALL}, short attack", "d1"),
        "MNIST's recipe: AUC of d1 under a long attack": ("table1", f"{w.LINF_SMALL}, long attack", "d1"),
        "CIFAR-10's recipe: AUC of d1": ("table3", f"{w.LINF_LARGE}, attack 1", "d1"),
        "MNIST's recipe: mean L2 distortion": ("table2", f"generative detection, {w.LINF_SMALL}", DISTORTION),
        "CIFAR-10's recipe: mean L2 distortion": ("table4", f"generative detection, {w.LINF_LARGE}", DISTORTION),
    }
    for paper in (w.MNIST, w.CIFAR):
        for way in w.WAYS:
            line = line_of(paper, RADII[0], way, w.WORST)
            shown[f"{paper}'s recipe: FPR of {way} detection under the worst attacks %"] = ("detection", line, ERROR)
            accuracy = ("detection", natural_line(paper, way), STANDARD)
            shown[f"{paper}'s recipe: standard accuracy, {way} %"] = accuracy
        softmax = ("detection", line_of(paper, RADII[0], w.SOFTMAX, "PGD"), ERROR)
        shown[f"{paper}'s recipe: error of the softmax classifier under PGD %"] = softmax
    cells = {(name, row.row, row.column): row.value for name, rows in made.items() for row in rows}
    numbers = {name: round(value, 4) for name, cell in shown.items() if (value := cells.get(cell)) is not None}
    claimed = {
        "cifar-generated-images-are-recognisable-judged": "generated images recognised, detectors − softmax",
        "density-1d-recovered": "total variation to the density in one dimension",
        "density-2d-recovered": "total variation to the density in two dimensions",
    }
    values = {claim.id: claim.value for claim in decided}
    return numbers | {words: round(v, 4) for name, words in claimed.items() if (v := values.get(name)) is not None}
