"""Time the workflow beyond its stages' own work: `python benchmarks/overhead.py [--cores N] [TARGET...]`.

Runs `snakemake TARGET...` here, in this checkout, and notes when each stage's command began and ended. The same
commands, started as soon as their inputs are there by a scheduler that costs nothing, would have taken the ideal
time; the rest of the makespan is overhead: planning, DVC, Snakemake. Then runs it again, with nothing left to do.
"""

from __future__ import annotations

import argparse
import ast
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from robustgen.pipeline import Pipeline, Stage, own_programs_first

ASKED = 0.15  # share of the makespan
ASKED_IDLE = 10.0  # seconds with nothing to do
# Stands for `robustgen`: a line for each command, its begin, end and processor time in seconds and its arguments.
STAND_IN = r"""#!{python} -ES
import resource, subprocess, sys, time
begun = time.time()
status = subprocess.run(["{real}", *sys.argv[1:]]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open("{log}", "a") as log:
    log.write(repr((begun, time.time(), used.ru_utime + used.ru_stime, sys.argv[1:])) + chr(10))
sys.exit(status)
"""


class Span(NamedTuple):
    """When a stage's command ran, and the processor's time it took; seconds."""

    begun: float
    ended: float
    processor: float

    @property
    def seconds(self) -> float:
        return self.ended - self.begun


def watched(folder: Path, command: Sequence[str]) -> dict[str, Span]:
    """Run a command with the stand-in first on PATH; by output, when the `robustgen` that wrote it ran."""
    real, log = shutil.which("robustgen"), folder / "spans"
    program = folder / "robustgen"
    program.write_text(STAND_IN.format(python=sys.executable, real=real, log=log))
    program.chmod(0o755)
    log.touch()
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, env=os.environ | {"PATH": path}, check=True)
    lines = [ast.literal_eval(line) for line in log.read_text().splitlines()]
    return {words[words.index("--out") + 1]: Span(*times) for *times, words in lines}


def ideal(pipeline: Pipeline, spans: Mapping[str, Span], cores: int) -> float:
    """Seconds the same commands take, in the same order, each as soon as its inputs are there and cores are free."""
    makers = {path: stage for stage in pipeline.stages.values() for path in stage.outputs}
    ran = {stage: spans[out] for stage in makers.values() if (out := stage.option("--out") or "") in spans}
    free, done = [0.0] * cores, dict[Stage, float]()

    def ready(stage: Stage) -> float:
        """When its inputs are there; a stage whose command did not run makes its outputs at once."""
        before = {makers[path] for path in stage.inputs}
        return max((done[maker] if maker in done else ready(maker) for maker in before), default=0.0)

    for stage in sorted(ran, key=ran.__getitem__):
        free.sort()
        width = min(stage.threads, cores)
        done[stage] = max(free[width - 1], ready(stage)) + ran[stage].seconds
        free[:width] = [done[stage]] * width
    return max(free)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("targets", nargs="*", default=["quick"])
    options = parser.parse_args(arguments)
    own_programs_first()
    command = ["snakemake", "--quiet", "all", "--cores", str(options.cores), *options.targets]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.time()
        spans = watched(Path(folder), command)
        makespan = time.time() - begun
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = children.ru_utime + children.ru_stime
    if not spans:
        print("FAILED: nothing was stale, so there is nothing to measure")
        return 1
    least = ideal(Pipeline.load(), spans, options.cores)
    begun = time.time()
    subprocess.run(command, check=True)
    idle = time.time() - begun
    share = 1 - least / makespan
    own, processor = (sum(times) for times in zip(*((s.seconds, s.processor) for s in spans.values()), strict=True))
    print(f"{len(spans)} stages on {options.cores} cores in {makespan:.1f} s; their commands took {own:.1f} s")
    print(f"without the workflow's own time {least:.1f} s: overhead {share:.1%} of the makespan (asked: {ASKED:.0%})")
    print(f"of {used:.1f} s of the processors the workflow took {used - processor:.1f} s ({1 - processor / used:.1%})")
    print(f"with nothing to do {idle:.1f} s (asked: {ASKED_IDLE:.0f} s)")
    if share > ASKED or idle > ASKED_IDLE:
        print("more than asked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
