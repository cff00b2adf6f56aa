"""Table 1: every attack, what it is set to here, and what it does otherwise than in the paper and its code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from robustgen.evaluation.rows import Row
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.study import ScoreDefense
from robustgen.papers.adp.tables.lines import table_of
from robustgen.papers.adp.words import ATTACKS, SHOWN
from robustgen.papers.studies import Attacked

LEVELS = "1/255"
SETTINGS = {  # columns and their units
    "radius": LEVELS,
    "step, share of eps": "",
    "step α": LEVELS,
    "updates": "",
    "EOT draws": "",
    "confirmation draws": "",
    "queries an update": "",
    "probe δ": LEVELS,
    "weight ε": "",
}
ON_DRAWS = ("full", "bpda", "joint-score", "joint-full", "apgd")  # attacks with draws behind a gradient
IN_CODE = ("bpda", "joint-score", "joint-full")  # attacks that the released code has, beside that on the classifier
CROCE = (
    "not in the paper: the re-evaluation of Croce et al. 2022 found 33.7 % with it on CIFAR-10 (its first 1000 images, "
    "10 updates, 200 EOT draws, margin loss)"
)


def table1(found: Measured) -> list[Row]:
    """The attacks as implemented: what they are set to, beside the paper's settings."""
    table = table_of("Table 1", found)
    rows: list[Row] = []
    for attack, kind in ATTACKS.items():
        made = found.against(attack) or found.against(attack, noise=False)
        if made is None:
            for column, unit in SETTINGS.items():
                rows += table.alone(SHOWN, kind.name, column, found.dataset, unit)
            continue
        ours = "; ".join(differences(attack, made.study.config, random=_random(made)))
        method = f"{kind.type}: {kind.rule}; what is ours: {ours}; run as: {made.method}"
        for column, value in _settings(attack, made).items():
            row = table.number(found.dataset, kind.name, column, value, SETTINGS[column], method, SHOWN)
            rows.append(replace(row, method=method))  # one note a line
    return rows


def _random(made: Attacked) -> bool:
    return isinstance(made.study, ScoreDefense) and made.study.random


def _settings(attack: str, made: Attacked) -> dict[str, float]:
    config, point = made.study.config, made.study.options(made.point)
    step = 2.0 if attack == "apgd" else float(config["step"])
    found = {
        "radius": 255 * point["eps"],
        "step, share of eps": step,
        "step α": 255 * step * point["eps"],
        "updates": float(config["steps"]),
    }
    if _random(made):
        found |= {"EOT draws": float(point["eot"])} if attack in ON_DRAWS else {}
        found["confirmation draws"] = float(config.get("verified", config["verify"]))
    if attack == "spsa":
        found |= {"queries an update": float(config["queries"]), "probe δ": 255 * float(config["spsa_delta"])}
    if attack.startswith("joint"):
        found["weight ε"] = float(config["weight"])
    return found


def differences(attack: str, options: Mapping[str, Any], *, random: bool) -> list[str]:
    """What a run with these options does otherwise than the paper, or than its released code, in words."""
    return [*_own(attack, options), *_common(attack, options, random=random)]


def _own(attack: str, options: Mapping[str, Any]) -> Iterator[str]:
    """What is so of this attack alone."""
    if attack in ("full", "apgd"):
        yield "through every purification step, by activation checkpointing; step sizes count as constants"
    if attack == "apgd":
        yield CROCE
    if attack == "classifier":
        yield "the defence judges the last iterate alone"
    if attack == "joint-full":
        yield "f(x) is the mean of the draws"
    if attack.startswith("joint"):
        at_image = options.get("at") == "image"
        yield "∇L is taken " + (
            "at x, as in Table 1" if at_image else "at purified draws, as BPDA's; Table 1 has it at x"
        )
    if attack == "spsa":
        yield "Table 1's ε is δ here; both ends of a difference count as queries"


def _common(attack: str, options: Mapping[str, Any], *, random: bool) -> Iterator[str]:
    """How attacks begin, what EOT averages, and which iterates can break an image."""
    if attack == "classifier":
        return
    released = attack in IN_CODE
    yield "begins at a random point of the ball" + (", the released code at the image" if released else "")
    if random and released:
        vote = options.get("expectation", "mean") == "vote"
        yield (
            "the draws' signs vote, as in the released code" if vote else "the released code has the draws' signs vote"
        )
    fresh = ", confirmed by fresh draws" if random else ""
    yield f"any iterate may break an image{fresh}" + (", in the released code only the last" if released else "")
