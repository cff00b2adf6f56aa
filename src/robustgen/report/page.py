"""The page itself: results and provenance put into the templates beside this file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from robustgen.evaluation.rows import Claim, decimals, interval, number
from robustgen.report.content import VERDICTS, Section
from robustgen.report.provenance import RESTORED, Stage

# What a reader should know of a scale before reading its numbers.
SCALES = {
    "quick": "the small one: scikit-learn’s handwritten digits and small networks, minutes on any CPU. "
    "It shows whether an effect exists; its numbers are not of the paper’s setting",
    "desktop": "the papers’ smaller data sets and networks, with epochs and test images cut where needed",
    "paper": "the papers’ own data, networks, hyper-parameters and sample counts",
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was run, in the words of the page."""

    scale: str
    description: str
    datasets: tuple[str, ...]
    machines: tuple[str, ...]
    versions: tuple[str, ...]
    started: str
    wall: float  # seconds, summed over the stages run here
    cpu: float
    run: int  # number of stages
    restored: int


def facts(scale: str, sections: Sequence[Section], stages: Sequence[Stage]) -> Facts:
    """Sums up what the stages' records say; everything is empty or zero where no stage was run on this machine."""
    records = [stage.record for stage in stages if stage.record]
    tables = [item.table for section in sections for item in section.items if item.table]
    lines = [line for table in tables for line in table.lines]
    measured_on = [
        line.dataset for line in lines if any(cell and cell.value is not None and cell.n for cell in line.cells)
    ]
    machines = list(dict.fromkeys(record.machine for record in records))
    versions = {" ".join(version) for record in records for version in record.versions}
    return Facts(
        scale=scale,
        description=SCALES.get(scale, ""),
        datasets=tuple(dict.fromkeys(measured_on)),
        machines=tuple(name for name in machines if not any(other.startswith(f"{name}, ") for other in machines)),
        versions=tuple(sorted(versions)),
        started=min((record.started for record in records), default=""),
        wall=sum(record.wall for record in records),
        cpu=sum(record.cpu for record in records),
        run=len(records),
        restored=len(stages) - len(records),
    )


def render(scale: str, sections: Sequence[Section], stages: Sequence[Stage]) -> str:
    """The whole page as HTML: no script, no address outside the page but links to files beside it."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "plain": plain,
        "measured": measured,
        "moment": moment,
        "folded": folded,
        "duration": duration,
        "anchor": anchor,
    }
    totals = {verdict: sum(section.verdicts[verdict] for section in sections) for verdict in VERDICTS}
    template = environment.get_template("page.html.j2")
    return template.render(
        facts=facts(scale, sections, stages),
        sections=sections,
        stages=stages,
        totals=totals,
        restored=RESTORED,
        interval=interval,
    )


def plain(value: float) -> str:
    """A number on its own, with four significant digits and no zeros at its end."""
    text = number(value, decimals([value]))
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def measured(claim: Claim) -> tuple[str, str]:
    """A claim's value and its interval, the digits chosen by the largest of them."""
    digits = decimals(value for value in (claim.value, claim.low, claim.high) if value is not None)
    return number(claim.value, digits), interval(claim.low, claim.high, digits)


def moment(iso: str) -> str:
    """An ISO time to the minute, with a blank between date and time of day."""
    return iso[:16].replace("T", " ")


def duration(seconds: float) -> str:
    """Seconds as a reader says them: 0.4 s, 48 s, 3 min 12 s, 2 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def folded(command: str) -> str:
    """A long shell command with one option a line; a copy of it still runs. Quoted words are left as they are."""
    if len(command) < 72 or "'" in command or '"' in command:
        return command
    return command.replace(" --", " \\\n  --")


def anchor(*parts: str) -> str:
    """A page anchor of names: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
