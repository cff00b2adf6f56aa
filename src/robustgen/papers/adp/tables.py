"""Tables 1-4, the data sets of Sec. 5.1.5 and the choices that paper and code differ in, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import Estimate, mean, proportion_difference
from robustgen.papers.adp.study import GROUPS, Corruptions, Measured, ScoreDefense, first_row
from robustgen.papers.adp.words import ATTACKS, ELSEWHERE, SHOWN, Kind
from robustgen.papers.reference import reference
from robustgen.papers.studies import Attacked, accuracy, common
from robustgen.papers.tables import Table

STANDARD, NATURAL, ROBUST, FALSE_BREAKS = "Standard", "Natural", "Robust", "False breaks"
ADP, ZERO, SMALL, RAW = "ADP", "ADP, σ = 0", "ADP, smaller σ", "Raw classifier"
HILL, TRAINED = "EBM defence of Hill et al. 2021", "Adversarial training (L∞)"
UNDER = {  # lines of Table 3
    "bpda": "BPDA+EOT",
    "joint-score": "joint attack (score)+EOT",
    "joint-full": "joint attack (full)+EOT",
    "spsa": "SPSA",
    "full": "full gradient+EOT",
    "apgd": "APGD+EOT",
}
BPDA, LONGER = f"{ADP}: {UNDER['bpda']}", f"{ADP}: {UNDER['bpda']}, longer"
WORST = f"{ADP}: the worst of all attacks, image by image"
CONTROL = f"{ADP}: {UNDER['bpda']} at zero radius"
TRAINED_PGD = f"{TRAINED}: PGD"
ACCURACY = "Accuracy"
CONTRAST, PAPERS, RELEASED = "Contrast after T steps", "The paper's choices", "The released code's choices"
DIFFERENCE = "Released − paper's"


def _table(item: str, found: Measured) -> Table:
    return Table("adp", item, found.scale, reference(__package__))


def table1(found: Measured) -> list[Row]:
    """The attacks as implemented: what they are set to, beside the paper's settings."""
    table = _table("Table 1", found)
    rows: list[Row] = []
    for attack, kind in ATTACKS.items():
        made = found.against(attack) or found.against(attack, noise=False)
        if made is None:
            for column, unit in SETTINGS.items():
                rows += table.alone(SHOWN, kind.name, column, found.dataset, unit)
        else:
            method = _as_implemented(kind, made)
            for column, value in _settings(attack, made).items():
                row = table.number(found.dataset, kind.name, column, value, SETTINGS[column], method, SHOWN)
                rows.append(replace(row, method=method))  # one note a line
    return rows


SETTINGS = {  # columns of Table 1 and their units
    "step, share of eps": "",
    "step α": "1/255",
    "updates": "",
    "EOT draws": "",
    "queries an update": "",
    "weight ε": "",
}


def _settings(attack: str, made: Attacked) -> dict[str, float]:
    config, point = made.study.config, made.study.options(made.point)
    step = 2.0 if attack == "apgd" else float(config["step"])
    found = {"step, share of eps": step, "step α": 255 * step * point["eps"], "updates": float(config["steps"])}
    random = isinstance(made.study, ScoreDefense) and made.study.random
    if random and attack not in ("classifier", "spsa"):
        found["EOT draws"] = float(point["eot"])
    if attack == "spsa":
        found["queries an update"] = float(config["queries"])
    if attack.startswith("joint"):
        found["weight ε"] = float(config["weight"])
    return found


def _as_implemented(kind: Kind, made: Attacked) -> str:
    return f"{kind.type}: {kind.rule}; what is ours: {kind.differs}; run as: {made.method}"


def table2(found: Measured) -> list[Row]:
    """Accuracy on natural images and under PGD on the classifier, which knows nothing of the purification."""
    table = _table("Table 2", found)
    rows: list[Row] = []
    lines = (
        (RAW, found.under(found.raw)),
        (SMALL, found.under(found.small, "classifier")),
        (ADP, found.against("classifier")),
    )
    for line, made in lines:
        rows += _both(table, found, line, made, (STANDARD, ROBUST))
    if found.hill is not None:
        steps = found.hill.drawn_steps
        for column, attacked in ((STANDARD, False), (ROBUST, True)):
            right = found.hill.correct(steps, attacked=attacked)
            method = found.hill.method(steps, attacked=attacked)
            rows.append(table.row(found.dataset, HILL, column, accuracy(right), method, SHOWN))
    else:
        for column in (STANDARD, ROBUST):
            rows += table.alone(SHOWN, HILL, column, found.dataset)
    return [*rows, *table.borrowed(SHOWN, found.dataset)]


def _both(
    table: Table, found: Measured, line: str, made: Attacked | None, columns: Sequence[str] = (NATURAL, ROBUST)
) -> Iterator[Row]:
    """Natural and robust accuracy of a line, or the paper's numbers alone."""
    if made is None:
        for column in columns:
            yield from table.alone(SHOWN, line, column, found.dataset)
        return
    for column, right in zip(columns, (made.natural, made.robust), strict=True):
        yield table.row(found.dataset, line, column, accuracy(right), made.method, SHOWN)


def table3(found: Measured) -> list[Row]:
    """Adaptive attacks on ADP, its ablation without noise, and adversarial training."""
    table = _table("Table 3", found)
    rows: list[Row] = []
    for attack, name in UNDER.items():
        rows += _both(table, found, f"{ADP}: {name}", found.against(attack))
        if attack == "bpda":
            rows += _both(table, found, LONGER, found.under(found.longer))
    rows += _worst(table, found)
    rows += _control(table, found)
    for attack, name in UNDER.items():
        line = f"{ZERO}: {name.removesuffix('+EOT')}"
        rows += _both(table, found, line, found.against(attack, noise=False))
    rows += _both(table, found, TRAINED_PGD, found.under(found.trained))
    return [*rows, *table.borrowed(SHOWN, found.dataset)]


def _worst(table: Table, found: Measured) -> Iterator[Row]:
    if (worst := found.worst()) is not None:
        tried, chosen, robust = worst
        natural = np.all([each.natural[rows] for each, rows in zip(tried, chosen, strict=True)], axis=0)
        method = f"an image counts as right where it withstands every one of: {', '.join(worst_names(found))}"
        for column, right in ((NATURAL, natural), (ROBUST, robust)):
            yield table.row(found.dataset, WORST, column, accuracy(right), method)


def worst_names(found: Measured) -> list[str]:
    """The attacks behind the worst case, as tables call them."""
    names = [ATTACKS[attack].name for attack in ATTACKS if found.against(attack) is not None]
    longer = found.under(found.longer)
    return names + ([f"{ATTACKS['bpda'].name} of {longer.study.attack_steps} updates"] if longer else [])


def _control(table: Table, found: Measured) -> Iterator[Row]:
    if (control := found.control) is not None and control.natural.any():
        estimate = accuracy(control.study.broken(control.point)[control.natural])
        method = f"{control.method}; share of the images that are right without attack"
        yield table.row(found.dataset, CONTROL, FALSE_BREAKS, estimate, method)


def table4(found: Measured) -> list[Row]:
    """Accuracy on corrupted images, over all corruptions and by group."""
    table = _table("Table 4", found)
    rows: list[Row] = []
    for line, made in corruption_lines(found).items():
        for column, group in ((ACCURACY, None), *((name.capitalize(), name) for name in GROUPS)):
            if made is None:
                rows += table.alone(SHOWN, line, column, found.dataset)
            else:
                estimate = clustered(made.shares(group))
                rows.append(table.row(found.dataset, line, column, estimate, made.method, SHOWN))
    return [*rows, *table.borrowed(SHOWN, found.dataset)]


def corruption_lines(found: Measured) -> dict[str, Corruptions | None]:
    """The lines of Table 4, None where the scale does without."""
    usual, small = found.noise_levels()
    return {
        RAW: first_row([found.corrupted_raw], 0),
        ADP: found.corruptions(usual),
        f"{ADP}, detection": found.corruptions(usual, detection=True),
        SMALL: found.corruptions(small),
        ZERO: found.corruptions(0.0),
        f"{ZERO}, DCT": first_row([found.corrupted_dct], 0),
        f"{ZERO}, AugMix": first_row([found.corrupted_augmix], 0),
        f"{ZERO}, DCT and AugMix": first_row([found.corrupted_both], 0),
        "Training with Gaussian noise (Cohen et al. 2019)": first_row([found.corrupted_cohen], 0),
        TRAINED: first_row([found.corrupted_trained], 0),
    }


def clustered(shares: np.ndarray) -> Estimate:
    """The mean of the images' shares (N,), each image one observation, its interval within [0, 1]."""
    found = mean(shares)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high), found.n)


def extra(found: Measured) -> list[Row]:
    """Sec. 5.1.5: ADP under BPDA+EOT on other data sets, each at the radius of its own study."""
    table = _table("Sec. 5.1.5", found)
    rows: list[Row] = []
    here = dict(found.others)
    for dataset in (*here, *(name for name in ELSEWHERE if name not in here)):
        if (study := here.get(dataset)) is None:
            rows += table.alone(dataset, BPDA, ROBUST)
        else:
            made = other(study)
            for column, right in ((NATURAL, made.natural), (ROBUST, made.robust)):
                rows.append(table.row(dataset, BPDA, column, accuracy(right), made.method))
        rows += table.borrowed(dataset, dataset)
    return rows


def other(study: ScoreDefense) -> Attacked:
    """BPDA of the largest radius of a data set's study."""
    radius = study.values("eps", attack="bpda", norm="linf")
    return Attacked(study, study.point(attack="bpda", norm="linf", **({"eps": radius[-1]} if radius else {})))


def fidelity(found: Measured) -> list[Row]:
    """What the released code does otherwise than the paper, and the step sizes that were tuned for σ = 0."""
    table = _table("Released code", found)
    rows: list[Row] = []
    data = found.scores
    for line, name in ((PAPERS, "drift_paper"), (RELEASED, "drift")):
        if data is None or not data.has(name):
            rows += table.alone(SHOWN, line, CONTRAST, found.dataset, "")
        else:
            drift = data[name]
            method = (
                f"root mean square of x − 0.5 over images, relative to the start, after {len(drift) - 1} steps of a "
                "score of 0"
            )
            rows.append(table.number(found.dataset, line, CONTRAST, float(drift[-1]), "", method, SHOWN))
    both = (found.against("bpda"), found.under(found.released))
    for line, made in zip((PAPERS, RELEASED), both, strict=True):
        if made is not None:
            rows += _both(table, found, line, made)
    if both[0] is not None and both[1] is not None:
        ours, theirs = common([both[0].study, both[1].study])
        for column, name in ((NATURAL, "natural"), (ROBUST, "robust")):
            estimate = proportion_difference(getattr(both[1], name)[theirs], getattr(both[0], name)[ours])
            rows.append(table.row(found.dataset, DIFFERENCE, column, estimate, "on the images that both saw"))
    return [*rows, *_tuning(table, found)]


def _tuning(table: Table, found: Measured) -> Iterator[Row]:
    data = found.scores
    if data is None or not data.has("tuning_alpha", "tuning_natural", "tuning_adversarial"):
        return
    for step, natural, adversarial in zip(
        data["tuning_alpha"], data["tuning_natural"], data["tuning_adversarial"], strict=True
    ):
        steps = data.config.get("defense", {}).get("steps")
        words = ["σ 0", f"T {steps}" if steps else "", "validation images, PGD on the classifier alone"]
        for column, right in ((NATURAL, natural), (ROBUST, adversarial)):
            line = f"Fixed step α = {step:g} at σ = 0"
            yield table.row(found.dataset, line, column, accuracy(right), ", ".join(filter(None, words)))


def tables(found: Measured) -> dict[str, list[Row]]:
    """Every table by artifact name."""
    makers = {"table1": table1, "table2": table2, "table3": table3, "table4": table4, "extra": extra}
    return {name: make(found) for name, make in (makers | {"fidelity": fidelity}).items()}
