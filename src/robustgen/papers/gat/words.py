"""The attacks of Sec. 4 and the settings of attacks, detectors and their training in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustgen.papers.words import NORMS, pixels, plural

MNIST, CIFAR, IMAGENET = "MNIST", "CIFAR-10", "Restricted ImageNet"  # the paper's data sets
LINF_SMALL, LINF_LARGE, L2_SMALL, L2_LARGE, L2 = "L∞ small", "L∞ large", "L2 small", "L2 large", "L2"  # models' roles
COARSE = "L∞, coarse step"  # the model of Table 17 whose training step is too large
SOFTMAX = "softmax, adversarially trained"
STATE_OF_THE_ART = {MNIST: "Carlini & Wagner 2017 (borrowed)", CIFAR: "state of the art (borrowed)"}  # of distortion
WAYS = ("integrated", "generative")  # k by the classifier f (Sec. 3), or by the detectors themselves (Sec. 3.1)
SHARE = 0.95  # of clean images that the threshold accepts, where a table needs one threshold
BUDGET = 0.05  # of clean accuracy that the threshold of Tramèr et al. 2020 may cost
BUDGETED = f"{BUDGET * 100:.0f} points of clean accuracy given up"
RULES = {"adam": "Adam on δ", "steepest": "normalised steepest descent"}
STARTS = {"image": "from the image", "random": "from random points"}

ATTACKS = {
    "classifier": "classifier attack (Eq. 12)",
    "detector": "detector attack (Eq. 14)",
    "combined16": "combined attack (Eq. 16)",
    "combined17": "combined attack (Eq. 17)",
    "ce": "cross-entropy of the detectors' logits",
    "cw": "CW margin of the detectors' logits",
    "multi-integrated": "multi-targeted attack (Tramèr et al. 2020)",
    "multi-generative": "multi-targeted attack (Tramèr et al. 2020)",
}
WORST = "the worst of all attacks"
LOSSES = ("detector", "ce", "cw")  # of Figures 8 and 10
MULTI = {"integrated": "multi-integrated", "generative": "multi-generative"}  # made against each way of detection
MADE_FOR = {  # the attacks that were made against each way of detection; the first is the paper's strongest
    "integrated": ("combined17", "combined16", "detector", "classifier", MULTI["integrated"]),
    "generative": (*LOSSES, MULTI["generative"]),
}
PAPERS_STRONGEST = {way: names[0] for way, names in MADE_FOR.items()}


def radius_words(norm: str, eps: float) -> str:
    """A ball: L∞ eps 8/255, L2 eps 2.5."""
    return f"{NORMS.get(norm, norm)} eps {pixels(eps) if norm == 'linf' else f'{eps:.4g}'}"


def length(norm: str, value: float) -> str:
    """A step size in the unit of its radius."""
    return pixels(value) if norm == "linf" else f"{value:.4g}"


def attack_words(point: Mapping[str, Any]) -> str:
    """A PGD attack: ball, rule, updates of which size, where it begins, restarts; fields that are missing are left
    out.
    """
    norm = str(point["norm"])
    words = [radius_words(norm, float(point["eps"]))]
    words += [RULES.get(str(point["rule"]), str(point["rule"]))] if "rule" in point else []
    words += [f"{plural(int(point['steps']), 'update')} of {length(norm, float(point['alpha']))}"]
    if "starts" in point:
        random = str(point["starts"]) == "random"
        words += [
            f"best of {plural(int(point['restarts']), 'random start')}" if random else STARTS[str(point["starts"])]
        ]
    return ", ".join(words)
