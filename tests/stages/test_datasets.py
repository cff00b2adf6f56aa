from __future__ import annotations

from pathlib import Path

import pytest
import tyro

from robustgen.data import registry, sources, transport
from robustgen.errors import UserError
from robustgen.stages import datasets


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(transport.MIRROR, raising=False)
    monkeypatch.setattr(sources, "DEBIAN", tmp_path / "no-debian")


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    datasets.run(tyro.cli(datasets.Options, args=[]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(datasets.HEADER)
    return {line.split()[0]: line for line in lines[1:]}


def test_every_known_set_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys)
    assert list(lines) == [*registry.DATASETS, registry.FOLDER]
    assert lines["digits"].split()[1:4] == ["10", "1x8x8", "1797"]
    assert "  yes   scikit-learn" in lines["digits"]
    assert "  no    download (torchvision)" in lines["cifar10"]
    assert "non-commercial" in lines["svhn"]


def test_a_mirror_counts_as_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train_32x32.mat", "test_32x32.mat"):
        (tmp_path / name).touch()
    monkeypatch.setenv(transport.MIRROR, str(tmp_path))
    lines = listed(capsys)
    assert f"  yes   mirror {tmp_path}" in lines["svhn"]
    assert "  no    download" in lines["mnist"]


def test_an_unusable_mirror_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(transport.MIRROR, str(tmp_path / "gone"))
    with pytest.raises(UserError, match="not a folder here"):
        datasets.run(datasets.Options())
