from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustgen.data.parts import Part
from robustgen.data.pixels import render
from robustgen.errors import UserError


def arrays(images: np.ndarray) -> Part:
    return Part(images=images, labels=np.zeros(len(images), dtype=np.int64))


def draw(
    part: Part, rows: list[int], size: int | None = None, pad: int | None = None, crop: bool = False
) -> np.ndarray:
    return render(part, np.array(rows), size=size, pad=pad, crop=crop, label="test")


def test_rows_are_taken_in_order(random: np.random.Generator) -> None:
    images = random.integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    np.testing.assert_array_equal(draw(arrays(images), [4, 0]), images[[4, 0]])
    np.testing.assert_array_equal(draw(arrays(images), [4, 0], size=4), images[[4, 0]])


@pytest.mark.parametrize(("channels", "side"), [(1, 16), (1, 32), (3, 5)])
def test_resizing_is_bilinear(random: np.random.Generator, channels: int, side: int) -> None:
    images = random.integers(0, 256, (6, channels, 8, 8), dtype=np.uint8)
    found = draw(arrays(images), list(range(6)), size=side)
    assert found.shape == (6, channels, side, side)
    assert found.dtype == np.uint8
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(images).float(), size=(side, side), mode="bilinear", antialias=True
    )
    assert np.abs(found - expected.numpy()).max() <= 1.5  # two roundings to bytes


def test_padding_puts_zeros_around(random: np.random.Generator) -> None:
    images = random.integers(1, 256, (2, 1, 28, 28), dtype=np.uint8)
    found = draw(arrays(images), [0, 1], pad=32)
    np.testing.assert_array_equal(found[:, :, 2:30, 2:30], images)
    assert found.sum(dtype=np.int64) == images.sum(dtype=np.int64)
    assert draw(arrays(images), [0], pad=31).shape == (1, 1, 31, 31)


def test_padding_does_not_shrink(random: np.random.Generator) -> None:
    with pytest.raises(UserError, match="--pad 20 is smaller than the images"):
        draw(arrays(random.integers(0, 256, (2, 1, 28, 28), dtype=np.uint8)), [0], pad=20)


def test_size_and_pad_exclude_each_other() -> None:
    with pytest.raises(UserError, match="exclude each other"):
        draw(arrays(np.zeros((1, 1, 2, 2), dtype=np.uint8)), [0], size=4, pad=4)


def test_frames_are_squashed_or_cropped(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, :10, 0] = 255  # the left sixth is red
    Image.fromarray(wide).save(tmp_path / "wide.png")
    part = Part(images=(tmp_path / "wide.png",), labels=np.zeros(1, dtype=np.int64))
    assert draw(part, [0], size=10)[0, 0, :, 0].min() > 200
    assert draw(part, [0], size=10, crop=True).max() == 0  # the middle square is black


def test_unequal_frames_need_a_size(tmp_path: Path, save_picture: Callable[..., None]) -> None:
    save_picture(tmp_path / "a.png", 1, (10, 12))
    save_picture(tmp_path / "b.png", 9, (12, 10))
    part = Part(images=(tmp_path / "a.png", tmp_path / "b.png"), labels=np.zeros(2, dtype=np.int64))
    with pytest.raises(UserError, match=r"differ in size .*b.png is 12x10.; give --size"):
        draw(part, [0, 1])
    assert draw(part, [1, 0], size=8)[:, 0, 0, 0].tolist() == [9, 1]


def test_boxes_are_cut_out_before_resizing(tmp_path: Path, random: np.random.Generator) -> None:
    pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    files, boxes = (tmp_path / "a.png",) * 2, np.array([[3, 4, 13, 14], [20, 10, 30, 20]])
    part = Part(images=files, labels=np.zeros(2, dtype=np.int64), boxes=boxes)
    found = draw(part, [1, 0])
    np.testing.assert_array_equal(found[0], pixels.transpose(2, 0, 1)[:, 10:20, 20:30])
    np.testing.assert_array_equal(found[1], pixels.transpose(2, 0, 1)[:, 4:14, 3:13])
    assert draw(part, [0], size=5).shape == (1, 3, 5, 5)


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    part = Part(images=(tmp_path / "bad.png",), labels=np.zeros(1, dtype=np.int64))
    with pytest.raises(UserError, match=r"bad\.png is not a readable image"):
        draw(part, [0], size=8)


def test_grey_files_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png")
    part = Part(images=(tmp_path / "grey.png",), labels=np.zeros(1, dtype=np.int64))
    assert draw(part, [0]).tolist() == np.full((1, 3, 4, 4), 7).tolist()


def test_long_work_reports_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("robustgen.progress.INTERVAL", 0.0)
    draw(arrays(np.zeros((3, 1, 2, 2), dtype=np.uint8)), [0, 1, 2], size=4)
    assert "test: 3/3 image" in capsys.readouterr().err
