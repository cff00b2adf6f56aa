"""The pipeline as DVC resolves it, on a small repository of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.repo import Repo

from robustgen.errors import UserError
from robustgen.pipeline import (
    Pipeline,
    Stage,
    ask_dvc,
    connect,
    downstream,
    marker,
    order,
    output_patterns,
    own_programs_first,
    scales,
    switched_off,
    use_hardlink_locks,
    write_markers,
)

DEFINITION = """
stages:
  make:
    foreach: ${make}
    do:
      cmd: mkdir -p data/quick && echo ${item.word} --threads 3 > data/${key}.txt
      deps: [source.py]
      outs: ["data/${key}.txt"]
  read:
    foreach: ${read}
    do:
      cmd: cat data/${key}/*.txt > sum-${key}.txt && cp sum-${key}.txt sum-${key}.csv
      deps: ["data/${key}", source.py]
      outs: ["sum-${key}.txt"]
      plots:
        - sum-${key}.csv:
            cache: false
"""
PARAMS = "make: {quick/a: {word: one}, quick/b: {word: two}}\nread: {quick: {}}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pipeline")
    (root / "dvc.yaml").write_text(DEFINITION)
    (root / "params.yaml").write_text(PARAMS)
    (root / "source.py").write_text("")
    with chdir(root), Repo.init(str(root), no_scm=True) as repo:
        repo.reproduce()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "repository"))


def stage(command: str) -> Stage:
    return Stage(family="attack", run="quick/a", command=command, inputs=(), outputs=(), stale=False)


def test_reads_stages_paths_and_patterns(root: Path) -> None:
    pipeline = ask_dvc(root)
    assert pipeline.patterns == {"make": ("data/{run}.txt",), "read": ("sum-{run}.txt", "sum-{run}.csv")}
    assert pipeline.runs("make") == ["quick/a", "quick/b"]
    assert pipeline.runs("train") == []
    read = pipeline.stage("read", "quick")
    assert read.inputs == ("data/quick/a.txt", "data/quick/b.txt")
    assert read.outputs == ("sum-quick.txt", "sum-quick.csv")
    assert pipeline.stale() == []


def test_a_changed_parameter_makes_its_stage_and_those_after_it_stale(root: Path) -> None:
    (root / "params.yaml").write_text(PARAMS.replace("two", "three"))
    assert ask_dvc(root).stale() == ["make@quick/b", "read@quick"]


def test_a_missing_output_makes_its_stage_and_those_after_it_stale(root: Path) -> None:
    (root / "data/quick/a.txt").unlink()
    assert ask_dvc(root).stale() == ["make@quick/a", "read@quick"]


def test_a_changed_source_makes_its_readers_stale(root: Path) -> None:
    (root / "source.py").write_text("# changed\n")
    assert ask_dvc(root).stale() == ["make@quick/a", "make@quick/b", "read@quick"]


def test_saved_and_loaded_it_is_the_same(root: Path, tmp_path: Path) -> None:
    pipeline = ask_dvc(root)
    pipeline.save(tmp_path / "plan.json")
    assert Pipeline.load(tmp_path / "plan.json") == pipeline
    with pytest.raises(UserError, match=r"nothing\.json is missing"):
        Pipeline.load(tmp_path / "nothing.json")


def test_unknown_stage_is_named_with_the_known_ones(root: Path) -> None:
    with pytest.raises(UserError, match=r"make@quick/c .* quick/a, quick/b"):
        ask_dvc(root).stage("make", "quick/c")


def test_unknown_family_is_named_with_the_known_ones(root: Path) -> None:
    with pytest.raises(UserError, match="no stage family 'nope'; known are make, read"):
        ask_dvc(root).stage("nope", "quick")


def test_a_stage_that_is_off_is_told_with_the_way_to_switch_it_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    (root / "params/paper").mkdir(parents=True)
    for name in ("adp", "gat"):
        (root / f"params/paper/{name}.yaml").write_text("{}\n")
    pipeline = ask_dvc(root)
    said = r"no stage read@paper is .*; runs of read: quick; `robustgen scale paper SLUG on` .* SLUG being adp, gat$"
    with pytest.raises(UserError, match=said):
        pipeline.stage("read", "paper")
    (root / "dvc.yaml").write_text(f"vars: [params/paper/adp.yaml]\n{DEFINITION}")
    assert switched_off("paper") == ["gat"]
    with pytest.raises(UserError, match=r"runs of make: quick/a, quick/b$"):
        pipeline.stage("make", "quick/c")


def test_a_missing_section_of_the_params_file_is_named(root: Path) -> None:
    (root / "params.yaml").write_text("make: {}\n")
    with pytest.raises(UserError, match="Could not find 'read'"):
        ask_dvc(root)


def test_outside_a_repository(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="DVC cannot read the pipeline"):
        ask_dvc(tmp_path)


@pytest.fixture
def at_work(root: Path) -> Iterator[dict[str, object]]:
    """DVC's path lock as a running stage of another live process leaves it."""
    process = subprocess.Popen([sys.executable, "-c", "input()", "repro", "make@quick/a"], stdin=subprocess.PIPE)
    holder: dict[str, object] = {"pid": process.pid, "cmd": "/bin/dvc repro make@quick/a"}
    (root / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {str(root / "data/quick/a.txt"): holder}}))
    yield holder
    process.communicate(b"\n")


def test_another_process_at_work_is_said(root: Path, at_work: dict[str, object]) -> None:
    with pytest.raises(UserError, match="another DVC process works here"):
        ask_dvc(root)
    with pytest.raises(UserError, match="another DVC process works here"):
        use_hardlink_locks(True, root)
    assert ask_dvc(root, beside_others=True).stale() == []


def test_a_process_id_that_means_another_process_stops_nobody(root: Path, at_work: dict[str, object]) -> None:
    lock = root / ".dvc/tmp/rwlock"
    lock.write_text(lock.read_text().replace("repro make@quick/a", "repro make@quick/b"))
    assert ask_dvc(root).stale() == []


def test_locks_of_the_other_kind_are_chosen_for_every_dvc(root: Path) -> None:
    use_hardlink_locks(False, root)
    assert not (root / ".dvc/config.local").exists()
    use_hardlink_locks(True, root)
    with Repo(str(root)) as repo:
        assert repo.config["core"]["hardlink_lock"] is True
    assert ask_dvc(root).stale() == []
    use_hardlink_locks(False, root)
    assert ask_dvc(root).stale() == []


def test_order_is_what_must_be_made_for_a_stage_before_it(root: Path) -> None:
    assert order(ask_dvc(root), ["read@quick"]) == []
    (root / "source.py").write_text("# changed\n")
    pipeline = ask_dvc(root)
    assert order(pipeline, ["read@quick"]) == ["make@quick/a", "make@quick/b", "read@quick"]
    assert order(pipeline, ["make@quick/b", "read@quick"]) == ["make@quick/b", "make@quick/a", "read@quick"]
    with pytest.raises(UserError, match="runs of read: quick"):
        order(pipeline, ["read"])


@pytest.mark.parametrize(
    ("command", "threads", "gpus"),
    [
        ("robustgen attack --out x", 1, 0),
        ("robustgen attack --threads 4 --device cpu", 4, 0),
        ("robustgen attack --threads=8 --device cuda", 8, 1),
        ("robustgen attack --device cuda:1 --model.threads 9", 1, 1),
        ("robustgen attack --name 'a --threads 5'", 1, 0),
    ],
)
def test_threads_and_gpus_come_from_the_command(command: str, threads: int, gpus: int) -> None:
    assert (stage(command).threads, stage(command).gpus) == (threads, gpus)


def test_patterns_take_outs_metrics_and_plots() -> None:
    template = {"outs": ["a/${key}.npz"], "metrics": [{"b/${key}.json": {"cache": False}}], "plots": ["c/${key}.csv"]}
    assert output_patterns("f", template) == ("a/{run}.npz", "b/{run}.json", "c/{run}.csv")


@pytest.mark.parametrize("path", ["a/${item.name}.npz", "a/fixed.npz", "a/${key}/${item.x}"])
def test_patterns_that_hide_the_run_are_refused(path: str) -> None:
    with pytest.raises(UserError, match="must use"):
        output_patterns("f", {"outs": [path]})


def test_connect_follows_files_folders_and_files_in_folders() -> None:
    outputs = {"a": ["d/x/1.npz"], "b": ["d/x/2.npz"], "c": ["d/xy.npz"], "e": ["folder"], "f": ["out"]}
    deps = {"a": ["src/a.py"], "b": ["d/x"], "c": ["d/x"], "e": ["d/xy.npz"], "f": ["folder/file", "nowhere"]}
    assert connect(outputs, deps) == {
        "a": (),
        "b": ("d/x/1.npz",),
        "c": ("d/x/1.npz", "d/x/2.npz"),
        "e": ("d/xy.npz",),
        "f": ("folder",),
    }


def test_downstream_is_transitive_and_ignores_unknown_names() -> None:
    outputs = {"a": ["1"], "b": ["2"], "c": ["3"], "d": ["4"]}
    inputs = {"a": [], "b": ["1"], "c": ["2"], "d": []}
    assert downstream(outputs, inputs, ["a", "switched off"]) == {"a", "b", "c"}
    assert downstream(outputs, inputs, []) == set()


def test_markers_of_stale_stages_change_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old = Stage(family="f", run="quick/a", command="", inputs=(), outputs=("1",), stale=True)
    deeper = Stage(family="f", run="quick/a/b", command="", inputs=(), outputs=("2",), stale=True)
    new = Stage(family="f", run="quick/c", command="", inputs=(), outputs=("3",), stale=False)
    pipeline = Pipeline(patterns={}, stages={one.name: one for one in (old, deeper, new)})
    write_markers(pipeline)
    first = marker(old).read_text()
    write_markers(pipeline)
    assert marker(old).read_text() != first
    assert marker(deeper).is_file()
    assert not marker(new).exists()


def test_own_programs_come_first_but_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin/python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    own_programs_first()
    own_programs_first()
    assert os.environ["PATH"] == f"{tmp_path / 'bin'}:/usr/bin"


def test_scales_are_the_folders_of_params(tmp_path: Path) -> None:
    for name in ("desktop/gat", "paper/adp", "desktop/adp"):
        path = tmp_path / f"params/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert scales(tmp_path) == {"desktop": ["adp", "gat"], "paper": ["adp"]}
    assert scales(tmp_path / "params") == {}
