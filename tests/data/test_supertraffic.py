from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustgen.data import load_split, readers, registry, sources, splits, supertraffic
from robustgen.data.parts import Source
from robustgen.errors import UserError
from robustgen.stages import fetch

Make = Callable[[Path], None]


@pytest.fixture
def made(tmp_path: Path, make_supertraffic: Make) -> Path:
    make_supertraffic(tmp_path / "raw")
    return tmp_path / "raw"


def find(root: Path) -> Source:
    return readers.read("supertraffic10", root, None, "here")


def test_no_class_is_matched_twice_and_all_are_known() -> None:
    belgian = [pair[0] for pair in supertraffic.MATCHES.values() if pair[0] is not None]
    slovenian = [pair[1] for pair in supertraffic.MATCHES.values() if pair[1] is not None]
    assert len(set(belgian)) == len(belgian)
    assert len(set(slovenian)) == len(slovenian)
    assert all(0 <= number < len(supertraffic.BELGIAN) for number in belgian)
    assert all(0 <= number < len(supertraffic.GERMAN) for number in supertraffic.MATCHES)


def test_the_ten_commonest_signs_of_the_three_sets_together(made: Path) -> None:
    source = find(made)
    assert len(source.classes) == registry.dataset("supertraffic10").num_classes
    assert source.classes[0] == "yield"  # the only one in all three
    assert "keep right" not in source.classes  # the eleventh
    counts = {part: Counter(each.labels.tolist()) for part, each in source.parts.items()}
    assert counts["train"][0] == 8 + 2 + 1  # 31 pixels are too few, DFG's second box is ignored
    assert counts["test"][0] == 2 + 2 + 1
    assert set(counts["train"].values()) == {8, 11}
    assert source.classes[1:] == tuple(sorted(source.classes[1:]))  # equally common: by name


def test_a_class_without_a_match_is_its_own(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supertraffic, "CLASSES", 12)
    classes = find(made).classes
    assert classes[-1] == "BTS 00045"
    assert not any(name.startswith("DFG") for name in classes)  # its box is too small


def test_frames_are_the_files_of_their_tables(made: Path) -> None:
    for part in find(made).parts.values():
        assert part.boxes is not None
        for file, box in zip(part.images, part.boxes.tolist(), strict=True):
            with Image.open(file) as image:
                assert "DFG" in Path(file).parts or box == [0, 0, *image.size]
            assert min(box[2] - box[0], box[3] - box[1]) >= 32


def test_boxes_of_photos_get_a_border_inside_the_photo() -> None:
    assert supertraffic._with_border([50.0, 20.0, 60.0, 50.0], 200, 100) == (44, 15, 116, 75)
    assert supertraffic._with_border([1.0, 2.0, 198.0, 97.0], 200, 100) == (0, 0, 200, 100)
    assert supertraffic._with_border([150, 60, 60, 50], 200, 100) == (144, 55, 200, 100)  # sticks out


def test_views_of_one_sign_stay_together(made: Path) -> None:
    source = find(made)
    train = source.parts["train"]
    assert train.groups is not None
    assert len(np.unique(train.groups)) == 10 * 4 + 2 + 1
    rows = splits.split(source.parts, validation=0.4, test=None, seed=0)
    kept, held = (set(train.groups[rows[name].indices].tolist()) for name in ("train", "validation"))
    assert kept
    assert held
    assert not kept & held


def test_fetch_writes_32_pixels_without_being_asked(
    mirror: Path, tmp_path: Path, make_supertraffic: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    make_supertraffic(mirror)
    fetch.run(fetch.Options(name="supertraffic10", out=tmp_path / "s.npz", validation=0.4))
    found = load_split(tmp_path / "s.npz", "train")
    assert found.images.shape[1:] == registry.dataset("supertraffic10").shape
    shades = {found.classes[label]: set() for label in range(10)}  # type: dict[str, set[int]]
    for image, label in zip(found.images, found.labels.tolist(), strict=True):
        shades[found.classes[label]].add(round(float(image[0].mean()) * 255))
    assert shades["speed limit 30"] == {0}
    assert shades["road work"] == {90}
    assert shades["yield"] <= {60, 200, 40}
    assert f"supertraffic10 from mirror {mirror}" in capsys.readouterr().err
    fetch.run(fetch.Options(name="supertraffic10", out=tmp_path / "s.npz", validation=0.4, size=16))
    assert load_split(tmp_path / "s.npz", "test").images.shape[1:] == (3, 16, 16)


def test_its_test_part_is_the_official_one() -> None:
    with pytest.raises(UserError, match="leave it out for supertraffic10"):
        fetch.run(fetch.Options(name="supertraffic10", out=Path("s.npz"), test=0.3))


def test_without_the_data_one_line_says_what_to_put_where(mirror: Path, make_supertraffic: Make) -> None:
    with pytest.raises(UserError, match=r"has no download; get GTSRB .* set ROBUSTGEN_MIRROR to the folder") as raised:
        sources.find("supertraffic10")
    assert "\n" not in str(raised.value)
    assert sources.whereabouts("supertraffic10") == (False, "your own copies of GTSRB, BTS and DFG")
    make_supertraffic(mirror)
    assert sources.whereabouts("supertraffic10") == (True, f"mirror {mirror}")
    (mirror / "DFG" / "DFG-tsd-annot-json" / "test.json").unlink()
    (mirror / "BelgiumTSC" / "Testing").rename(mirror / "Testing")
    with pytest.raises(UserError, match=r"lacks BelgiumTSC/Testing, DFG/DFG-tsd-annot-json/test.json\); get GTSRB"):
        sources.find("supertraffic10")


def lines(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("ClassId", "Class"), "GT-00013.csv has no column ClassId; take the data set's own"),
        (lambda text: text.replace(";13\n", ";43\n"), r"GT-00013.csv, line 2: there is no class 43"),
        (lambda text: text.replace(";13\n", ";14\n"), r"00013: its table has 00000_00000.ppm in class 14"),
        (lambda text: text.replace(";31;", ";wide;"), "GT-00013.csv, line 2: class and size must be whole numbers"),
        (lambda text: text[: text.index(";31;")], "GT-00013.csv, line 2: class and size must be whole numbers"),
    ],
)
def test_tables_that_are_not_as_published(made: Path, change: Callable[[str], str], message: str) -> None:
    lines(made / "gtsrb" / "GTSRB" / "Final_Training" / "Images" / "00013" / "GT-00013.csv", change)
    with pytest.raises(UserError, match=message):
        find(made)


def test_folders_that_are_not_as_published(made: Path) -> None:
    (made / "BelgiumTSC" / "Training" / "00019" / "GT-00019.csv").unlink()
    with pytest.raises(UserError, match=r"00019 has no GT-00019.csv; unpack the data set again"):
        find(made)
    for folder in (made / "BelgiumTSC" / "Training").iterdir():
        folder.rename(folder.with_name(f"class {folder.name}"))
    with pytest.raises(UserError, match="Training has no class folders"):
        find(made)


def test_a_copy_with_few_signs(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supertraffic, "CLASSES", 15)
    with pytest.raises(UserError, match="only 12 signs have images of 32x32 pixels or more, 15 are needed"):
        find(made)


def edited(name: str, number: int, /, **values: object) -> Callable[[str], str]:
    """A change of entry `number` of list `name` of a COCO file; None removes a field."""

    def change(text: str) -> str:
        found = json.loads(text)
        entry = found[name][number] | values
        found[name][number] = {field: value for field, value in entry.items() if value is not None}
        return json.dumps(found)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-9], "train.json is not JSON .*; take DFG's own file"),
        (lambda text: text.replace('"annotations"', '"boxes"'), "train.json has no list annotations"),
        (lambda _: "[]", "train.json has no list images"),
        (edited("annotations", 0, bbox=None), "train.json: entry 0 of annotations lacks bbox"),
        (edited("images", 0, width=None, height=None), "entry 0 of images lacks width, height"),
        (edited("categories", 1, name=None), "entry 1 of categories lacks name"),
        (edited("annotations", 0, image_id=8), "annotation 0 names photo 8, which is not listed"),
        (edited("annotations", 0, category_id=5), "annotation 0 names category 5, which is not listed"),
        (
            edited("annotations", 0, bbox=[190, 20, 40, 40]),
            r"box \[190, 20, 40, 40\] of annotation 0 is not in its photo",
        ),
        (edited("annotations", 0, bbox=[10, 20, 0, 40]), "of annotation 0 is not in its photo train.png .200x100."),
        (edited("annotations", 0, bbox=[10, 20, 40]), "of annotation 0 is not in its photo"),
        (edited("annotations", 0, bbox=[10, float("nan"), 40, 40]), "of annotation 0 is not in its photo"),
    ],
)
def test_annotations_that_are_not_as_published(made: Path, change: Callable[[str], str], message: str) -> None:
    lines(made / "DFG" / "DFG-tsd-annot-json" / "train.json", change)
    with pytest.raises(UserError, match=message):
        find(made)


def test_damaged_images_are_named(mirror: Path, tmp_path: Path, make_supertraffic: Make) -> None:
    make_supertraffic(mirror)
    file = mirror / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / "00000.ppm"
    options = fetch.Options(name="supertraffic10", out=tmp_path / "s.npz", validation=0.4)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"00000.ppm is not a readable image"):
        fetch.run(options)
    Image.new("RGB", (40, 34)).save(file)
    with pytest.raises(UserError, match=r"00000.ppm is 40x34 pixels, too small for \[0, 0, 40, 35\] of its table"):
        fetch.run(options)
    assert not (tmp_path / "s.npz").exists()
