"""Switch a paper on or off at a scale: its params file enters or leaves the `vars` list of dvc.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from robustgen.errors import UserError
from robustgen.io import atomic
from robustgen.pipeline import scales

DEFINITION = Path("dvc.yaml")


@dataclass(frozen=True, kw_only=True)
class Options:
    scale: Annotated[Positional[str], arg(metavar="SCALE")]  # desktop or paper: a folder of params/
    slug: Annotated[Positional[str], arg(metavar="SLUG")]  # the paper: a file of that folder, without .yaml
    state: Positional[Literal["on", "off"]] = "on"  # off keeps the results and their entries in dvc.lock


def run(options: Options) -> None:
    file = params_file(options.scale, options.slug)
    changed = switch(DEFINITION, file, on=options.state == "on")
    print(f"{options.slug} at scale {options.scale} {'is now' if changed else 'was already'} {options.state}")
    if options.state == "on":
        print(f"next: `snakemake {options.scale}` makes its results, `dvc pull` fetches those that were published")


def params_file(scale: str, slug: str) -> str:
    """The params file of a paper at a scale; UserError naming the known scales or papers where there is none."""
    if scale == "quick":
        raise UserError("scale quick is params.yaml itself and always on; only desktop and paper are switched")
    known = scales()
    if scale not in known:
        raise UserError(f"unknown scale {scale!r}; known: {', '.join(known) or 'none, params/<scale>/ is empty'}")
    if slug not in known[scale]:
        raise UserError(f"no paper {slug!r} at scale {scale}; known: {', '.join(known[scale])}")
    return f"params/{scale}/{slug}.yaml"


def switch(definition: Path, file: str, *, on: bool) -> bool:
    """Put `file` into the `vars` list of dvc.yaml or take it out; every other byte stays. True where that changed it.

    Raises UserError where `definition` is missing, not YAML, or has `vars` that are not a list.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = definition.read_text()
        content = YAML().load(text)
    except FileNotFoundError:
        raise UserError(f"no {definition} here; run this in the repository's root") from None
    except YAMLError as error:
        raise UserError(f"{definition} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("vars"), list):
        raise UserError(f"{definition} has no list `vars`; write `vars: []` above its stages")
    if (file in content["vars"]) is on:
        return False
    lines = text.splitlines(keepends=True)
    if on:
        _add(lines, content, file)
    else:
        _remove(lines, content, file)
    with atomic(definition) as temporary:
        temporary.write_text("".join(lines))
    return True


# ruamel.yaml says where the list stands; the lines are edited as text, because writing the tree back would drop the
# comments and blank lines that follow an item taken out.


def _add(lines: list[str], content: Any, file: str) -> None:
    listed = content["vars"]
    if _in_brackets(lines, content):
        _to_block(lines, content)
        lines.insert(_key_line(content) + len(listed) + 1, f"- {file}\n")
    else:
        line, column = listed.lc.item(0)  # the column is that of the value, two after the dash
        if isinstance(listed[-1], str):
            line = listed.lc.item(len(listed) - 1)[0] + 1
        lines.insert(line, f"{' ' * (column - 2)}- {file}\n")


def _remove(lines: list[str], content: Any, file: str) -> None:
    listed = content["vars"]
    if _in_brackets(lines, content):
        _to_block(lines, content)
        line = _key_line(content) + 1 + listed.index(file)
    else:
        line = listed.lc.item(listed.index(file))[0]
    del lines[line]
    if len(listed) == 1:
        key = _key_line(content)
        lines[key] = lines[key].replace("vars:", "vars: []", 1)


def _key_line(content: Any) -> int:
    return int(content.lc.key("vars")[0])


def _in_brackets(lines: list[str], content: Any) -> bool:
    return lines[_key_line(content)].partition("#")[0].removeprefix("vars:").lstrip().startswith("[")


def _to_block(lines: list[str], content: Any) -> None:
    """Rewrite `vars: [a, b]` as one line an item."""
    key = _key_line(content)
    before, _, rest = lines[key].partition("[")
    _, closed, after = rest.partition("]")
    if not closed or any(not isinstance(item, str) for item in content["vars"]):
        raise UserError("the list `vars` of dvc.yaml spans lines inside [ ]; write one item a line, each after a dash")
    lines[key : key + 1] = [f"{before.rstrip()}{after.rstrip()}\n"] + [f"- {item}\n" for item in content["vars"]]
