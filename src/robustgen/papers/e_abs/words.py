"""Data sets, models and attacks as the paper calls them, and the settings of attacks and inference in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robustgen.papers.words import NORMS, pixels, plural

MNIST, FASHION, TRAFFIC, SVHN = "MNIST", "Fashion-MNIST", "SuperTraffic-10", "SVHN"  # the paper's data sets
CNN, ADV_LINF, ADV_L2, ABS, E_ABS = "CNN", "Adv-L∞", "Adv-L2", "ABS", "E-ABS"
MODELS = (CNN, ADV_LINF, ADV_L2, ABS, E_ABS)
ALL_THREE = "ADV-ABS (E-ABS)"  # Table 5's name of E-ABS
VARIANTS = ("ABS", "A-ABS", "D-ABS", "V-ABS", "AD-ABS", "AV-ABS", "DV-ABS", ALL_THREE)
CLEAN = "Clean"
TABLES = {MNIST: "Table 1", FASHION: "Table 2", TRAFFIC: "Table 3", SVHN: "Table 4"}
LEVEL = 0.01  # α of McNemar's test, the paper's (Sec. 4.5)
NORM_ORDER = ("linf", "l2")
UNDER_PGD = {"linf": "PGD-L∞", "l2": "PGD-L2"}  # columns of Table 5
PAPERS_ATTACKS = {  # those of Tables 1-4, in their order
    "linf": ("pgd", "deepfool", "noise"),
    "l2": ("pgd", "ddn", "cw", "deepfool", "noise"),
}
BY_GRADIENT = tuple(attack for attack in PAPERS_ATTACKS["l2"] if attack != "noise")  # those that follow gradients
ATTACKS = {
    "pgd": "PGD",
    "ddn": "DDN",
    "cw": "CW",
    "deepfool": "DeepFool",
    "noise": "noise",
    "latent-descent": "latent descent",
    "boundary": "Boundary attack",
    "estimated": "PGD, gradient estimation",
}
SEARCHES = ("deepfool", "ddn", "cw", "noise", "boundary", "latent-descent")  # for the nearest error, at no radius
STARTED = ("pgd", "estimated")  # from random points
STEP = 2.5  # their usual step as a multiple of eps / steps; another is told
PECULIAR = {  # of an attack alone: its option, and what that counts
    "cw": ("searches", "binary searches"),
    "deepfool": ("candidates", "likeliest classes"),
    "noise": ("directions", "draws"),
    "boundary": ("tries", "tries for a start"),
    "estimated": ("queries", "queries a step"),
}
GRADIENT_FREE = {  # names in Sec. 5, and norms, which of the Boundary attack the paper does not give
    "boundary": ("Boundary attack", "l2"),
    "estimated": ("L∞ PGD, gradient estimation", "linf"),
}
NOT_SIGNIFICANT = {  # pairs of models whose difference the paper does not find significant (captions of Tables 1-4)
    (FASHION, "linf"): ((ADV_LINF, ADV_L2), (ABS, E_ABS)),
    (FASHION, "l2"): ((ADV_LINF, ABS), (ABS, E_ABS)),
    (TRAFFIC, "l2"): ((ADV_LINF, ABS),),
    (SVHN, "linf"): ((ADV_LINF, ABS),),
}


def line(norm: str, attack: str) -> str:
    """The name of a line of Tables 1-4: L∞ PGD."""
    return f"{NORMS[norm]} {ATTACKS[attack]}"


def all_line(norm: str, *, ours: bool = False) -> str:
    """The name of the line of the paper's attacks of a norm together, or of those and what was run besides."""
    return f"All {NORMS[norm]}" + (", with ours" if ours else "")


def radius_words(norm: str, eps: float) -> str:
    """A ball: L∞ eps 8/255, L2 eps 1.5."""
    return f"{NORMS[norm]} eps {pixels(eps) if norm == 'linf' else f'{eps:.4g}'}"


def attack_words(point: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """An attack of a study with these options: what, which ball, steps, random starts, EOT, what is peculiar to it."""
    attack, steps, draws = str(point["attack"]), int(point["steps"]), int(point["draws"])
    words = [ATTACKS[attack], radius_words(str(point["norm"]), float(point["eps"]))]
    words += [plural(steps, "value") + " of σ" if attack == "noise" else plural(steps, "step")]
    if attack in STARTED:
        restarts = int(point["restarts"])
        words += [("best of " if restarts > 1 else "") + plural(restarts, "random start")]
    words += list(_peculiar(attack, options))
    if is_random(options):
        words += [f"EOT {plural(draws, 'sample')}"]
    if by_synthesis(options) and (follow := options.get("follow")) is not None:
        words += [f"latents followed in {plural(int(follow), 'evaluation')}" if follow else "full inference each time"]
    return ", ".join(words)


def _peculiar(attack: str, options: Mapping[str, Any]) -> Iterator[str]:
    """The settings that one attack alone has, as far as the options tell them."""
    details = options.get("details") or {}
    if attack in PECULIAR and PECULIAR[attack][0] in details:
        option, word = PECULIAR[attack]
        yield f"{details[option]} {word}"
    if attack == "cw" and "c" in details:
        yield f"the first with c {float(details['c']):g}"
    if attack in STARTED and (step := float(details.get("step", STEP))) != STEP:
        yield f"steps of {step:g} times eps / steps"


def by_synthesis(options: Mapping[str, Any]) -> bool:
    """Whether a study's model classifies by inference of latents."""
    return options.get("arch") == "aae"


def is_random(options: Mapping[str, Any]) -> bool:
    """Whether two predictions of an image may differ: variational inference draws latents."""
    return by_synthesis(options) and bool(options["inference"]["variational"])


def inference_words(options: Mapping[str, Any]) -> str:
    """How a study's model predicts: by optimisation of latents; empty for a classifier."""
    if not by_synthesis(options):
        return ""
    inference = options["inference"]
    starts = plural(int(inference["candidates"]), "random candidate")
    starts += " and the encoder's" if inference["encoder"] else ""
    words = [f"{'variational' if inference['variational'] else 'exact'} inference from {starts}"]
    return ", ".join([*words, plural(int(inference["iterations"]), "iteration")])


def confirmed_words(options: Mapping[str, Any]) -> str:
    """How errors are confirmed; empty for a classifier, which an attacker asks as it is."""
    if not by_synthesis(options):
        return ""
    runs = int(options["runs"])
    return f"errors confirmed by {'fresh inference' if runs == 1 else f'the mean of {runs} fresh inferences'}"
