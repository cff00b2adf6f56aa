from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from PIL import Image

from robustgen.data import load_split, sources, transport
from robustgen.errors import UserError
from robustgen.stages import fetch


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, no mirror, no Debian package, no network."""

    def urlopen(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("the tests have no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(transport.MIRROR, raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(sources, "DEBIAN", tmp_path / "no-debian")


def options(command: str) -> fetch.Options:
    return tyro.cli(fetch.Options, args=command.split())


def test_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.run(options("--out data/images/d.npz --name digits --size 16 --validation 0.25 --test 0.2"))
    file = tmp_path / "data" / "images" / "d.npz"
    splits = {name: load_split(file, name) for name in ("train", "validation", "test")}
    assert {name: len(each) for name, each in splits.items()} == {"train": 1077, "validation": 360, "test": 360}
    assert all(each.images.shape[1:] == (1, 16, 16) for each in splits.values())
    assert len({index for each in splits.values() for index in each.indices.tolist()}) == 1797
    raw = sources.find("digits").parts["train"]
    for each in splits.values():  # an index leads back to the image and its label
        assert each.labels.tolist() == raw.labels[each.indices.numpy()].tolist()
    assert "digits from scikit-learn: 1077 train, 360 validation, 360 test images of 1x16x16" in capsys.readouterr().err


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fetch.run(options(f"--out {name}.npz --name digits --seed 3"))
    fetch.run(options("--out c.npz --name digits --seed 4"))
    first, second, third = ((tmp_path / f"{name}.npz").read_bytes() for name in "abc")
    assert first == second != third


def test_padding_and_limits(tmp_path: Path) -> None:
    command = "--out d.npz --name digits --pad 12 --limit-train 100 --limit-validation 20 --limit-test 50"
    fetch.run(options(command))
    for name, n in (("train", 100), ("validation", 20), ("test", 50)):
        found = load_split("d.npz", name)
        assert found.images.shape == (n, 1, 12, 12)
        assert found.images[:, :, :2].abs().sum() == 0
        counts = np.bincount(found.labels.numpy(), minlength=10)
        assert counts.max() - counts.min() <= 2 + n // 50  # about as many of each digit


def test_a_limit_keeps_the_first_of_the_same_split() -> None:
    fetch.run(options("--out all.npz --name digits"))
    fetch.run(options("--out some.npz --name digits --limit-test 30"))
    some, every = load_split("some.npz", "test"), load_split("all.npz", "test", 30)
    assert some.indices.tolist() == every.indices.tolist()


def pictures(root: Path, size: tuple[int, int] = (9, 7)) -> None:
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", size, (label * 100, number, 0)).save(root / name / f"{number}.png")


def test_own_folders(tmp_path: Path) -> None:
    pictures(tmp_path / "own" / "train")
    pictures(tmp_path / "own" / "val", (20, 30))
    fetch.run(options("--out own.npz --name folder --root own --size 8 --validation 0.2"))
    train, test = load_split("own.npz", "train"), load_split("own.npz", "test")
    assert (len(train), len(test)) == (16, 20)
    assert train.classes == ("cat", "dog")
    np.testing.assert_allclose(test.images[:, 0, 4, 4], test.labels * 100 / 255)


def test_parts_of_unequal_size(tmp_path: Path) -> None:
    pictures(tmp_path / "own" / "train")
    pictures(tmp_path / "own" / "test", (7, 7))
    with pytest.raises(UserError, match="differ in size between its parts"):
        fetch.run(options("--out own.npz --name folder --root own --validation 0.2"))
    assert not (tmp_path / "own.npz").exists()


def test_offline_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="cifar10 is not at hand"):
        fetch.run(options("--out data/c.npz --name cifar10"))
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--name digits --size 32 --pad 32", "exclude each other"),
        ("--name digits --size 0", "--size is 0"),
        ("--name digits --limit-train 0", "--limit-train is 0"),
        ("--name digits --seed -1", "--seed is -1"),
        ("--name digits --validation 1.5", "--validation is 1.5"),
        ("--name mnist --test 0.5", "leave it out for mnist"),
        ("--name gtsrb", "the images of gtsrb differ in size; give --size"),
        ("--name digitz", "did you mean digits"),
        ("--name folder", "needs --root"),
    ],
)
def test_options_that_cannot_be_meant(command: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        fetch.run(options(f"--out out.npz {command}"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--validation 2", "--validation 0", "--validation nan", "--test 1"])
def test_fractions_are_looked_at_before_the_download(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find", lambda *_: pytest.fail("images were looked for"))
    with pytest.raises(UserError, match=f"{option.split()[0]} is .*; give a fraction between 0 and 1"):
        fetch.run(options(f"--out out.npz --name digits {option}"))


def test_own_folders_with_too_few_images(tmp_path: Path) -> None:
    pictures(tmp_path / "own")
    for number in range(1, 10):
        (tmp_path / "own" / "dog" / f"{number}.png").unlink()
    with pytest.raises(UserError, match=r"--test 0\.2 cannot be divided by class: dog has 1 image"):
        fetch.run(options("--out own.npz --name folder --root own --size 8"))


def test_a_file_that_is_no_image_is_named_first(tmp_path: Path) -> None:
    pictures(tmp_path / "own")
    for file in (tmp_path / "own" / "dog").iterdir():
        file.unlink()
    (tmp_path / "own" / "dog" / "0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"dog/0\.png is not a readable image .*; replace or remove it"):
        fetch.run(options("--out own.npz --name folder --root own --size 8"))
