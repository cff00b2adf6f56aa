from __future__ import annotations

import functools
import hashlib
import http.server
import io
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from robustgen.data import sources, transport
from robustgen.errors import UserError

Make = Callable[..., dict[str, np.ndarray]]


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served on the loopback, ROBUSTGEN_MIRROR pointing at it."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv(transport.MIRROR, f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def md5_of(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def test_mirror_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport.mirror() is None
    spaced = tmp_path / "a mirror"
    spaced.mkdir()
    for value, expected in (
        ("  ", None),
        (str(spaced), spaced),
        (spaced.as_uri(), spaced),
        ("https://example.org/data/", "https://example.org/data"),
    ):
        monkeypatch.setenv(transport.MIRROR, value)
        assert transport.mirror() == expected
    monkeypatch.setenv(transport.MIRROR, str(tmp_path / "gone"))
    with pytest.raises(UserError, match="not a folder here"):
        transport.mirror()
    monkeypatch.setenv(transport.MIRROR, "ftp://example.org/data")
    with pytest.raises(UserError, match="begins with http, https or file"):
        transport.mirror()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_by_url(
    served: Path, make_idx: Make, unpinned: None, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    made = make_idx(served, packed=packed)
    monkeypatch.setattr(transport, "_checksums", lambda name: md5_of(served))
    source = sources.find("mnist")
    np.testing.assert_array_equal(source.parts["train"].images, made["train"][:, None])
    shutil.rmtree(served)
    assert sources.find("mnist").origin == ".cache/downloads/mnist"


def test_loose_cifar_batches_by_url(served: Path, make_cifar100: Make) -> None:
    made = make_cifar100(served)
    np.testing.assert_array_equal(sources.find("cifar100").parts["test"].images, made["test"])


def test_gtsrb_archives_by_url(
    served: Path, tmp_path: Path, make_gtsrb: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gtsrb(tmp_path / "made")
    base = tmp_path / "made" / "gtsrb"
    (served / "gtsrb").mkdir()
    contents = {"GTSRB-Training_fixed": "GTSRB/Training", "GTSRB_Final_Test_Images": "GTSRB/Final_Test"}
    for name, folder in contents.items():
        with zipfile.ZipFile(served / "gtsrb" / f"{name}.zip", "w") as archive:
            for file in (base / folder).rglob("*.ppm"):
                archive.write(file, file.relative_to(base))
    with zipfile.ZipFile(served / "gtsrb" / "GTSRB_Final_Test_GT.zip", "w") as archive:
        archive.write(base / "GT-final_test.csv", "GT-final_test.csv")
    monkeypatch.setattr(transport, "_MD5", md5_of(served))
    source = sources.find("gtsrb", 32)
    assert len(source.parts["train"].labels) == 120
    assert all(Path(file).is_file() for file in source.parts["test"].images)


def test_imagenette_archive_from_a_folder(
    mirror: Path, tmp_path: Path, make_imagenette: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_imagenette(tmp_path)
    with tarfile.open(mirror / "imagenette2-160.tgz", "w:gz") as archive:
        archive.add(tmp_path / "imagenette2-160", "imagenette2-160")
    monkeypatch.setattr(transport, "_MD5", md5_of(mirror))
    assert sources.whereabouts("imagenette") == (True, f"mirror {mirror}")
    assert sources.find("imagenette", 64).origin == ".cache/downloads/imagenette2-160"


def test_a_file_that_is_not_the_published_one(served: Path, make_idx: Make, isolated: Path) -> None:
    make_idx(served, packed=True)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz is not the published file \(MD5 sum differs\)"):
        sources.find("mnist")
    assert [each for each in isolated.rglob("*") if each.is_file()] == []


def test_an_interrupted_copy_leaves_nothing(isolated: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "train_32x32.mat").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transport._filled("svhn", None, half)
    assert [each for each in isolated.rglob("*") if each.is_file()] == []


def test_an_incomplete_download_is_not_kept(isolated: Path) -> None:
    with pytest.raises(transport.UnavailableError, match="not complete"):
        transport._filled("svhn", None, lambda folder: (folder / "train_32x32.mat").touch())
    assert [each for each in isolated.rglob("*") if each.is_file()] == []


def test_a_complete_copy_replaces_a_damaged_one(isolated: Path) -> None:
    old = transport.cache_folder("svhn")
    old.mkdir(parents=True)
    (old / "rest").touch()

    def fill(folder: Path) -> None:
        for name in ("train_32x32.mat", "test_32x32.mat"):
            (folder / name).touch()

    assert sorted(each.name for each in transport._filled("svhn", None, fill).iterdir()) == [
        "test_32x32.mat",
        "train_32x32.mat",
    ]


def test_cache_that_cannot_be_written(isolated: Path) -> None:
    (isolated / ".cache").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"cannot write \.cache/downloads"):
        transport.download("svhn")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "gtsrb", "imagenette"])
def test_every_archive_has_a_published_checksum(name: str) -> None:
    sums = transport._checksums(name)
    assert all(len(sums[Path(path).name]) == 32 for path in sources.registry.archive_paths(name, 64))


@pytest.mark.parametrize(("size", "option"), [(64, "160px"), (224, "320px"), (900, "full")])
def test_download_asks_torchvision_for_the_right_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, option: str
) -> None:
    from torchvision import datasets

    asked = []
    monkeypatch.setattr(datasets, "Imagenette", lambda root, size, download: asked.append((root, size, download)))
    transport._official("imagenette", tmp_path, size)
    assert asked == [(str(tmp_path), option, True)]


def test_progress_bars_become_sparse_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", seen)
    stream = transport._SparseLog()
    stream.write("\r 1%")
    assert seen.getvalue() == ""
    stream.last -= 2 * transport.INTERVAL
    stream.write("\r 2%")
    stream.write("\r 3%")
    assert seen.getvalue().endswith("download: 2%\n")
