"""Processes that end with the one they work for."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import os, sys, time
from robustgen.lifeline import end_with, end_with_dvc, leave_tidily

def stay():
    print("ready", flush=True)
    for _ in range(600):
        time.sleep(0.1)
    print("never ended")
"""


LATE = f"""{HEAD}
print("ready", flush=True)
while os.path.exists(os.path.join(os.path.dirname(__file__), "wait")):
    time.sleep(0.01)
end_with_dvc()
print("went on")
stay()
"""
# What a container's first process does: it outlives DVC and is the parent of what DVC leaves behind.
TAKER = """
import ctypes, os, subprocess, sys
from pathlib import Path

assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
dvc = subprocess.Popen([sys.executable, Path(sys.argv[1], "dvc.py")], process_group=0)
sys.stdin.readline()
dvc.kill()
dvc.wait()
Path(sys.argv[1], "wait").unlink()
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
"""


def dvc(stage: str, folder: Path) -> str:
    """A script that runs another one as DVC does the command of a stage."""
    (folder / "stage.py").write_text(stage)
    command = shlex.join(["exec", sys.executable, str(folder / "stage.py")])
    return f"import subprocess\nsubprocess.run(['sh', '-c', {command!r}])"


def begin(*command: str) -> subprocess.Popen[str]:
    """A command in a session of its own that has printed its first line. At its end the output ends: of every child."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("reaped", [True, False])
def test_ends_with_a_process(reaped: bool) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        script = f"{HEAD}\nleave_tidily()\nend_with({other.pid})\ntry:\n    stay()\nfinally:\n    print('tidied up')"
        with begin(sys.executable, "-c", script) as process:
            other.kill()
            if reaped:
                other.wait()
            assert process.communicate() == ("tidied up\n", None)
            assert process.returncode == 143


def test_ends_with_dvc(tmp_path: Path) -> None:
    with begin(sys.executable, "-c", dvc(f"{HEAD}\nend_with_dvc()\nstay()", tmp_path)) as parent:
        parent.kill()
        assert parent.communicate() == ("", None)


def test_ends_at_once_where_dvc_has_ended_before(tmp_path: Path) -> None:
    script = dvc(LATE, tmp_path)
    (tmp_path / "wait").touch()
    with begin(sys.executable, "-c", script) as parent:
        parent.kill()
        parent.wait()
        (tmp_path / "wait").unlink()
        assert parent.communicate() == ("", None)


@pytest.mark.skipif(sys.platform != "linux", reason="no process but the first takes others over")
def test_ends_at_once_where_a_process_of_the_session_took_it_over(tmp_path: Path) -> None:
    script = dvc(LATE, tmp_path)
    (tmp_path / "wait").touch()
    (tmp_path / "dvc.py").write_text(script)
    with begin(sys.executable, "-c", TAKER, str(tmp_path)) as taker:
        assert taker.communicate("\n") == ("", None)
        assert taker.returncode == 0


def test_second_signal_is_not_put_off() -> None:
    act = "leave_tidily()\ntry:\n    stay()\nfinally:\n    print('leaving', flush=True)\n    time.sleep(600)"
    with begin(sys.executable, "-c", f"{HEAD}\n{act}") as process:
        assert process.stdout is not None
        process.terminate()
        assert process.stdout.readline() == "leaving\n"
        process.terminate()
        assert process.wait() == -15
