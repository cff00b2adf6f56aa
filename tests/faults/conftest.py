"""A small copy of the repository whose stages take a second and resume, to be interrupted (see slow_stage.py).

In the environment, FAULT_TRIALS says how many interruptions are tried and FUZZ_CASES how many damaged files are read.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..workflow.conftest import Project, empty

__all__ = ["empty"]

STAGE = Path(__file__).with_name("slow_stage.py")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Started in the background by a shell, this process would hand on to its children that Ctrl-C is ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def slow(empty: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """`empty` with slow stages, nothing made yet. Copy it before running anything."""
    base = tmp_path_factory.mktemp("slow")
    program = base / "bin/robustgen"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{STAGE.read_text()}")
    program.chmod(0o755)
    env = empty.env | {"PATH": os.pathsep.join([str(program.parent), empty.env["PATH"]])}
    return Project(root=empty.copy(base / "repository").root, env=env)


@pytest.fixture
def copy(slow: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of `slow` of one's own."""
    project = slow.copy(tmp_path / "repository")
    yield project
    shutil.rmtree(project.root)
