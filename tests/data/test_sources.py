from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustgen.data import sources, transport
from robustgen.errors import UserError

Make = Callable[..., dict[str, np.ndarray]]


def test_digits_are_pinned() -> None:
    assert sources.find("digits").origin == "scikit-learn"


def test_a_changed_pixel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.readers.read_digits()
    images = source.parts["train"].images
    assert isinstance(images, np.ndarray)
    images[5, 0, 3, 3] ^= 1
    monkeypatch.setattr(sources.readers, "read_digits", lambda: source)
    with pytest.raises(UserError, match="train part of digits is damaged or not the official one"):
        sources.find("digits")


def test_changed_labels_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.readers.read_digits()
    source.parts["train"].labels[0] += 1
    monkeypatch.setattr(sources.readers, "read_digits", lambda: source)
    with pytest.raises(UserError, match="SHA-256 sums differ"):
        sources.find("digits")


def test_mirror_folder_is_read_and_left_alone(mirror: Path, make_idx: Make, unpinned: None, isolated: Path) -> None:
    made = make_idx(mirror)
    before = sorted(mirror.rglob("*"))
    source = sources.find("mnist")
    np.testing.assert_array_equal(source.parts["train"].images, made["train"][:, None])
    assert source.origin == f"mirror {mirror}"
    assert sorted(mirror.rglob("*")) == before
    assert list(isolated.iterdir()) == []


def test_made_files_do_not_pass_for_mnist(mirror: Path, make_idx: Make) -> None:
    make_idx(mirror)
    with pytest.raises(UserError, match="part of mnist is damaged or not the official one"):
        sources.find("mnist")


def test_legacy_processed_file_in_a_mirror_is_ignored(mirror: Path, make_idx: Make, unpinned: None) -> None:
    made = make_idx(mirror)
    processed = mirror / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        (processed / name).write_bytes(pickle.dumps("not a data set"))
    np.testing.assert_array_equal(sources.find("mnist").parts["test"].images, made["test"][:, None])


class _Bomb:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_no_pickle_is_opened_before_its_checksum_holds(
    mirror: Path, make_cifar100: Make, tmp_path: Path, name: str
) -> None:
    make_cifar100(mirror)
    (mirror / "cifar-100-python" / name).write_bytes(pickle.dumps(_Bomb(tmp_path / "exploded")))
    with pytest.raises(UserError, match=f"mirror {mirror}: the raw files of cifar100 cannot be read"):
        sources.find("cifar100")
    assert not (tmp_path / "exploded").exists()


def test_packed_files_of_a_mirror_folder(
    mirror: Path, make_idx: Make, unpinned: None, monkeypatch: pytest.MonkeyPatch, isolated: Path
) -> None:
    made = make_idx(mirror, packed=True)
    monkeypatch.setattr(transport, "_checksums", lambda name: {})
    np.testing.assert_array_equal(sources.find("mnist").parts["train"].images, made["train"][:, None])
    monkeypatch.delenv(transport.MIRROR)
    assert sources.find("mnist").origin == ".cache/downloads/mnist"  # what was unpacked once is kept
    assert [each.name for each in (isolated / ".cache" / "downloads").iterdir()] == ["mnist"]


def test_debian_package(tmp_path: Path, make_idx: Make, unpinned: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_idx(tmp_path, "FashionMNIST", packed=True)
    raw = tmp_path / "FashionMNIST" / "raw"
    monkeypatch.setattr(sources, "DEBIAN", raw)
    source = sources.find("fashion-mnist")
    np.testing.assert_array_equal(source.parts["test"].images, made["test"][:, None])
    assert source.classes[8] == "Bag"
    assert sources.whereabouts("fashion-mnist") == (True, "Debian's dataset-fashion-mnist")
    file = raw / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(gzip.compress(b"x" * 1000)[:-12])
    with pytest.raises(UserError, match="reinstall dataset-fashion-mnist"):
        sources.find("fashion-mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "gtsrb", "imagenette"])
def test_offline_with_nothing_at_hand(name: str, isolated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        UserError, match=f"^{name} is not at hand .*the tests have no network.*ROBUSTGEN_MIRROR"
    ) as raised:
        sources.find(name, 32)
    assert "\n" not in str(raised.value)
    assert ("dataset-fashion-mnist" in str(raised.value)) == (name == "fashion-mnist")
    assert [each for each in isolated.rglob("*") if each.is_file() or each.name.startswith(".mnist")] == []
    assert list((isolated / ".cache" / "downloads").iterdir()) == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("value", [None, "folder", "http://127.0.0.1:9"])
def test_imagenet_must_be_got_by_hand(value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        (tmp_path / "folder").mkdir()
        monkeypatch.setenv(transport.MIRROR, str(tmp_path / value) if value == "folder" else value)
    with pytest.raises(UserError, match=r"has no download; get ImageNet .* set ROBUSTGEN_MIRROR to the folder above"):
        sources.find("restricted-imagenet", 32)
    assert sources.whereabouts("restricted-imagenet") == (False, "your own copy of ImageNet")


@pytest.mark.parametrize("name", ["imagenet", "restricted-imagenet"])
def test_a_copy_of_imagenet_is_read_in_place(mirror: Path, make_imagenet: Callable[..., None], name: str) -> None:
    make_imagenet(mirror, name)
    source = sources.find("restricted-imagenet", 32)
    assert source.origin == f"mirror {mirror}"
    assert sources.whereabouts("restricted-imagenet") == (True, f"mirror {mirror}")


def test_a_mirror_without_the_set_is_named_in_the_error(mirror: Path) -> None:
    with pytest.raises(UserError, match=f"mirror {mirror}: no cifar-10-batches-py/data_batch_1; download: "):
        sources.find("cifar10")


def test_unknown_names_and_misplaced_roots(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown data set 'nothing'"):
        sources.find("nothing")
    with pytest.raises(UserError, match="folder needs --root"):
        sources.find("folder")
    with pytest.raises(UserError, match="--root belongs to --name folder, not to digits"):
        sources.find("digits", root=tmp_path)


def test_whereabouts(mirror: Path, make_svhn: Make, monkeypatch: pytest.MonkeyPatch, isolated: Path) -> None:
    assert sources.whereabouts("digits") == (True, "scikit-learn")
    assert sources.whereabouts("svhn") == (False, "download (torchvision)")
    make_svhn(mirror)
    assert sources.whereabouts("svhn") == (True, f"mirror {mirror}")
    monkeypatch.setenv(transport.MIRROR, "http://127.0.0.1:9")
    assert sources.whereabouts("svhn") == (False, "mirror http://127.0.0.1:9, or download")
    cached = isolated / ".cache" / "downloads" / "svhn"
    cached.parent.mkdir(parents=True)
    mirror.rename(cached)
    assert sources.whereabouts("svhn") == (True, ".cache/downloads/svhn")
