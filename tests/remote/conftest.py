"""Clones of a small project that share their results through real servers (see servers.py, workflow/conftest.py)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..workflow.conftest import Project, built, empty
from .published import Repository, make
from .servers import SERVERS, Storage

__all__ = ["built", "empty"]  # fixtures


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A project that was made in one checkout and pushed, with its run-cache, to a server."""

    project: Project  # the checkout that pushed
    storage: Storage

    def clone(self, root: Path) -> Project:
        """A fresh clone with nothing but what git holds, set up for the server."""
        self.project.run("git", "clone", "--quiet", str(self.project.root), str(root))
        clone = Project(root=root, env=self.project.env)
        point(clone, self.storage)
        clone.calls()  # those of the checkout that was committed
        return clone


def point(project: Project, storage: Storage) -> None:
    """What README says to do for a server, and its credentials."""
    for name, value in storage.settings.items():
        project.run("dvc", "remote", "modify", "--local", "storage", name, value)


@pytest.fixture(scope="session", params=list(SERVERS))
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture(scope="session")
def shared(built: Project, storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    folder = tmp_path_factory.mktemp(f"shared-{storage.kind}")
    home = folder / "home"
    home.mkdir()
    project = built.copy(folder / "repository")
    kept = {key: value for key, value in built.env.items() if not key.startswith("AWS_")}
    own = Project(root=project.root, env=kept | {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true"})
    own.calls()
    point(own, storage)
    own.run("dvc", "push", "--run-cache")
    return Shared(project=own, storage=storage)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Recorded models in a repository and in the folder that is its remote. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        return make(folder / "repository", folder / "storage")


@pytest.fixture
def repository(recorded: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A copy of `recorded`, with a remote of its own, to change."""
    isolate(monkeypatch, tmp_path)
    copy = Repository(root=tmp_path / "repository", remote=tmp_path / "storage")
    shutil.copytree(recorded.root, copy.root, symlinks=True)
    shutil.copytree(recorded.remote, copy.remote)
    return copy


def isolate(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nothing of the user's own DVC and git is read or written."""
    for key in [key for key in os.environ if key.startswith(("DVC_", "GIT_", "AWS_"))]:
        patch.delenv(key)
    patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
    patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
