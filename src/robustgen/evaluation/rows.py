"""Result rows, claims and coverage: what every table of a paper is made of, as CSV and as Markdown.

Three records, one CSV file each; the Markdown and the HTML report are views of the same pivot.
"""

from __future__ import annotations

import math
import types
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from numbers import Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from robustgen.errors import UserError
from robustgen.io import PathLike, load_csv, save_csv, unreadable

Verdict = Literal["holds", "fails", "not decided"]
Status = Literal["reproduced", "partly", "not at this scale", "not reproducible"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of a table, with its interval, the paper's number and how it was computed.

    A row without a value holds the paper's number alone: one that we did not measure, or that it borrowed.
    """

    paper: str  # slug
    item: str  # "Table 1"
    row: str
    column: str
    scale: str
    dataset: str
    n: int | None  # test images (or other units) behind the value
    value: float | None
    low: float | None  # 95 % interval
    high: float | None
    unit: str  # "%", "nats", "" for a pure number
    reference: float | None  # the paper's value, same unit
    method: str  # attack, steps, eps, EOT, seed ...


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of a paper, what we measured for it, and whether it holds."""

    id: str
    statement: str
    source: str  # "Sec. 4.1, Fig. 2a"
    quantity: str  # what `value` is
    condition: str  # "< 0": the claim holds where the interval of `value` meets it
    value: float | None
    low: float | None  # 95 % interval
    high: float | None
    n: int | None
    verdict: Verdict
    note: str


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """One item of a paper and how far it is reproduced."""

    item: str  # "Table 1"
    what: str
    status: Status
    where: str  # artifact name, or ""
    note: str


Record = TypeVar("Record", Row, Claim, Coverage)
Note = tuple[tuple[str, ...], str]


def save_rows(path: PathLike, rows: Iterable[Row]) -> None:
    """Write result rows as CSV. UserError for a value that is not finite, or two rows for one cell."""
    _save(path, Row, rows, ("paper", "item", "row", "column", "scale", "dataset"))


def load_rows(path: PathLike) -> list[Row]:
    """Read result rows; UserError naming file, line and fault where the file is missing or malformed."""
    return _load(path, Row, "table")


def save_claims(path: PathLike, claims: Iterable[Claim]) -> None:
    """Write claims as CSV. UserError for a value that is not finite, or two claims of one id."""
    _save(path, Claim, claims, ("id",))


def load_claims(path: PathLike) -> list[Claim]:
    """Read claims; UserError naming file, line and fault where the file is missing or malformed."""
    return _load(path, Claim, "list of claims")


def save_coverage(path: PathLike, coverage: Iterable[Coverage]) -> None:
    """Write the coverage of a paper's items as CSV. UserError for two lines of one item and subject."""
    _save(path, Coverage, coverage, ("item", "what"))


def load_coverage(path: PathLike) -> list[Coverage]:
    """Read the coverage table; UserError naming file, line and fault where the file is missing or malformed."""
    return _load(path, Coverage, "coverage table")


def _save(path: PathLike, kind: type[Record], records: Iterable[Record], key: tuple[str, ...]) -> None:
    ready = list(records)
    seen = set()
    for record in ready:
        name = tuple(getattr(record, field) for field in key)
        if name in seen:
            raise UserError(f"{path}: two entries for {' / '.join(name)}; each must be unique")
        seen.add(name)
        _check(path, record, " / ".join(name))
    save_csv(path, [field.name for field in fields(kind)], [astuple(record) for record in ready])


def _check(path: PathLike, record: Row | Claim | Coverage, name: str) -> None:
    for field, kind in get_type_hints(type(record)).items():
        value = getattr(record, field)
        plain, optional = _plain(kind)
        if value is None and optional:
            continue
        if plain is float and not (isinstance(value, Real) and math.isfinite(value)):
            raise UserError(f"{path}: {name}: {field} is {value}; a result must be a finite number")
        if get_origin(plain) is Literal and value not in get_args(plain):
            raise UserError(f"{path}: {name}: {field} is {value!r}; one of {', '.join(get_args(plain))}")
    low, high = getattr(record, "low", None), getattr(record, "high", None)
    if (low is None) != (high is None) or (low is not None and high is not None and low > high):
        raise UserError(f"{path}: {name}: [{low}, {high}] is no interval; give both ends, the lower first, or neither")
    if isinstance(record, Row) and not _says_something(record):
        raise UserError(f"{path}: {name}: value is missing; only a row that holds the paper's number alone may lack it")


def _says_something(row: Row) -> bool:
    """Whether it has a value, or the paper's number and nothing that belongs to a value."""
    alone = row.reference is not None and row.low is None and row.n is None
    return row.value is not None or alone


def _plain(kind: Any) -> tuple[Any, bool]:
    """The type without its None, and whether it had one."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(option for option in get_args(kind) if option is not type(None)), True
    return kind, False


def _load(path: PathLike, kind: type[Record], what: str) -> list[Record]:
    header, lines = load_csv(path, what)
    hints = get_type_hints(kind)
    records = []
    try:
        if header != list(hints):
            raise ValueError(f"columns are {', '.join(header) or 'none'}; expected {', '.join(hints)}")
        for number, cells in enumerate(lines, 2):
            values = {name: _parse(cell, hints[name], name, number) for name, cell in zip(header, cells, strict=True)}
            record = kind(**values)
            if isinstance(record, Row) and not _says_something(record):
                raise ValueError(f"line {number}: value is '', not a number")
            records.append(record)
    except ValueError as error:
        raise unreadable(path, what, error) from error
    return records


def _parse(cell: str, kind: Any, name: str, line: int) -> Any:
    """One CSV cell as the type of its field; ValueError naming line and column where it does not fit."""
    kind, optional = _plain(kind)
    if optional and cell == "":
        return None
    if get_origin(kind) is Literal:
        if cell not in get_args(kind):
            raise ValueError(f"line {line}: {name} is {cell!r}, not one of {', '.join(get_args(kind))}")
        return cell
    try:
        value = kind(cell)
    except ValueError:
        raise ValueError(f"line {line}: {name} is {cell!r}, not a number") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"line {line}: {name} is {cell}, not a finite number")
    return value


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column group of a pivoted table: its name, unit, decimals of its numbers, and what it has beside `ours`."""

    name: str
    unit: str
    decimals: int
    has_interval: bool
    has_reference: bool

    @property
    def heading(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a pivoted table; cells in the order of the columns, None where there is no such row."""

    dataset: str
    label: str
    cells: tuple[Row | None, ...]


@dataclass(frozen=True, kw_only=True)
class Pivot:
    """Result rows as a table, and what is said below it: (the cells it is about, none for all; text)."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    datasets: tuple[str, ...]
    counts: tuple[Note, ...]  # text: "n = 1000"
    methods: tuple[Note, ...]


def pivot(rows: Sequence[Row]) -> Pivot:
    """One line per dataset and `row`, one column group per `column` and unit, each in order of appearance."""
    datasets = tuple(dict.fromkeys(row.dataset for row in rows))
    keys = list(dict.fromkeys((row.column, row.unit) for row in rows))
    cells = {(row.dataset, row.row, row.column, row.unit): row for row in rows}
    columns = tuple(_column(*key, [row for row in rows if (row.column, row.unit) == key]) for key in keys)
    # sorted is stable: the lines of one dataset stand together, otherwise as they came
    labels = sorted(dict.fromkeys((row.dataset, row.row) for row in rows), key=lambda label: datasets.index(label[0]))
    lines = tuple(
        Line(dataset=dataset, label=label, cells=tuple(cells.get((dataset, label, *key)) for key in keys))
        for dataset, label in labels
    )
    about = [(row.row if len(datasets) == 1 else f"{row.dataset}: {row.row}", row.column, row) for row in rows]
    counts = _grouped([(label, column, f"n = {row.n}") for label, column, row in about if row.n is not None])
    methods = _grouped([(label, column, row.method) for label, column, row in about if row.method])
    return Pivot(columns=columns, lines=lines, datasets=datasets, counts=counts, methods=methods)


def _column(name: str, unit: str, rows: Sequence[Row]) -> Column:
    values = [value for row in rows for value in (row.value, row.low, row.high, row.reference) if value is not None]
    return Column(
        name=name,
        unit=unit,
        decimals=0 if not unit and all(float(value).is_integer() for value in values) else decimals(values, unit),
        has_interval=any(row.low is not None for row in rows),
        has_reference=any(row.reference is not None for row in rows),
    )


def decimals(values: Iterable[float], unit: str = "") -> int:
    """Decimals to print `values` with: two for percentages, as papers do; otherwise four digits, three below 0.001."""
    largest = max((abs(value) for value in values), default=0.0)
    if unit == "%" or largest == 0:
        return 2
    if largest < 1e-3:
        return 2 - math.floor(math.log10(largest))
    return 4 if largest < 2 else max(3 - math.floor(math.log10(largest)), 0)


def _grouped(entries: Sequence[tuple[str, str, str]]) -> tuple[Note, ...]:
    """(where, text) per distinct text of (row, column, text); nowhere named where one text is said of all of them."""
    every: dict[str, list[tuple[str, str]]] = {}
    for row, column, text in entries:
        every.setdefault(text, []).append((row, column))
    if len(every) == 1:
        return (((), next(iter(every))),)
    rows, columns = Counter(row for row, _, _ in entries), Counter(column for _, column, _ in entries)
    return tuple((_where(cells, rows, columns), text) for text, cells in every.items())


def _where(cells: Sequence[tuple[str, str]], rows: Mapping[str, int], columns: Mapping[str, int]) -> tuple[str, ...]:
    """Names cells as whole columns where they are, else row by row; `rows` and `columns` count all their cells."""
    by_column = Counter(column for _, column in cells)
    if all(count == columns[column] for column, count in by_column.items()) and len(rows) > 1:
        return tuple(by_column)
    by_row: dict[str, list[str]] = {}
    for row, column in cells:
        by_row.setdefault(row, []).append(column)
    return tuple(row if len(named) == rows[row] else f"{row}, {', '.join(named)}" for row, named in by_row.items())


def number(value: float | None, digits: int = 2) -> str:
    """`value` with `digits` digits after the point and a real minus sign; a dash for None."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}" if value == 0 or abs(value) >= 10.0**-digits else f"{value:.2g}"
    return text.replace("-", "−") if float(text) != 0 else text.lstrip("-")


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """The interval as [low, high], or "" where there is no interval."""
    return "" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def markdown(rows: Sequence[Row], caption: str) -> str:
    """The pivoted table as Markdown: ours with its 95 % interval, the paper's value beside it, then n and method."""
    table = pivot(rows)
    several = len(table.datasets) > 1
    heading = [*(["dataset"] if several else []), ""]
    for column in table.columns:
        heading += [f"{column.heading}, ours", *(["paper"] if column.has_reference else [])]
    lines = [
        [*([line.dataset] if several else []), line.label, *_markdown_cells(table.columns, line.cells)]
        for line in table.lines
    ]
    notes = [f"dataset: {name}" for name in table.datasets if not several]
    notes += ["[low, high] is the 95 % interval"] if any(column.has_interval for column in table.columns) else []
    notes += [f"{'; '.join(where)}: {text}" if where else text for where, text in (*table.counts, *table.methods)]
    return _markdown(caption, heading, lines) + "\n" + "".join(f"- {note}\n" for note in notes)


def _markdown_cells(columns: Sequence[Column], cells: Sequence[Row | None]) -> Iterable[str]:
    for column, cell in zip(columns, cells, strict=True):
        ours = (
            (number(cell.value, column.decimals), interval(cell.low, cell.high, column.decimals)) if cell else ("–", "")
        )
        yield " ".join(ours).strip()
        if column.has_reference:
            yield number(cell.reference if cell else None, column.decimals)


def claims_markdown(claims: Sequence[Claim], caption: str) -> str:
    """The claims as a Markdown table, one line each with verdict, value and condition."""
    heading = ["claim", "where", "verdict", "quantity", "value", "condition", "n", "note"]
    lines = []
    for claim in claims:
        digits = decimals(value for value in (claim.value, claim.low, claim.high) if value is not None)
        value = f"{number(claim.value, digits)} {interval(claim.low, claim.high, digits)}".strip()
        n = "–" if claim.n is None else str(claim.n)
        lines.append(
            [claim.statement, claim.source, claim.verdict, claim.quantity, value, claim.condition, n, claim.note]
        )
    return _markdown(caption, heading, lines)


def _markdown(caption: str, heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(heading)
    body = (
        " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) for line in [heading, rule, *lines]
    )
    return f"{caption}\n\n" + "".join(f"| {line} |\n" for line in body)
