"""Every run of every params file, and the command line that DVC makes of it, for whoever tests them."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from dvc.parsing.interpolate import to_str

from robustgen.cli import negated

ROOT = Path(__file__).parents[1]
FILES = {"quick": [ROOT / "params.yaml"]} | {
    folder.name: sorted(folder.glob("*.yaml")) for folder in sorted((ROOT / "params").iterdir()) if folder.is_dir()
}
CONTENTS: dict[Path, dict[str, Any]] = {
    file: yaml.safe_load(file.read_text()) for files in FILES.values() for file in files
}
FAMILIES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
EVERY_RUN = [
    (scale, family, run, item)
    for scale, files in FILES.items()
    for file in files
    for family, runs in CONTENTS[file].items()
    for run, item in (runs or {}).items()
]
SHARD = re.compile(r"(.+)\.(\d{3})")
RUNS = [  # of the shards of an evaluation the first
    pytest.param(*values, id=f"{values[1]}@{values[2]}")
    for values in EVERY_RUN
    if not (shard := SHARD.fullmatch(values[2])) or shard[2] == "000"
]
CLASSIFIERS = ("train-classifier", "train-classifier-tuned")


def command_of(family: str) -> str:
    """The command of a family; `defend-none` is `defend` without its generative model, which would be a dependency, and
    `train-classifier-tuned` is `train-classifier` with one.
    """
    return family.removesuffix("-none").removesuffix("-tuned")


def words(family: str, run: str, item: dict[str, Any]) -> list[str]:
    """The words that the shell passes to `robustgen FAMILY`, with DVC's own rendering of the item."""
    options = to_str(item, {"bool": "boolean_optional", "list": "nargs"})
    command = FAMILIES[family]["do"]["cmd"].replace("${key}", run).replace("${item}", options)
    head, *rest = shlex.split(command.removeprefix("exec "))
    assert [head, rest[0]] == ["robustgen", command_of(family)]
    return rest[1:]


def parse(family: str, args: list[str]) -> Any:
    module = import_module(f"robustgen.stages.{command_of(family).replace('-', '_')}")
    kind = module.options_type(args) if hasattr(module, "options_type") else module.Options
    return tyro.cli(kind, args=[negated(word) for word in args])
