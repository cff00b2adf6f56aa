"""Stands for `robustgen` in a small copy of the repository: the real command line, with stages that take a second.

A stage computes in steps with a checkpoint after each, and writes every output in pieces; what it writes follows from
its command line, its inputs and every step.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from robustgen import cli
from robustgen.io import atomic, load_json, save_json
from robustgen.records import recorded

STEPS = 6
SECONDS = 0.05  # of a step, or of writing a piece
PIECES = 5


def run(command: str, args: Sequence[str]) -> None:
    """What `cli.run` does, with a stage of no use."""
    out = args[args.index("--out") + 1]
    with recorded(command, args, out):
        line = shlex.join([command, *args])
        state = Path(".cache/checkpoints", hashlib.sha256(line.encode()).hexdigest()[:32] + ".json")
        digest = compute(line, state, content(args))
        for target in outputs(command, args, out):
            write(target, digest)
        state.unlink()


def content(args: Sequence[str]) -> bytes:
    """The bytes of every file that the arguments name, itself or by its folder."""
    paths = [Path(word) for word in args if Path(word).exists()]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.npz")))]
    return b"".join(file.read_bytes() for file in files)


def compute(line: str, state: Path, inputs: bytes) -> str:
    steps: list[str] = load_json(state) if state.is_file() else []
    note("resumed.log" if steps else "started.log", line)
    for step in range(len(steps), STEPS):
        work()
        before = f"{line} {step} {steps}".encode()
        save_json(state, [*steps, hashlib.sha256(before + inputs).hexdigest()])
        steps = load_json(state)
    return steps[-1]


def work() -> None:
    """Take a while; as long as there is a file `hold`."""
    time.sleep(SECONDS)
    while Path("hold").exists():
        time.sleep(SECONDS)


def note(name: str, line: str) -> None:
    with Path(name).open("a") as log:
        log.write(f"{line}\n")


def outputs(command: str, args: Sequence[str], out: str) -> Iterator[Path]:
    """The outputs of the stage of this command whose run makes `out`."""
    families = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    for family in (entry["do"] for entry in families.values() if f"robustgen {command} " in entry["do"]["cmd"]):
        pattern = re.escape(re.search(r"--out (\S+)", family["cmd"])[1]).replace(re.escape("${key}"), "(.+)")  # type: ignore[index]
        if found := re.fullmatch(pattern, out):
            entries = [entry for section in ("outs", "metrics", "plots") for entry in family.get(section, [])]
            paths = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
            yield from (Path(path.replace("${key}", found[1])) for path in paths)
            return


def write(target: Path, digest: str) -> None:
    with atomic(target) as temporary, temporary.open("w") as file:
        for piece in range(PIECES):
            file.write(f"{target},{piece},{digest}\n" * 50)
            file.flush()
            work()


if __name__ == "__main__":
    cli.run = run
    sys.exit(cli.main())
