"""Lines of a paper's coverage, from which parts of its tables and figures a scale has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustgen.evaluation.rows import Coverage, Status


def line(item: str, what: str, where: str, parts: Mapping[str, bool], *, dataset: str, shown: str) -> Coverage:
    """Nothing there: not at this scale; all parts on the paper's own data set, `shown`: reproduced; else partly."""
    missing = [part for part, there in parts.items() if not there]
    elsewhere = dataset != shown
    status: Status = "partly" if missing or elsewhere else "reproduced"
    if len(missing) == len(parts):
        status = "not at this scale"
    words = [f"on {dataset}"] if status != "not at this scale" else []
    words += [f"{shown} not at this scale"] if elsewhere and words else []
    words += [f"without {', '.join(missing)}"] if missing and words else []
    return Coverage(item=item, what=what, status=status, where=where, note="; ".join(words))


def other_data_sets(item: str, where: str, here: Sequence[str], missing: Sequence[str]) -> Coverage:
    """The line of further data sets: those that are there, and those of the paper's that are not."""
    status: Status = "not at this scale" if not here else "partly" if missing else "reproduced"
    words = ([f"on {', '.join(here)}"] if here else []) + ([f"{' and '.join(missing)} not run"] if missing else [])
    return Coverage(item=item, what="other data sets", status=status, where=where, note="; ".join(words))


def drawing(item: str) -> Coverage:
    """A figure that only explains."""
    return Coverage(item=item, what="drawing of the method", status="not reproducible", where="", note="it has no data")
