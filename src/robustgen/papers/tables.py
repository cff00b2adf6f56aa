"""Rows of a paper's tables in percent, each with the paper's number beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from robustgen.evaluation.rows import Row
from robustgen.evaluation.statistics import Estimate
from robustgen.papers.reference import Number
from robustgen.papers.studies import Attacked, accuracy

Cell = tuple[str, str, str]  # data set, row, column
NOT_OURS = ("(borrowed)", "(not run here)")  # how the names of lines end that no run of ours has


class Table:
    """Rows of one table, each with the paper's number for its data set beside it."""

    def __init__(self, slug: str, item: str, scale: str, known: Mapping[Cell, Number]) -> None:
        self.slug = slug
        self.item = item
        self.scale = scale
        self.known = known

    def row(
        self, dataset: str, line: str, column: str, estimate: Estimate, method: str, beside: str | None = None
    ) -> Row:
        """A share of ours in percent; `beside` is the data set whose number of the paper's stands beside it."""
        percent = Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high, estimate.n)
        return self.number(dataset, line, column, percent, "%", method, beside)

    def number(
        self,
        dataset: str,
        line: str,
        column: str,
        value: Estimate | float,
        unit: str,
        method: str,
        beside: str | None = None,
    ) -> Row:
        """A number of ours, with an interval where it is an estimate, else a setting or a plain measurement."""
        number = self.known.get((beside or dataset, line, column))
        if number is not None:
            method += f"; {number.whose}: {beside or dataset}, {number.source}"
        estimate = value if isinstance(value, Estimate) else None
        plain = value.value if isinstance(value, Estimate) else value
        return Row(
            paper=self.slug,
            item=self.item,
            row=line,
            column=column,
            scale=self.scale,
            dataset=dataset,
            n=estimate.n if estimate else None,
            value=plain,
            low=estimate.low if estimate else None,
            high=estimate.high if estimate else None,
            unit=unit,
            reference=None if number is None else number.value,
            method=method,
        )

    def alone(
        self, dataset: str, line: str, column: str, shown_under: str | None = None, unit: str = "%"
    ) -> Iterator[Row]:
        """The paper's number without one of ours, where it gives one."""
        number = self.known.get((dataset, line, column))
        if number is not None:
            yield Row(
                paper=self.slug,
                item=self.item,
                row=line,
                column=column,
                scale=self.scale,
                dataset=shown_under or dataset,
                n=None,
                value=None,
                low=None,
                high=None,
                unit=unit,
                reference=number.value,
                method=f"not ours; {number.whose}: {dataset}, {number.source}",
            )

    def false_breaks(self, dataset: str, line: str, column: str, control: Attacked | None) -> Iterator[Row]:
        """What an attack of radius 0 breaks of the images that are right without attack; nothing where none is."""
        if control is not None and control.natural.any():
            estimate = accuracy(control.study.broken(control.point)[control.natural])
            method = f"{control.method}; share of the images that are right without attack"
            yield self.row(dataset, line, column, estimate, method)

    def borrowed(self, dataset: str, shown_under: str) -> Iterator[Row]:
        """Every line of this table that the paper took from others, or ran and we do not."""
        for (where, line, column), number in self.known.items():
            if where == dataset and line.endswith(NOT_OURS) and number.source.startswith(f"{self.item},"):
                yield from self.alone(dataset, line, column, shown_under)
