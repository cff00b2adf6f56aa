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
REEVALUATED = "APGD as Croce et al. 2022"
SOURCES = {"generated": "generated (frost drawn)", "official": "official CIFAR-10-C"}  # of corrupted images


@dataclass(frozen=True)
class Kind:
    """One attack: its name in tables, its type and its updating rule as Table 1 has them."""

    name: str
    type: str
    rule: str


ATTACKS = {  # in the order of Table 1, and what was added
    "full": Kind("Full gradient", "white-box", "x + α sign ∇ₓL((g∘f)(x), y)"),
    "classifier": Kind("Classifier PGD", "blind to the preprocessor", "x + α sign ∇ₓL(g(x), y)"),
    "bpda": Kind("BPDA", "adaptive", "x + α sign ∇ₓL(g(x), y) at f(x)"),
    "joint-score": Kind("Joint attack (score)", "adaptive", "x + α(ε sign s(x) + (1 − ε) sign ∇ₓL(g(x), y))"),
    "joint-full": Kind("Joint attack (full)", "adaptive", "x + α(ε sign(f(x) − x) + (1 − ε) sign ∇ₓL(g(x), y))"),
    "spsa": Kind(
        "SPSA",
        "black-box",
        "x + α sign Σⱼ vⱼ (L((g∘f)(x + δvⱼ), y) − L((g∘f)(x − δvⱼ), y)) / 2δ, vⱼ from {−1, 1}",
    ),
    "apgd": Kind(
        "APGD",
        "white-box",
        "as the full gradient's, with momentum, step sizes that halve at checkpoints, and restarts from the best point",
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
        draws = plural(options.get("verified", options["verify"]), "draw")
        words += [f"predictions by {draws}, breaks confirmed by as many fresh ones"]
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


def defence_words(options: Mapping[str, Any], sigma: float, steps: int, draws: int | None = None) -> str:
    """ADP, or the same steps along an energy-based model's gradient: σ, T, S where a prediction takes so many `draws`,
    step sizes, updates, whose choices.
    """
    defense: Mapping[str, Any] = options.get("defense", {})
    architecture = options.get("score_arch")
    model = "ADP" if architecture in (None, "ncsnv2") else f"purification by {architecture}"
    words = [f"{model} of σ {sigma:.3g}", f"T {steps}"]
    words += [f"S {draws}"] if draws is not None else []
    if defense.get("step") is not None:
        words += [f"fixed step α {defense['step']:g}"]
    elif defense:
        delta = defense.get("delta") or DELTA[defense.get("fidelity", "paper")]
        words += [f"λ {defense.get('lam', 0.05):g}", f"δ {delta:g}"]
    if defense.get("updates") == "langevin":
        temperature = defense.get("temperature", 1)
        words += [f"Langevin updates of temperature {temperature:g}" + (" (Eq. 6: 1)" if temperature != 1 else "")]
    words += ["the released code's choices"] if defense.get("fidelity") == "released" else []
    return ", ".join(words)
