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
from robustgen.papers.e_abs.tables.sweeps import OF_EOT, OF_STARTS, OF_STEPS, Sweep
from robustgen.papers.e_abs.words import E_ABS, SVHN
from robustgen.papers.statements import READING, SHARE, Statement
from robustgen.papers.words import plural

SAME = Condition("within", STABLE_MARGIN)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What Appendix B says of a setting of L∞ PGD that one of its tables varies."""

    sweep: Sweep
    papers: int  # the value that the paper calls enough
    source: str
    enough: str
    fewer: str  # what fewer do

    @property
    def words(self) -> str:
        """What the values count."""
        return f"{self.sweep.word}s"


SAID = (
    Said(sweep=OF_EOT, papers=5, source="App. B.1, Table 6",
         enough="5 samples of EOT are sufficient to stabilise gradient-based attacks",
         fewer="with fewer samples of EOT the model seems more robust"),
    Said(sweep=OF_STARTS, papers=20, source="App. B.2, Table 7",
         enough="20 random starts of PGD are sufficient",
         fewer="with fewer random starts PGD finds fewer errors"),
    Said(sweep=OF_STEPS, papers=50, source="App. B.3, Table 8",
         enough="PGD achieves its best results with 50 steps",
         fewer="with fewer steps PGD finds fewer errors"),
)  # fmt: skip


def claims(found: Measured) -> Iterator[Claim]:
    section = found.sweeps
    for said in SAID:
        study = said.sweep.study(section)
        points = {} if study is None else said.sweep.points(study)
        if study is not None and len(points) > 1:
            yield _enough(section.dataset, study, said, points)
            yield _fewer(section.dataset, study, said, points)
            if said.sweep is OF_EOT:
                yield _false_errors(section.dataset, study, points)


def tried(points: dict[int, int], papers: int) -> tuple[int, int]:
    """The value that is to be enough, the paper's or the last but one, and the largest."""
    *others, largest = points
    return (papers if papers in others else others[-1]), largest


def _note(dataset: str, study: AttackStudy, said: Said, points: dict[int, int], pair: tuple[int, int]) -> str:
    ours = ", ".join(f"{value}: {study.robust(point).mean():.1%}" for value, point in points.items())
    cells = [(value, PAPERS.get((SVHN, said.sweep.line(value), E_ABS))) for value in pair]
    papers = ", ".join(f"{value}: {number.value:g} %" for value, number in cells if number is not None)
    beside = f" The paper's: {papers}." if papers else ""
    settings = methods((study, points[value]) for value in pair)
    return f"{instead(dataset, SVHN)}{said.words}: {ours}.{beside} {settings}"


def _enough(dataset: str, study: AttackStudy, said: Said, points: dict[int, int]) -> Claim:
    pair = tried(points, said.papers)
    chosen, largest = pair
    other = "" if chosen == said.papers else f"; here {chosen}, the last but one of a smaller scale's"
    statement = Statement(
        name=f"{said.sweep.name}-enough",
        text=f"{SVHN}: {said.enough}{other}",
        source=said.source,
        quantity=f"accuracy under L∞ PGD, {chosen} − {largest} {said.words}, {SHARE}",
        condition=SAME,
    )
    a, b = ((plural(value, said.sweep.word), study.robust(points[value])) for value in pair)
    return paired(statement, a, b, _note(dataset, study, said, points, pair), f"{READING} ")


def _fewer(dataset: str, study: AttackStudy, said: Said, points: dict[int, int]) -> Claim:
    pair = min(points), max(points)
    statement = Statement(
        name=f"{said.sweep.name}-fewer-look-more-robust",
        text=f"{SVHN}: {said.fewer}",
        source=said.source,
        quantity=f"accuracy under L∞ PGD, {pair[0]} − {pair[1]} {said.words}, {SHARE}",
    )
    a, b = ((plural(value, said.sweep.word), study.robust(points[value])) for value in pair)
    return paired(statement, a, b, _note(dataset, study, said, points, pair))


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
