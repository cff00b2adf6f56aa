"""Claims about how many samples, random starts and steps an attack on E-ABS needs (Appendix B)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.papers.e_abs.claims.paired import PAPERS, STABLE_MARGIN, instead, methods, paired
from robustgen.papers.e_abs.measured import Measured
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.papers.e_abs.words import E_ABS, SVHN
from robustgen.papers.statements import READING, SHARE, Statement

SAME = Condition("within", STABLE_MARGIN)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A setting of L∞ PGD that Appendix B varies, and what it says of it."""

    name: str  # of the study among Sweeps
    column: str  # of the grid
    papers: int  # the value that the paper calls enough
    source: str
    enough: str
    fewer: str  # what fewer do
    words: str  # "{} EOT runs", as the reference names its lines
    nested: str = ""  # what its values have in common


SWEEPS = (
    Sweep(name="eot", column="draws", papers=5, source="App. B.1, Table 6", words="EOT runs",
          enough="5 samples of EOT are sufficient to stabilise gradient-based attacks",
          fewer="with fewer samples of EOT the model seems more robust"),
    Sweep(name="restarts", column="restarts", papers=20, source="App. B.2, Table 7", words="random starts",
          enough="20 random starts of PGD are sufficient",
          fewer="with fewer random starts PGD finds fewer errors",
          nested=" Fewer starts are the first of more: the difference cannot be below 0."),
    Sweep(name="steps", column="steps", papers=50, source="App. B.3, Table 8", words="steps",
          enough="PGD achieves its best results with 50 steps",
          fewer="with fewer steps PGD finds fewer errors"),
)  # fmt: skip


def claims(found: Measured) -> Iterator[Claim]:
    for sweep in SWEEPS:
        study: AttackStudy | None = getattr(found.sweeps, sweep.name)
        points = {} if study is None else swept(study, sweep.column)
        if study is not None and len(points) > 1:
            yield _enough(found.sweeps.dataset, study, sweep, points)
            yield _fewer(found.sweeps.dataset, study, sweep, points)
            if sweep.name == "eot":
                yield _false_errors(found.sweeps.dataset, study, points)


def swept(study: AttackStudy, column: str) -> dict[int, int]:
    """{value: grid point} of L∞ PGD at the main radius, values of a setting above 0 ascending."""
    if not study.has(attack="pgd", norm="linf"):
        return {}
    points = study.swept(column, attack="pgd", norm="linf", eps=study.main_eps("linf"))
    return {value: point for value, point in points.items() if value > 0}


def tried(points: dict[int, int], papers: int) -> tuple[int, int]:
    """The value that is to be enough, the paper's or the last but one, and the largest."""
    *others, largest = points
    return (papers if papers in others else others[-1]), largest


def _note(dataset: str, study: AttackStudy, sweep: Sweep, points: dict[int, int], pair: tuple[int, int]) -> str:
    ours = ", ".join(f"{value}: {study.robust(point).mean():.1%}" for value, point in points.items())
    cells = [(value, PAPERS.get((SVHN, f"L∞ PGD: {value} {_word(sweep, value)}", E_ABS))) for value in pair]
    papers = ", ".join(f"{value}: {number.value:g} %" for value, number in cells if number is not None)
    beside = f" The paper's: {papers}." if papers else ""
    settings = methods((study, points[value]) for value in pair)
    return f"{instead(dataset, SVHN)}{sweep.words}: {ours}.{beside}{sweep.nested} {settings}"


def _word(sweep: Sweep, value: int) -> str:
    return sweep.words.removesuffix("s") if value == 1 else sweep.words


def _enough(dataset: str, study: AttackStudy, sweep: Sweep, points: dict[int, int]) -> Claim:
    pair = tried(points, sweep.papers)
    chosen, largest = pair
    other = "" if chosen == sweep.papers else f"; here {chosen}, the last but one of a smaller scale's"
    statement = Statement(
        name=f"{sweep.name}-enough",
        text=f"{SVHN}: {sweep.enough}{other}",
        source=sweep.source,
        quantity=f"accuracy under L∞ PGD, {chosen} − {largest} {sweep.words}, {SHARE}",
        condition=SAME,
    )
    a, b = ((f"{value} {_word(sweep, value)}", study.robust(points[value])) for value in pair)
    return paired(statement, a, b, _note(dataset, study, sweep, points, pair), f"{READING} ")


def _fewer(dataset: str, study: AttackStudy, sweep: Sweep, points: dict[int, int]) -> Claim:
    pair = min(points), max(points)
    statement = Statement(
        name=f"{sweep.name}-fewer-look-more-robust",
        text=f"{SVHN}: {sweep.fewer}",
        source=sweep.source,
        quantity=f"accuracy under L∞ PGD, {pair[0]} − {pair[1]} {sweep.words}, {SHARE}",
    )
    a, b = ((f"{value} {_word(sweep, value)}", study.robust(points[value])) for value in pair)
    return paired(statement, a, b, _note(dataset, study, sweep, points, pair))


def _false_errors(dataset: str, study: AttackStudy, points: dict[int, int]) -> Claim:
    """The reason that the paper gives for the seeming robustness."""
    few, many = min(points), max(points)
    statement = Statement(
        name="eot-fewer-mislead-the-attack",
        text=f"{SVHN}: with fewer samples of EOT the randomness of inference makes an attack believe falsely that it "
        "has succeeded",
        source="App. B.1",
        quantity=f"share of the test images with errors that PGD saw and fresh inference does not confirm, {few} − "
        f"{many} EOT runs",
    )

    def false(value: int) -> np.ndarray:
        point = points[value]
        return np.asarray(study.natural & study.seen(point) & study.robust(point))

    settings = f"{instead(dataset, SVHN)}{methods((study, points[value]) for value in (few, many))}"
    return paired(statement, (f"EOT {few}", false(few)), (f"EOT {many}", false(many)), settings)
