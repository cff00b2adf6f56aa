"""How far each item of the paper is reproduced at a scale, from what was measured there."""

from __future__ import annotations

from collections.abc import Mapping

from robustgen.evaluation.rows import Coverage, Status
from robustgen.papers.adp.study import Measured
from robustgen.papers.adp.tables import UNDER, corruption_lines
from robustgen.papers.adp.words import ATTACKS, ELSEWHERE, SHOWN

ABSENT = "the appendices are not part of the text at hand"


def coverage(found: Measured) -> list[Coverage]:
    """One line per table, figure and section with numbers."""
    return [
        _line(found, "Table 1", "the attacks", "table1", _attacks(found)),
        _line(found, "Table 2", "attacks on the classifier alone", "table2", _blind(found)),
        _line(found, "Table 3", "adaptive attacks", "table3", _adaptive(found)),
        _line(found, "Table 4", "common corruptions", "table4", _corruptions(found)),
        Coverage(
            item="Figure 1", what="drawing of the method", status="not reproducible", where="", note="it has no data"
        ),
        _line(found, "Figure 2", "accuracy against the purification steps", "figure2", _sweeps(found)),
        _line(found, "Figure 3", "score norms", "figure3", _norms(found)),
        _line(found, "Figure 4", "certified accuracy", "figure4", _certificates(found)),
        _elsewhere(found),
        _line(found, "Appendix D.3", f"number of EOT draws; {ABSENT}", "eot", {"a sweep": found.eot is not None}),
        Coverage(
            item="Appendix D.6",
            what=f"further data sets; {ABSENT}",
            status="not reproducible",
            where="",
            note="what Sec. 5.1.5 says of them is in its line",
        ),
    ]


def _line(found: Measured, item: str, what: str, where: str, parts: Mapping[str, bool]) -> Coverage:
    """Nothing there: not at this scale; all parts on the paper's data set: reproduced; else partly."""
    missing = [part for part, there in parts.items() if not there]
    elsewhere = found.dataset != SHOWN
    status: Status = "partly" if missing or elsewhere else "reproduced"
    if len(missing) == len(parts):
        status = "not at this scale"
    words = [f"on {found.dataset}"] if status != "not at this scale" else []
    words += [f"{SHOWN} not at this scale"] if elsewhere and words else []
    words += [f"without {', '.join(missing)}"] if missing and words else []
    return Coverage(item=item, what=what, status=status, where=where, note="; ".join(words))


def _attacks(found: Measured) -> dict[str, bool]:
    """Those of the paper; APGD is ours to add."""
    return {kind.name: found.against(attack) is not None for attack, kind in ATTACKS.items() if attack != "apgd"}


def _blind(found: Measured) -> dict[str, bool]:
    return {
        "the raw classifier": found.raw is not None,
        "ADP": found.against("classifier") is not None,
        "ADP of smaller σ": found.small is not None,
        "the EBM defence of Hill et al.": found.hill is not None,
    }


def _adaptive(found: Measured) -> dict[str, bool]:
    papers = [attack for attack in UNDER if attack not in ("apgd", "full")]
    noisy = {f"{UNDER[attack]} on ADP": found.against(attack) is not None for attack in papers}
    quiet = {
        f"{ATTACKS[attack].name} on ADP at σ = 0": found.against(attack, noise=False) is not None for attack in papers
    }
    return noisy | {"a longer BPDA+EOT": found.longer is not None} | quiet


def _corruptions(found: Measured) -> dict[str, bool]:
    return {line: made is not None for line, made in corruption_lines(found).items()}


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
    ours = found.certified.sigmas if found.certified is not None else []
    return {
        "ADP": bool(ours),
        "a second noise level": len(ours) > 1,
        "a classifier of Cohen et al.'s": any(found.rival(sigma) for sigma in ours),
    }


def _elsewhere(found: Measured) -> Coverage:
    here = [dataset for dataset, _ in found.others]
    missing = [dataset for dataset in ELSEWHERE if dataset not in here]
    status: Status = "not at this scale" if not here else "partly" if missing else "reproduced"
    words = ([f"on {', '.join(here)}"] if here else []) + ([f"{' and '.join(missing)} not run"] if missing else [])
    return Coverage(item="Sec. 5.1.5", what="other data sets", status=status, where="extra", note="; ".join(words))
