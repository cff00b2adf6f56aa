"""`robustgen.load`: models from the workspace, from DVC's cache and from a remote, by name and never damaged."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import robustgen
from robustgen import hub, models
from robustgen.defenses.e_abs import AnalysisBySynthesis
from robustgen.errors import UserError
from robustgen.models.detectors import Detectors

from .published import Repository

pytestmark = pytest.mark.remote

CLASSIFIER = "quick/digits8-natural"
X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def flipped(data: bytes) -> bytes:
    """One bit of the last weight changed."""
    return data[:-1] + bytes([data[-1] ^ 1])


def truncated(data: bytes) -> bytes:
    return data[:-100]


def emptied(data: bytes) -> bytes:
    return b""


def extended(data: bytes) -> bytes:
    return data + b"\0"


DAMAGES = [flipped, truncated, emptied, extended]
Damage = Callable[[bytes], bytes]


def spoil(path: Path, damage: Damage) -> None:
    data = path.read_bytes()
    path.unlink()  # it is read-only, and may be linked to elsewhere
    path.write_bytes(damage(data))


def same(found: torch.nn.Module, wanted: torch.nn.Module) -> bool:
    pairs = zip(found.state_dict().items(), wanted.state_dict().items(), strict=True)
    return all(one == other and torch.equal(x, y) for (one, x), (other, y) in pairs)


def test_the_nearest_copy_is_loaded(repository: Repository) -> None:
    wanted = models.load(repository.file(CLASSIFIER))
    cached, stored = repository.objects(CLASSIFIER)
    content = repository.file(CLASSIFIER).read_bytes()
    assert cached.read_bytes() == stored.read_bytes() == content
    shutil.move(repository.remote, aside := repository.root / "aside")
    assert same(robustgen.load(CLASSIFIER, root=repository.root), wanted)
    repository.forget("workspace")
    assert same(robustgen.load(CLASSIFIER, root=repository.root), wanted)
    repository.forget("cache")
    with pytest.raises(UserError, match="not in the remote"):
        robustgen.load(CLASSIFIER, root=repository.root)
    shutil.move(aside, repository.remote)
    found = robustgen.load(CLASSIFIER, root=repository.root)
    assert same(found, wanted)
    assert not found.training
    assert cached.read_bytes() == content
    assert not repository.file(CLASSIFIER).exists()
    shutil.rmtree(repository.remote)
    assert same(robustgen.load(CLASSIFIER, root=repository.root), wanted)
    assert hub.locate(CLASSIFIER, repository.root) == cached


def test_dvc_takes_the_object_that_load_kept(repository: Repository) -> None:
    content = repository.file(CLASSIFIER).read_bytes()
    repository.forget("workspace", "cache")
    robustgen.load(CLASSIFIER, root=repository.root)
    shutil.rmtree(repository.remote)
    repository.run("dvc", "checkout", f"models/{CLASSIFIER}.safetensors")
    assert repository.file(CLASSIFIER).read_bytes() == content


@pytest.mark.parametrize("name", ["quick/e-abs/e-abs", "quick/e-abs"])
def test_autoencoders_come_as_the_classifier_of_their_training(repository: Repository, name: str) -> None:
    defense = robustgen.load(name, root=repository.root)
    assert isinstance(defense, AnalysisBySynthesis)
    assert (defense.options.beta, defense.options.cost) == (0.25, "mean")
    assert same(defense.model, models.load(repository.file("quick/e-abs/e-abs")))
    with torch.no_grad():
        logits = defense(X)
    assert logits.shape == (3, 4)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", [CLASSIFIER, "quick/e-abs", "quick/gat/tuned"])
def test_a_model_says_which_images_it_takes(repository: Repository, name: str) -> None:
    model = robustgen.load(name, root=repository.root)
    with torch.no_grad():
        assert len(model(X)) == 3
        for wrong in (X[0], X[:, :, 1:], X.expand(3, 3, 8, 8), (255 * X).byte(), X.numpy()):
            with pytest.raises(UserError, match=r"takes images \(N, 1, 8, 8\) of floating point, not "):
                model(wrong)


def test_autoencoders_that_do_not_say_how_they_were_trained(repository: Repository) -> None:
    path = repository.file("quick/e-abs/d")
    models.save(path, models.load(path))
    repository.run("dvc", "commit", "--force", "--quiet")
    with pytest.raises(UserError, match="does not say with which beta"):
        robustgen.load("quick/e-abs/d", root=repository.root)


def test_detectors_and_energies_come_as_networks(repository: Repository) -> None:
    detectors = robustgen.load("quick/gat/tuned", "cpu", repository.root)
    assert isinstance(detectors, Detectors)
    assert same(detectors, models.load(repository.file("quick/gat/tuned")))
    energies = robustgen.load("digits8-ebm", root=repository.root)
    assert energies(torch.zeros(2, 1, 16, 16)).shape == (2,)
    with pytest.raises(UserError, match=r"load_snapshots\('.*digits8-ebm-snapshots\.safetensors'\)"):
        robustgen.load("digits8-ebm-snapshots", root=repository.root)


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("quick/digits8-natural", "quick/digits8-natural"),
        ("models/quick/digits8-natural.safetensors", "quick/digits8-natural"),
        ("quick/e-abs", "quick/e-abs/e-abs"),
        ("e-abs", "quick/e-abs/e-abs"),
        ("d", "quick/e-abs/d"),
        ("quick/d", "quick/e-abs/d"),
        ("tuned", "quick/gat/tuned"),
        ("desktop/digits8-natural", "desktop/digits8-natural"),
    ],
)
def test_names(repository: Repository, short: str, name: str) -> None:
    assert hub.resolve(short, hub.published(repository.root)).name == name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digits8-natural", "several .* name one of desktop/digits8-natural, quick/digits8-natural"),
        ("quick/gat", "no model is called 'quick/gat' .* there are quick/gat/tuned"),
        ("quick/digits8-natura", "there are quick/digits8-natural"),
        ("zebra", "`robustgen models` lists"),
        ("", "no model is called ''"),
        ("../secret", "no model is called"),
    ],
)
def test_names_that_fit_none_or_several(repository: Repository, name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        robustgen.load(name, root=repository.root)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_changed_file_is_refused(repository: Repository, damage: Damage) -> None:
    spoil(repository.file(CLASSIFIER), damage)
    with pytest.raises(UserError, match=f"{CLASSIFIER}.*`dvc checkout --force models/{CLASSIFIER}.safetensors`"):
        robustgen.load(CLASSIFIER, root=repository.root)
    repository.run("dvc", "checkout", "--force", f"models/{CLASSIFIER}.safetensors")
    robustgen.load(CLASSIFIER, root=repository.root)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_object_is_replaced_from_the_remote(repository: Repository, damage: Damage) -> None:
    wanted = models.load(repository.file(CLASSIFIER))
    cached, stored = repository.objects(CLASSIFIER)
    repository.forget("workspace")
    spoil(cached, damage)
    cached.chmod(0o444)  # as DVC leaves what it has checked, and does not check again
    assert same(robustgen.load(CLASSIFIER, root=repository.root), wanted)
    assert cached.read_bytes() == stored.read_bytes()
    spoil(cached, damage)
    shutil.rmtree(repository.remote)
    with pytest.raises(UserError, match=f"models/{CLASSIFIER}.safetensors is not here"):
        robustgen.load(CLASSIFIER, root=repository.root)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_remote_object_is_refused(repository: Repository, damage: Damage) -> None:
    cached, stored = repository.objects(CLASSIFIER)
    content = stored.read_bytes()
    repository.forget("workspace", "cache")
    spoil(stored, damage)
    for _ in range(2):  # nothing of it stays
        with pytest.raises(UserError, match=rf"models/{CLASSIFIER}\.safetensors is damaged.*{stored.name[:8]}"):
            robustgen.load(CLASSIFIER, root=repository.root)
        assert not cached.exists()
    stored.write_bytes(content)
    robustgen.load(CLASSIFIER, root=repository.root)


def test_a_model_of_a_scale_that_is_off(repository: Repository) -> None:
    params = yaml.safe_load((repository.root / "params.yaml").read_text())
    del params["train-classifier"]["desktop/digits8-natural"], params["fetch"]["desktop/svhn"], params["train-gat"]
    (repository.root / "params.yaml").write_text(yaml.safe_dump(params | {"train-gat": {}}))
    repository.forget("workspace", "cache")
    robustgen.load("desktop/digits8-natural", root=repository.root)
    repository.forget("cache")
    shutil.rmtree(repository.remote)
    (repository.root / "params/desktop").mkdir(parents=True)
    (repository.root / "params/desktop/gat.yaml").touch()
    with pytest.raises(
        UserError, match=r"or make it here: `snakemake .* \(`robustgen scale desktop SLUG on` .* being gat\)"
    ):
        robustgen.load("desktop/digits8-natural", root=repository.root)


def test_a_remote_that_is_not_there(repository: Repository) -> None:
    repository.forget("workspace", "cache")
    repository.run("dvc", "remote", "modify", "storage", "url", "http://127.0.0.1:9/nobody")
    with pytest.raises(UserError, match=f"models/{CLASSIFIER}.* the remote does not answer: .*`dvc remote list`"):
        robustgen.load(CLASSIFIER, root=repository.root)
    repository.run("dvc", "remote", "remove", "storage")
    with pytest.raises(UserError, match="no remote specified"):
        robustgen.load(CLASSIFIER, root=repository.root)


def test_the_repository_is_found(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.root / "results")
    assert hub.locate(CLASSIFIER) == repository.file(CLASSIFIER)
    monkeypatch.chdir(tmp_path)
    assert hub.find_root() == Path(hub.__file__).parents[2]
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"no dvc\.lock"):
            robustgen.load(CLASSIFIER, root=folder)


def test_a_lock_file_in_conflict(repository: Repository) -> None:
    lock = repository.root / "dvc.lock"
    lock.write_text(lock.read_text().replace("  fetch@quick/digits8:", "<<<<<<< HEAD\n  fetch@quick/digits8:"))
    with pytest.raises(UserError, match=r"dvc\.lock cannot be read"):
        robustgen.load(CLASSIFIER, root=repository.root)


def no_outs(stage: dict[str, Any]) -> None:
    stage["outs"] = None


def no_path(stage: dict[str, Any]) -> None:
    del stage["outs"][0]["path"]


def no_size(stage: dict[str, Any]) -> None:
    del stage["outs"][0]["size"]


def no_deps(stage: dict[str, Any]) -> None:
    stage["deps"] = None


@pytest.mark.parametrize("damage", [None, no_outs, no_path, no_size, no_deps])
def test_a_lock_file_with_gaps(repository: Repository, damage: Callable[[dict[str, Any]], None] | None) -> None:
    lock = repository.root / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    stage = f"train-classifier@{CLASSIFIER}"
    if damage is None:
        content["stages"][stage] = None
    else:
        damage(content["stages"][stage])
    lock.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=rf"dvc\.lock cannot be read \(stage {stage} .*`git checkout dvc\.lock`"):
        robustgen.load(CLASSIFIER, root=repository.root)


def test_a_key_file_that_is_not_there(repository: Repository) -> None:
    repository.forget("workspace", "cache")
    repository.run("dvc", "remote", "modify", "storage", "url", "ssh://127.0.0.1:9/nobody")
    repository.run("dvc", "remote", "modify", "--local", "storage", "keyfile", str(repository.root / "no-key"))
    with pytest.raises(UserError, match=r"the remote does not answer: .*no-key.*`dvc remote list`"):
        robustgen.load(CLASSIFIER, root=repository.root)


def test_no_temporary_folder_is_needed(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    repository.forget("workspace", "cache")
    monkeypatch.setattr("tempfile.gettempdir", refuse)
    robustgen.load(CLASSIFIER, root=repository.root)
    cached, _ = repository.objects(CLASSIFIER)
    assert [path.name for path in cached.parents[2].iterdir()] == ["md5"]


def test_a_cache_without_room(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    repository.forget("workspace", "cache")
    with monkeypatch.context() as patch:
        patch.setattr("dvc_objects.fs.local.FsspecLocalFileSystem.get_file", full)
        with pytest.raises(UserError, match=r"DVC's cache .* cannot be written: .*No space left.*free space"):
            robustgen.load(CLASSIFIER, root=repository.root)
    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(UserError, match=r"DVC's cache .* cannot be written: .*No space left"):
        robustgen.load(CLASSIFIER, root=repository.root)


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_here(repository: Repository, device: str) -> None:
    with pytest.raises(UserError, match=f"device '{device}' cannot be used"):
        robustgen.load(CLASSIFIER, device, repository.root)


def test_the_package_stays_light() -> None:
    code = "import sys, robustgen; print(sorted({'torch', 'dvc', 'yaml', 'tyro'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
