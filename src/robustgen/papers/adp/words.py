"""The attacks of Table 1, and settings of attacks and of ADP, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from robustgen.papers.words import NORMS, pixels, plural

SHOWN = "CIFAR-10"  # the paper's data set, of everything but Sec. 5.1.5
ELSEWHERE = ("MNIST", "Fashion-MNIST", "CIFAR-100")  # those of Sec. 5.1.5
DELTA = {"paper": 1e-5, "released": 1e-3}  # δ of Eq. 17, where a run does not say another
GRADIENT_MEAN = {
    "combined": "gradient of the loss of their common prediction",
    "mean": "mean of their losses' gradients",
    "vote": "majority vote of their gradients' signs",
}
CROCE = (
    "not in the paper: the re-evaluation of Croce et al. 2022 found 33.7 % with it on CIFAR-10 (its first 1000 images, "
    "10 updates, 200 EOT draws)"
)


@dataclass(frozen=True)
class Kind:
    """One attack: its name in tables, its type and updating rule as Table 1 has them, and what is done otherwise."""

    name: str
    type: str
    rule: str
    differs: str


ATTACKS = {  # in the order of Table 1, and what was added
    "full": Kind(
        "Full gradient",
        "white-box",
        "x + α sign ∇ₓL((g∘f)(x), y)",
        "through every purification step, by activation checkpointing; step sizes count as constants",
    ),
    "classifier": Kind(
        "Classifier PGD",
        "blind to the preprocessor",
        "x + α sign ∇ₓL(g(x), y)",
        "the defence judges the last iterate alone",
    ),
    "bpda": Kind("BPDA", "adaptive", "x + α sign ∇ₓL(g(x), y) at f(x)", "none but the confirmation"),
    "joint-score": Kind(
        "Joint attack (score)",
        "adaptive",
        "x + α(ε sign s(x) + (1 − ε) sign ∇ₓL(g(x), y))",
        "∇L is taken at the purified draws, as BPDA's; the paper's table has it at x",
    ),
    "joint-full": Kind(
        "Joint attack (full)",
        "adaptive",
        "x + α(ε sign(f(x) − x) + (1 − ε) sign ∇ₓL(g(x), y))",
        "f(x) is the mean of the draws; ∇L is taken at them, as BPDA's; the paper's table has it at x",
    ),
    "spsa": Kind(
        "SPSA",
        "black-box",
        "x + α sign Σⱼ vⱼ (L((g∘f)(x + δvⱼ), y) − L((g∘f)(x − δvⱼ), y)) / 2δ, vⱼ from {−1, 1}",
        "the paper's ε is δ here; both ends of a difference count as queries",
    ),
    "apgd": Kind(
        "APGD",
        "white-box",
        "as the full gradient's, with momentum, step sizes that halve at checkpoints, and restarts from the best point",
        CROCE,
    ),
}


def attack_words(options: Mapping[str, Any], point: Mapping[str, Any], sigma: float) -> str:
    """Attack and defence at one grid point: norm, radius, step, updates, EOT, how breaks are confirmed, ADP, seed."""
    attack, eps = point["attack"], point["eps"]
    random = is_random(options, sigma)
    words = [f"{ATTACKS[attack].name}, {NORMS[point['norm']]} eps {pixels(eps)}"]
    if eps:
        step = 2.0 if attack == "apgd" else options["step"]
        words += [f"step {pixels(step * eps)}" + (" at first" if attack == "apgd" else "")]
    words += [plural(options["steps"], "update"), plural(options["restarts"], "random start")]
    words += list(_special(attack, options))
    if random and attack == "spsa":
        words += [f"screened by {plural(point['eot'], 'draw')}"]
    elif random and attack != "classifier":
        mean = GRADIENT_MEAN.get(str(options.get("expectation", "mean")), "")
        words += [f"EOT {plural(point['eot'], 'draw')}" + (f" ({mean})" if mean and attack != "apgd" else "")]
    if random:
        words += [f"breaks confirmed with {plural(options['verify'], 'fresh draw')}"]
    words += [defence_words(options, sigma, point["purification_steps"]), f"seed {options['seed']}"]
    return ", ".join(words)


def _special(attack: str, options: Mapping[str, Any]) -> Iterator[str]:
    if attack == "spsa":
        draws = plural(options.get("query_draws", 1), "draw")
        yield f"{options['queries']} queries an update of {draws} each"
        yield f"differences of δ {pixels(options['spsa_delta'])}"
    if attack.startswith("joint"):
        yield f"ε {options['weight']:g}"
        if options.get("at") == "image":
            yield "∇L at x, as the paper's table has it"
    if attack == "apgd":
        yield f"loss {options['loss']}"


def is_random(options: Mapping[str, Any], sigma: float) -> bool:
    """Whether two purifications of an image may differ."""
    if "random" in options:
        return bool(options["random"])
    return sigma > 0 or options.get("defense", {}).get("updates") == "langevin"


def defence_words(options: Mapping[str, Any], sigma: float, steps: int) -> str:
    """ADP, or the same steps along an energy-based model's gradient: σ, T, S, step sizes, updates, whose choices."""
    defense: Mapping[str, Any] = options.get("defense", {})
    architecture = options.get("score_arch")
    model = "ADP" if architecture in (None, "ncsnv2") else f"purification by {architecture}"
    words = [f"{model} of σ {sigma:.3g}", f"T {steps}"]
    words += [f"S {defense['draws']}"] if is_random(options, sigma) and "draws" in defense else []
    if defense.get("step") is not None:
        words += [f"fixed step α {defense['step']:g}"]
    elif defense:
        delta = defense.get("delta") or DELTA[defense.get("fidelity", "paper")]
        words += [f"λ {defense.get('lam', 0.05):g}", f"δ {delta:g}"]
    if defense.get("updates") == "langevin":
        temperature = defense.get("temperature", 1)
        words += ["Langevin updates" + (f" of temperature {temperature:g}" if temperature != 1 else "")]
    words += ["the released code's choices"] if defense.get("fidelity") == "released" else []
    return ", ".join(words)
