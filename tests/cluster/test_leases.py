"""Leases: one holder at a time, on one machine and between machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..workflow.conftest import ROOT

sys.path.append(str(ROOT / "workflow/scripts"))
import lease as module
from lease import LIFETIME, Holder, Lease, myself, started, written

pytestmark = pytest.mark.cluster

# Takes the lease, adds one to a number in a file, a little slowly, and gives the lease back; over and over.
COUNT = """
import sys, time
from pathlib import Path
from lease import Lease
folder, times = Path(sys.argv[1]), int(sys.argv[2])
for _ in range(times):
    lease = Lease(folder / "lease")
    while lease.take():
        time.sleep(0.002)
    number = int((folder / "number").read_text())
    time.sleep(0.001)
    (folder / "number").write_text(str(number + 1))
    lease.release()
"""


def other_machine(path: Path, age: float) -> Holder:
    """A lease that a process of another machine took and refreshed `age` seconds ago."""
    holder = Holder("node7/boot/space", 12, "345", "ab")
    path.write_text("\t".join(map(str, holder)))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return holder


def test_processes_take_turns(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    env = os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts")}
    command = [sys.executable, "-c", COUNT, str(tmp_path), "40"]
    processes = [subprocess.Popen(command, env=env) for _ in range(6)]
    assert [process.wait(300) for process in processes] == [0] * 6
    assert (tmp_path / "number").read_text() == "240"


def test_says_who_has_it(tmp_path: Path) -> None:
    first, second = Lease(tmp_path / "lease"), Lease(tmp_path / "lease")
    assert first.take() is None
    holder = second.take()
    assert holder == first.me
    assert str(holder).startswith(f"process {os.getpid()} on ")
    assert not second.refresh()
    second.release()
    assert written(first.path) == first.me
    first.release()
    assert second.take() is None


def test_another_machines_lease_holds_while_it_is_fresh(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "lease")
    holder = other_machine(lease.path, LIFETIME / 2)
    assert lease.take() == holder
    other_machine(lease.path, LIFETIME + 1)
    assert lease.take() is None
    assert written(lease.path) == lease.me
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]


@pytest.mark.parametrize("change", [{"pid": 2**22 + 1}, {"started": "0"}], ids=["ended", "its id given to another"])
def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "lease").write_text("\t".join(map(str, myself()._replace(**change))))  # type: ignore[arg-type]
    assert Lease(tmp_path / "lease").take() is None


def test_an_ended_process_that_nobody_has_waited_for_holds_nothing(tmp_path: Path) -> None:
    """As in a container whose first process is no init: what was killed there stays in the list of processes."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = myself()._replace(pid=process.pid, started=started(process.pid) or "")
    (tmp_path / "lease").write_text("\t".join(map(str, holder)))
    assert Lease(tmp_path / "lease").take() == holder
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # has ended, and is not fetched
    assert Path(f"/proc/{process.pid}").exists()
    assert Lease(tmp_path / "lease").take() is None
    process.communicate()


def test_a_process_that_cannot_be_seen_holds_what_it_refreshes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc hides other users' processes."""
    monkeypatch.setattr(module, "started", lambda pid: "")
    holder = myself()._replace(pid=1, started="345")
    lease = Lease(tmp_path / "lease")
    lease.path.write_text("\t".join(map(str, holder)))
    assert lease.take() == holder
    old = lease.path.stat().st_mtime - LIFETIME - 1
    os.utime(lease.path, (old, old))
    assert lease.take() is None


def test_who_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started(os.getpid())
    assert started(2**22 + 1) is None
    monkeypatch.setattr(module, "exists", lambda pid: True)
    assert started(2**22 + 1) == ""


def test_a_void_lease_is_not_removed_once_another_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    first, second, third = (Lease(tmp_path / "lease") for _ in range(3))
    void = myself()._replace(pid=2**22 + 1)
    first.path.write_text("\t".join(map(str, void)))
    removal = tmp_path / ".lease.removal"
    removal.touch()  # another process is about to remove it
    assert first.take() is not None
    assert written(first.path) == void
    old = removal.stat().st_mtime - module.REMOVAL - 1
    os.utime(removal, (old, old))  # but was killed
    assert second.take() is None
    first._remove(void)  # what it had read before
    assert third.take() == second.me
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]


def test_everybody_may_read_a_lease(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert Lease(tmp_path / "lease").take() is None
    finally:
        os.umask(before)
    assert (tmp_path / "lease").stat().st_mode & 0o777 == 0o644


def test_a_file_that_its_writer_never_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    lease = Lease(tmp_path / "lease")
    lease.path.touch()
    assert lease.take() is not None
    old = lease.path.stat().st_mtime - 10
    os.utime(lease.path, (old, old))
    assert lease.take() is None


def test_the_clock_of_the_folder_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose own clock is an hour fast does not take fresh leases for void."""
    monkeypatch.setattr(module.time, "time", lambda: 4e9)
    lease = Lease(tmp_path / "lease")
    assert lease.take() is None
    monkeypatch.setattr(module, "machine", lambda: "elsewhere")
    assert Lease(tmp_path / "lease").take() == lease.me
