"""Settings of attacks and Langevin defences in words, for the lines below tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robustgen.papers.words import NORMS, pixels, plural

SAME_GRADIENT = (
    "through a piecewise linear energy the exact gradient is that of BPDA, as the Hessian is 0 almost everywhere"
)
MARGINALS = {"sampler": "marginal: the class of least energy, which fixes the label", "energy": "marginal over classes"}


def attack_words(options: Mapping[str, Any], point: Mapping[str, Any]) -> str:
    """Attack and defence at one grid point of Algorithm 1: norm, radius, step, N, H_adv, H_def, K, τ, seed."""
    langevin, draws, verify = point["langevin_steps"], point["draws"], point["verify"]
    full = options.get("gradient") == "full"
    name = "PGD" if not langevin else "PGD on the full gradient, EOT" if full else "BPDA+EOT"
    words = [name, f"{NORMS[point['norm']]} eps {pixels(point['eps'])}"]
    words += [f"step {pixels(options['step'] * point['eps'])}"] if point["eps"] else []
    words += [plural(options["steps"], "update"), plural(options["restarts"], "random start")]
    if langevin:
        words += [f"H_adv {draws}", f"breaks confirmed with H_def {verify} fresh draws"]
        words += [plural(langevin, "Langevin step")]
        words += list(_defence(options))
    return ", ".join([*words, f"seed {options['seed']}", *([SAME_GRADIENT] if full and langevin else [])])


def short_words(options: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> str:
    """The settings that all of these grid points share, in one short line: N, step, H_adv, H_def, K."""
    words = [f"N {options['steps']}", f"step {options['step']:g} eps"]
    for name, symbol in (("draws", "H_adv"), ("verify", "H_def"), ("langevin_steps", "K")):
        values = {point[name] for point in points if point["langevin_steps"]}
        words += [f"{symbol} {value}" for value in values if len(values) == 1]
    return ", ".join(words)


def blind_words(options: Mapping[str, Any], steps: int, *, draws: int, attacked: bool) -> str:
    """How an image was classified after `steps` Langevin steps, natural or under an attack blind to them."""
    words = [blind_attack_words(options)] if attacked else ["natural images"]
    if steps:
        words += [plural(steps, "Langevin step"), f"H {draws}", *_defence(options), f"seed {options['seed']}"]
    return ", ".join(words)


def blind_attack_words(options: Mapping[str, Any]) -> str:
    """The attack on the base classifier whose options a stage wrote as `attack`."""
    attack = options.get("attack")
    if not isinstance(attack, Mapping):
        return "PGD on the base classifier"
    words = ["PGD on the base classifier", f"{NORMS[attack.get('norm', 'linf')]} eps {pixels(attack['eps'])}"]
    words += [f"step {pixels(attack['alpha'])}"] if "alpha" in attack else []
    words += [plural(attack["steps"], "update")] if "steps" in attack else []
    words += [f"attack's seed {attack['seed']}"] if "seed" in attack else []
    return ", ".join(words)


def _defence(options: Mapping[str, Any]) -> Iterator[str]:
    architecture, network = options.get("ebm_arch"), options.get("ebm_config") or {}
    if architecture in ("igebm", "jem") and "step" in network:
        yield f"step {network['step']:g}"
    if architecture == "igebm" and network.get("marginal") in MARGINALS:
        yield MARGINALS[network["marginal"]]
    if options.get("precision", "float32") != "float32":
        yield f"precision {options['precision']}"
    if "tau" in options:
        yield f"τ {options['tau']:g}"
    if "average" in options:
        yield f"mean of {str(options['average']).replace('_', '-')}"
