"""How far each item of the paper is reproduced at a scale, from what was measured there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robustgen.evaluation.rows import Coverage
from robustgen.papers.adp.measured import Measured
from robustgen.papers.adp.tables.corruptions import corruption_lines
from robustgen.papers.adp.tables.lines import UNDER
from robustgen.papers.adp.words import ATTACKS, ELSEWHERE, SHOWN
from robustgen.papers.coverage import drawing, line, other_data_sets
from robustgen.papers.studies import Attacked, OfImages

ABSENT = "the appendices are not part of the text at hand"
TEST = 10000  # CIFAR-10's test images; the tables say no other number
CERTIFIED = 100  # images of Fig. 4, and noisy copies of each
EOT, UPDATES, LONGER, QUERIES = 15, 40, 100, 1280


def coverage(found: Measured) -> list[Coverage]:
    """One line per table, figure and section with numbers."""
    return [
        _line(found, "Table 1", "the attacks", "table1", _attacks(found)),
        _line(found, "Table 2", "attacks on the classifier alone", "table2", _blind(found)),
        _line(found, "Table 3", "adaptive attacks", "table3", _adaptive(found)),
        _line(found, "Table 4", "common corruptions", "table4", _corruptions(found)),
        drawing("Figure 1"),
        _line(found, "Figure 2", "accuracy against the purification steps", "figure2", _sweeps(found)),
        _line(found, "Figure 3", "score norms", "figure3", _norms(found)),
        _line(found, "Figure 4", "certified accuracy", "figure4", _certificates(found)),
        _elsewhere(found),
        _unread("Appendix C", "every corruption by itself", "the outcomes are in the scale's corruption accuracies"),
        _line(found, "Supplement", f"other values of σ; {ABSENT}", "table2", _other_sigmas(found)),
        _line(found, "Appendix D.3", f"number of EOT draws; {ABSENT}", "eot", {"a sweep": found.eot is not None}),
        _unread("Appendix D.6", "further data sets", "what Sec. 5.1.5 says of them is in its line"),
    ]


def _line(found: Measured, item: str, what: str, where: str, parts: Mapping[str, bool]) -> Coverage:
    return line(item, what, where, parts, dataset=found.dataset, shown=SHOWN)


def _unread(item: str, what: str, note: str) -> Coverage:
    return Coverage(item=item, what=f"{what}; {ABSENT}", status="not reproducible", where="", note=note)


def _elsewhere(found: Measured) -> Coverage:
    here = list(found.elsewhere)
    missing = [name for name in ELSEWHERE if name not in {dataset.split(" ")[0] for dataset in here}]
    return other_data_sets("Sec. 5.1.5", "extra", here, missing)


def _attacks(found: Measured) -> dict[str, bool]:
    """Those of the paper; APGD is ours to add."""
    return {kind.name: found.against(attack) is not None for attack, kind in ATTACKS.items() if attack != "apgd"}


def _all_images(*studies: OfImages | None) -> dict[str, bool]:
    """Whether every study that is there saw the whole test set; no part of an item without studies."""
    counts = [len(study.labels) for study in studies if study is not None]
    return {f"all {TEST} test images (n {min(counts)})": min(counts) >= TEST} if counts else {}


def _at_least(made: Attacked | None, name: str, option: str, least: int) -> dict[str, bool]:
    """Whether an attack that is there has as much of an option as the paper's; no part where it is not."""
    if made is None:
        return {}
    has = {**made.study.config, **made.study.options(made.point)}[option]
    return {f"{name} {least} (here {has})": has >= least}


def _blind(found: Measured) -> dict[str, bool]:
    adp = found.against("classifier")
    studies = (found.raw, found.small, None if adp is None else adp.study, found.hill)
    return {
        "the raw classifier": found.raw is not None,
        "ADP": adp is not None,
        "ADP of smaller σ": found.small is not None,
        "the EBM defence of Hill et al.": found.hill is not None,
        **_all_images(*studies),
    }


def _adaptive(found: Measured) -> dict[str, bool]:
    papers = [attack for attack in UNDER if attack not in ("apgd", "full")]
    noisy = {f"{UNDER[attack]} on ADP": found.against(attack) for attack in papers}
    quiet = {f"{ATTACKS[attack].name} on ADP at σ = 0": found.against(attack, noise=False) for attack in papers}
    longer = found.under(found.longer)
    made = noisy | {"a longer BPDA+EOT": longer} | quiet
    if not any(made.values()):
        return dict.fromkeys(made, False)
    bpda = found.against("bpda")
    steps = [found.step_words(each.study) for each in quiet.values() if each is not None]
    return {
        **{name: each is not None for name, each in made.items()},
        **_at_least(bpda, "EOT draws", "eot", EOT),
        **_at_least(bpda, "updates", "steps", UPDATES),
        **_at_least(longer, "longer updates", "steps", LONGER),
        **_at_least(found.against("spsa"), "queries", "queries", QUERIES),
        "the best fixed step at σ = 0": not any("not the best" in words for words in steps),
        **_all_images(*(None if each is None else each.study for each in made.values())),
        "Hill et al. under BPDA+EOT": False,  # the paper's own runs, to judge by its stars
        "Carmon et al.": False,
    }


def _corruptions(found: Measured) -> dict[str, bool]:
    lines = corruption_lines(found)
    there = {name: made is not None for name, made in lines.items()}
    made = [each for each in lines.values() if each is not None]
    if not made:
        return there
    return {
        **there,
        "the official images": all(each.study.source == "official" for each in made),
        **_all_images(*(each.study for each in made)),
        "Zhang et al.": False,  # the paper's own runs
        "Carmon et al.": False,
    }


def _sweeps(found: Measured) -> dict[str, bool]:
    return {
        f"{model}, {updates}": getattr(found, f"{key}_{updates.lower()}") is not None
        for key, model in (("ml", "maximum likelihood"), ("dsm", "DSM"))
        for updates in ("Langevin", "deterministic")
    }


def _norms(found: Measured) -> dict[str, bool]:
    purified = ("norm_natural_purified", "norm_adversarial_purified")
    return {
        "norms": found.scores is not None,
        "norms after one step": found.scores is not None and found.scores.has(*purified),
    }


def _certificates(found: Measured) -> dict[str, bool]:
    study = found.certified
    ours = study.sigmas if study is not None else []
    parts = {
        "ADP": bool(ours),
        "a second noise level": len(ours) > 1,
        "a classifier of Cohen et al.'s": any(found.rival(sigma) for sigma in ours),
    }
    if study is None:
        return parts
    images, copies = len(study.labels), int(study.config["n"])
    return {
        **parts,
        f"{CERTIFIED} images (n {images})": images >= CERTIFIED,
        f"{CERTIFIED} copies of each (here {copies})": copies >= CERTIFIED,
    }


def _other_sigmas(found: Measured) -> dict[str, bool]:
    """What was run beside the usual σ; the supplement's values are not known."""
    here = sorted({study.sigma for study in (*found.attacks, found.small, *found.deterministic) if study is not None})
    some = bool(here) and len(np.unique(np.round(here, 6))) > 1
    return {f"σ {', '.join(f'{sigma:.3g}' for sigma in here) or 'of any kind'}": some, "the supplement's values": False}
