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


@pytest.fixture
def served(repository: Repository, storage: Storage) -> Project:
    """A checkout without models, which are on the server alone."""
    project = Project(root=repository.root, env=dict(os.environ))
    point(project, storage)
    project.run("dvc", "push")
    shutil.rmtree(repository.remote)
    repository.forget("workspace", "cache")
    return project


def loaded(project: Project, name: str, *, ok: bool = True) -> str:
    """What `robustgen.load` gives or says in a process of its own, in the project."""
    code = f"import robustgen; print(type(robustgen.load({name!r})).__name__)"
    return project.run(sys.executable, "-c", code, ok=ok, PYTHONPATH=str(ROOT / "src"))


def listed(project: Project) -> dict[str, str]:
    """Where `robustgen models` says that each model is."""
    code = "from robustgen.stages import models; models.run(models.Options())"
    lines = project.run(sys.executable, "-c", code, PYTHONPATH=str(ROOT / "src")).splitlines()[1:]
    return {cells[0]: cells[2] for cells in (re.split(r" {2,}", line) for line in lines)}


def test_one_published_model_is_brought_from_the_server(served: Project) -> None:
    assert set(listed(served).values()) == {"remote"}
    assert loaded(served, "quick/e-abs").split()[-1] == "AnalysisBySynthesis"
    assert {name for name, place in listed(served).items() if place == "cache"} == {NAME}


def removed(data: bytes) -> None: ...


@pytest.mark.parametrize("damage", [flipped, truncated, emptied, removed])
def test_a_damaged_object_is_refused_by_name(
    repository: Repository, served: Project, storage: Storage, damage: Callable[[bytes], bytes | None]
) -> None:
    cached, stored = repository.objects(NAME)
    key = str(stored.relative_to(repository.remote))
    whole = storage.read(key)
    spoilt = damage(whole)
    storage.delete(key)
    if spoilt is not None:
        storage.write(key, spoilt)
    try:
        told = loaded(served, "quick/e-abs", ok=False)
        assert f"models/{NAME}.safetensors is {'not here' if spoilt is None else 'damaged'}" in told
        assert not cached.exists()
        assert f"models/{NAME}.safetensors" in served.run("dvc", "pull", ok=False)
        assert not repository.file(NAME).exists()
        assert not cached.exists()
        assert repository.file("quick/e-abs/d").exists()  # the others came
    finally:
        storage.write(key, whole)
    served.run("dvc", "pull")
    assert repository.file(NAME).read_bytes() == whole
