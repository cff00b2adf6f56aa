"""Table 1: detection rates of the energy and of the two detectors the paper quotes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import Estimate, auc, detection_rates, proportion
from robustgen.papers.reference import reference
from robustgen.papers.robust_generative.study import Study

# row label, detector, attack the threshold is fitted on, attack it is tested on
LINES = (
    ("Energy: PGD", "energy", "pgd", "pgd"),
    ("Energy: PGD, larger radius", "energy", "pgd-strong", "pgd-strong"),
    ("Energy: APGD, threshold from PGD", "energy", "pgd", "apgd"),
    ("Energy: APGD", "energy", "apgd", "apgd"),
    ("Energy: APGD, images it changed, threshold from PGD", "energy", "pgd", "apgd"),
    ("Energy: FGSM, threshold from PGD", "energy", "pgd", "fgsm"),
    ("Energy: targeted PGD, threshold from PGD", "energy", "pgd", "targeted"),
    ("Energy: HE-PGD, threshold from PGD", "energy", "pgd", "he-pgd"),
    ("Energy: HE-PGD with the paper's λ, threshold from PGD", "energy", "pgd", "he-pgd-paper"),
    ("Energy released: PGD", "energy-released", "pgd", "pgd"),
    ("Energy released: APGD", "energy-released", "apgd", "apgd"),
    ("Energy released: APGD, threshold from PGD", "energy-released", "pgd", "apgd"),
    ("KD+BU: PGD", "kd-bu", "pgd", "pgd"),
    ("KD+BU: APGD, fitted on PGD", "kd-bu", "pgd", "apgd"),
    ("LID: PGD", "lid", "pgd", "pgd"),
    ("LID: APGD, fitted on PGD", "lid", "pgd", "apgd"),
)
ACCURACY = {
    "pgd": "PGD",
    "pgd-strong": "PGD, larger radius",
    "apgd": "APGD",
    "fgsm": "FGSM",
    "targeted": "targeted PGD",
    "he-pgd": "HE-PGD",
    "he-pgd-paper": "HE-PGD with the paper's λ",
}


def table1(studies: Sequence[Study], controls: Sequence[Study], scale: str) -> list[Row]:
    """All rows of Table 1, data set by data set; percentages. Controls stand beside no number of the paper's."""
    shown = [(study, True) for study in studies] + [(study, False) for study in controls]
    return [row for study, compared in shown for row in _rows(study, scale, compared)]


def _rows(study: Study, scale: str, compared: bool) -> Iterator[Row]:
    known = reference(__package__)
    own = any(key[0] == study.dataset for key in known)
    beside = study.dataset if own else "CIFAR-10"

    def cell(line: str, column: str, estimate: Estimate, method: str, n: int) -> Row:
        number = known.get((beside, line, column)) if compared else None
        if number is not None:
            method += f"; the paper's number: {beside}, {number.source}"
        return Row(
            paper="robust-generative",
            item="Table 1",
            row=line,
            column=column,
            scale=scale,
            dataset=study.dataset,
            n=n,
            value=100 * estimate.value,
            low=100 * estimate.low,
            high=100 * estimate.high,
            unit="%",
            reference=None if number is None else number.value,
            method=method,
        )

    for line, detector, fit, attack in LINES:
        if study.has(detector, fit, attack) and study.changed(attack).any():
            natural, attacked, threshold = study.scores(detector, fit, attack)
            if "images it changed" in line:
                natural, attacked = natural[study.changed(attack)], attacked[study.changed(attack)]
            rates = detection_rates(natural, attacked, threshold)
            fitted = f"threshold fitted on validation images under {study.method(fit)}"
            tested = study.method(attack) if attack != fit else "the same attack"
            method = f"{fitted}; tested under {tested}" + _temperature(study, detector, fit)
            n = len(attacked)
            yield cell(line, "DR", rates.detection, method, n)
            yield cell(line, "FPR", rates.false_positive, method, n)
            yield cell(line, "AUC", auc(natural, attacked), method, n)
    natural = study.natural_correct()
    yield cell("Clean", "Accuracy", proportion(int(natural.sum()), len(natural)), "clean test images", len(natural))
    for attack, name in ACCURACY.items():
        if attack in study.attacks:
            right = study.correct(attack)
            estimate = proportion(int(right.sum()), len(right))
            yield cell(f"Under {name}", "Accuracy", estimate, study.method(attack), len(right))


def _temperature(study: Study, detector: str, fit: str) -> str:
    if detector != "energy-released":
        return ""
    return f"; T = {float(study.arrays[f'temperature.{detector}.{fit}']):g} by validation AUC"
