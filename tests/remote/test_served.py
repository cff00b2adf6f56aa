"""`robustgen.load`, `robustgen models` and `dvc pull` where the models are on a server, whole or damaged."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable

import pytest

from ..workflow.conftest import ROOT, Project
from .conftest import point
from .published import Repository
from .servers import Storage
from .test_load import emptied, flipped, truncated

pytestmark = pytest.mark.remote

NAME = "quick/e-abs/e-abs"


def removed(data: bytes) -> None: ...


SPOILT: dict[str, Callable[[bytes], bytes | None]] = {
    "quick/e-abs/e-abs": flipped,
    "quick/gat/tuned": truncated,
    "quick/digits8-ebm": emptied,
    "quick/digits8-natural": removed,
}


@pytest.fixture
def served(repository: Repository, storage: Storage) -> Project:
    """A checkout without models, which are on the server alone."""
    project = Project(root=repository.root, env=dict(os.environ))
    point(project, storage)
    project.run("dvc", "push")
    shutil.rmtree(repository.remote)
    repository.forget("workspace", "cache")
    return project


TRY = """
import sys, robustgen
for name in sys.argv[1:]:
    try:
        print("loaded", type(robustgen.load(name)).__name__)
    except robustgen.errors.UserError as error:
        print("refused", error)
"""


def loaded(project: Project, *names: str) -> list[str]:
    """What `robustgen.load` gives or says of each name, in a process of its own, in the project."""
    shown = project.run(sys.executable, "-c", TRY, *names, PYTHONPATH=str(ROOT / "src"))
    return [line for line in shown.splitlines() if line.startswith(("loaded", "refused"))]


def listed(project: Project) -> dict[str, str]:
    """Where `robustgen models` says that each model is."""
    code = "from robustgen.stages import models; models.run(models.Options())"
    lines = project.run(sys.executable, "-c", code, PYTHONPATH=str(ROOT / "src")).splitlines()[1:]
    return {cells[0]: cells[2] for cells in (re.split(r" {2,}", line) for line in lines)}


def test_one_published_model_is_brought_from_the_server(served: Project) -> None:
    assert set(listed(served).values()) == {"remote"}
    assert loaded(served, "quick/e-abs") == ["loaded AnalysisBySynthesis"]
    assert {name for name, place in listed(served).items() if place == "cache"} == {NAME}


def test_damaged_objects_are_refused_by_name(repository: Repository, served: Project, storage: Storage) -> None:
    objects = {name: repository.objects(name) for name in SPOILT}
    keys = {name: str(stored.relative_to(repository.remote)) for name, (_, stored) in objects.items()}
    whole = {name: storage.read(key) for name, key in keys.items()}
    for name, damage in SPOILT.items():
        storage.delete(keys[name])
        if (spoilt := damage(whole[name])) is not None:
            storage.write(keys[name], spoilt)
    try:
        for name, told in zip(SPOILT, loaded(served, *SPOILT), strict=True):
            reason = "not here" if SPOILT[name] is removed else "damaged"
            assert re.match(rf"refused .*models/{name}\.safetensors is {reason}", told)
        said = served.run("dvc", "pull", ok=False)
        for name, (cached, _) in objects.items():
            assert f"models/{name}.safetensors" in said
            assert not repository.file(name).exists()
            assert not cached.exists()
        assert repository.file("quick/e-abs/d").exists()  # the others came
    finally:
        for name, key in keys.items():
            storage.write(key, whole[name])
    served.run("dvc", "pull")
    assert {name: repository.file(name).read_bytes() for name in SPOILT} == whole
