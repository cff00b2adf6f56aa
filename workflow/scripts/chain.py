"""chain.py STAGE...: bring DVC stages and all they need up to date, one after the other.

What `dvc repro STAGE...` does, for several that run at once in one checkout, on one machine or on the nodes of a
cluster: a stage that two of them need is made by one, the other waits for it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from supervise import lead

from robustgen.errors import UserError
from robustgen.pipeline import Pipeline, ask_dvc, order, own_programs_first

SCRIPT = Path(__file__).with_name("repro.sh")
PATIENCE = 600.0  # seconds to wait for DVC's lock while the plan is made


def plan() -> Pipeline:
    """The pipeline as DVC sees it; waits while others hold DVC's lock."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return ask_dvc(beside_others=True)
        except UserError as error:
            if "another DVC process works here" not in str(error) or time.monotonic() > end:
                raise


def main(targets: list[str]) -> int:
    if not targets or targets[0].startswith("-"):
        print(__doc__, file=sys.stderr if not targets else sys.stdout)
        return 2 if not targets else 0
    own_programs_first()
    lead()
    try:
        pipeline = plan()
        names = order(pipeline, targets)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    for name in names:
        print(name, flush=True)
        log = Path("logs", name.replace("@", "/", 1) + ".log")
        status = subprocess.run([SCRIPT, name, log, str(pipeline.stages[name].gpus)], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
