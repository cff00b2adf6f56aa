"""How far each item of the paper is reproduced at a scale, from what was measured there."""

from __future__ import annotations

from collections.abc import Mapping

from robustgen.evaluation.rows import Coverage
from robustgen.papers.coverage import drawing, line
from robustgen.papers.e_abs.measured import Comparison, Measured, Sweeps
from robustgen.papers.e_abs.tables.implemented import layers, networks
from robustgen.papers.e_abs.tables.settings import RADIUS, settings
from robustgen.papers.e_abs.tables.sweeps import OF_EOT, OF_STARTS, OF_STEPS, Sweep
from robustgen.papers.e_abs.words import (
    ATTACKS,
    E_ABS,
    GRADIENT_FREE,
    MNIST,
    MODELS,
    NORM_ORDER,
    PAPERS_ATTACKS,
    SVHN,
    TABLES,
    VARIANTS,
)
from robustgen.papers.e_abs.words import line as line_of
from robustgen.papers.reference import Number, reference
from robustgen.papers.studies import OfImages
from robustgen.papers.tables import Cell
from robustgen.papers.words import NORMS, plural

Parts = dict[str, bool]


def coverage(found: Measured) -> list[Coverage]:
    """One line per table and figure, and for the sections with numbers of their own."""
    known = reference("robustgen.papers.e_abs")
    every, few = (int(known[SVHN, row, "test images"].value) for row in ("all attacks", "sweep of steps"))
    sweeps = found.sweeps
    return [
        *(_compared(item, found.tables[paper], paper, known) for paper, item in TABLES.items()),
        *(_mcnemar(item, found.tables[paper], paper, known) for paper, item in TABLES.items()),
        _svhn("Table 5", "table5", "ablation", found.ablation.dataset, _ablated(found, every)),
        _svhn("Table 6", "table6", "samples of EOT", sweeps.dataset, _swept(OF_EOT, sweeps, known, every)),
        _svhn("Table 7", "table7", "random starts", sweeps.dataset, _swept(OF_STARTS, sweeps, known, every)),
        _svhn("Table 8", "table8", "steps", sweeps.dataset, _swept(OF_STEPS, sweeps, known, few)),
        *_networks(found, known),
        drawing("Figure 1"),
        drawing("Figure 2"),
        _svhn("Figure 3", "figure3", "accuracy by radius", found.curve.dataset, _curves(found.curve, every)),
        _examples("Figure 4", found.mnist, MNIST),
        _examples("Figure 5", found.svhn, SVHN),
        _bounds(found),
        _svhn(
            "Sec. 5", "gradient-free", "gradient-free attacks", found.gradient_free.dataset, _free(found, known, every)
        ),
        _cifar(),
    ]


def _svhn(item: str, where: str, what: str, dataset: str, parts: Mapping[str, bool]) -> Coverage:
    return line(item, what, where, parts, dataset=dataset, shown=SVHN)


def _compared(item: str, made: Comparison, paper: str, known: Mapping[Cell, Number]) -> Coverage:
    """Models, attacks with their settings, and images of one of Tables 1-4."""
    parts = {model: model in made.models for model in MODELS}
    if made.models:
        for norm in NORM_ORDER:
            for attack in PAPERS_ATTACKS[norm]:
                name = line_of(norm, attack)
                parts[name] = len(made.attacked(name)) == len(made.models)
        parts |= _images(int(known[paper, "all attacks", "test images"].value), *made.models.values())
        parts |= _attacks(made, paper, known)
    return line(item, "five models under all attacks", item.lower().replace(" ", ""), parts,
                dataset=made.dataset, shown=paper)  # fmt: skip


def _attacks(made: Comparison, paper: str, known: Mapping[Cell, Number]) -> Parts:
    """Whether the attacks on E-ABS had the paper's settings, on its data set its radii too."""
    parts: Parts = {}
    for norm in NORM_ORDER:
        for attack in PAPERS_ATTACKS[norm]:
            name = line_of(norm, attack)
            if E_ABS in (attacked := made.attacked(name)):
                for setting, here in settings(*attacked[E_ABS]).items():
                    wanted = known.get((paper, name, setting))
                    if wanted is None or (setting == RADIUS and made.dataset != paper):
                        continue
                    enough = abs(here - wanted.value) < 1e-5 if setting == RADIUS else here >= wanted.value
                    parts[f"{name} of {_of(setting, wanted.value)} (here {here:g})"] = enough
    return parts


def _of(setting: str, value: float) -> str:
    return f"radius {value:g}" if setting == RADIUS else f"{value:g} {setting}"


def _images(wanted: int, *studies: OfImages | None) -> Parts:
    """Whether every study that is there saw as many images as the paper; no part of an item without studies."""
    counts = [len(study.labels) for study in studies if study is not None]
    return {f"{wanted} test images (n {min(counts)})": min(counts) >= wanted} if counts else {}


def _mcnemar(item: str, made: Comparison, paper: str, known: Mapping[Cell, Number]) -> Coverage:
    """The tests of a table's models: as far as what they compare is the paper's."""
    parts = {model: model in made.models for model in MODELS}
    if made.models:
        parts |= {f"all attacks of {norm}": made.main_eps(key) is not None for key, norm in NORMS.items()}
        parts |= _images(int(known[paper, "all attacks", "test images"].value), *made.models.values())
        parts["attacks set as the paper's"] = all(_attacks(made, paper, known).values())
    return line(item, "McNemar's test", "mcnemar", parts, dataset=made.dataset, shown=paper)


def _ablated(found: Measured, images: int) -> Parts:
    there = found.ablation.variants
    parts = {variant: variant in there for variant in VARIANTS}
    if there:
        for norm in NORM_ORDER:
            parts[f"PGD in {NORMS[norm]}"] = all(study.main_point("pgd", norm) is not None for study in there.values())
    return parts | _images(images, *there.values())


def _swept(sweep: Sweep, section: Sweeps, known: Mapping[Cell, Number], images: int) -> Parts:
    """Whether every count of the paper's table was run; 0 steps are natural images."""
    study = sweep.study(section)
    there = [] if study is None else sweep.points(study)
    parts = {plural(count, sweep.word): count in there for count in sweep.papers(known) if count}
    return parts | _images(images, study)


def _networks(found: Measured, known: Mapping[Cell, Number]) -> list[Coverage]:
    """Table 9, by data set: whether the layers are the paper's."""
    lines = []
    for paper, (dataset, study) in networks(found).items():
        ours = {} if study is None else layers(study.parameters)
        parts = {"the network": bool(ours)}
        if ours:
            cells = [cell for cell, number in known.items() if cell[0] == paper and number.source.startswith("Table 9")]
            same = [ours.get(row, {}).get(column) == known[paper, row, column].value for _, row, column in cells]
            parts[f"the paper's layers ({sum(same)} of {len(same)} numbers agree)"] = all(same)
        here = dataset if ours else ""
        lines.append(line("Table 9", f"network for {paper}", "table9", parts, dataset=here, shown=paper))
    return lines


def _curves(made: Comparison, images: int) -> Parts:
    parts = {model: model in made.models for model in MODELS}
    if made.models:
        for norm in NORM_ORDER:
            least = min(len(study.radii("pgd", norm)) for study in made.models.values())
            parts[f"several radii in {NORMS[norm]} (here {least})"] = least > 1
    return parts | _images(images, *made.models.values())


def _examples(item: str, made: Comparison, paper: str) -> Coverage:
    study = made.e_abs
    there = study is not None and study.main_point("pgd", "l2") is not None and len(study.shown_images) > 0
    return line(item, "adversarial examples", item.lower().replace(" ", ""), {"E-ABS under L2 PGD": there},
                dataset=made.dataset, shown=paper)  # fmt: skip


def _bounds(found: Measured) -> Coverage:
    """Eq. 7, which the paper does not evaluate."""
    there = [each.dataset for each in found.bounded]
    note = "the paper gives no number; "
    note += f"estimated on {', '.join(dict.fromkeys(there))}" if there else "not estimated here"
    return Coverage(
        item="Sec. 3.4", what="lower bounds", status="reproduced" if there else "not at this scale", where="bounds",
        note=note,
    )  # fmt: skip


def _free(found: Measured, known: Mapping[Cell, Number], images: int) -> Parts:
    study = found.gradient_free.study
    parts: Parts = {}
    for attack, (name, norm) in GRADIENT_FREE.items():
        there = study is not None and study.has(attack=attack, norm=norm)
        parts[ATTACKS[attack]] = there
        if study is not None and there:
            wanted, here = int(known[SVHN, name, "steps"].value), study.options(study.point(attack=attack, norm=norm))
            parts[f"{ATTACKS[attack]} of {wanted} steps (here {here['steps']})"] = here["steps"] >= wanted
    return parts | _images(images, study)


def _cifar() -> Coverage:
    note = "one number, of natural images, for a network that the paper does not describe"
    return Coverage(item="Sec. 7", what="E-ABS on CIFAR-10", status="not at this scale", where="", note=note)
