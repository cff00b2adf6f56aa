"""SuperTraffic-10 (E-ABS, Ju & Wagner 2020, Sec. 4.1): the ten commonest signs of three European data sets.

The German (GTSRB), Belgian (BTS, BelgiumTSC) and Slovenian (DFG) sets are merged, frames with a side below 32 pixels
are left out, and the ten classes with most images are kept. The paper says no more; the rest is decided here:
- Which classes are the same sign: `MATCHES`. A class without a match is a sign of its own, "BTS 00045" or
  "DFG III-6". Signs of BTS and DFG that GTSRB lacks are too rare to be among the ten, so they are not matched.
- Training part: GTSRB's Final_Training, BTS's Training, DFG's train.json. Test part: the three official test parts.
- GTSRB and BTS: the whole frame, as published, with its border around the sign. DFG: photos and tight boxes, cut out
  with the border that GTSRB's frames have; boxes that DFG itself marks `ignore` are left out.
- Images that must stay together: GTSRB's and BTS's views of one physical sign, told by the file name; boxes of one
  sign in one DFG photo.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.data.parts import Part
from robustgen.data.registry import CLASSES_GTSRB
from robustgen.errors import UserError

SIDE = 32  # pixels: frames with a shorter side are left out
CLASSES = 10  # the signs with most images
BORDER, LEAST_BORDER = 0.1, 5  # around a DFG box: the share of its side, at least this many pixels, as GTSRB has it

# GTSRB's number of a sign -> that of the same sign in BTS and its code in DFG; None where there is none, or none is
# sure. BTS has no official list: a pair is here where two independent comparisons of the pictures agree. Its only
# class of speed limits (00032) holds all numbers and matches none. DFG's codes are those of the Slovenian regulation
# of 2000; marked "by the regulation" is what could be checked against its list of names but not against pictures.
MATCHES: dict[int, tuple[int | None, str | None]] = {
    1: (None, "II-30-30"),  # speed limit 30
    2: (None, "II-30-50"),  # speed limit 50
    3: (None, "II-30-60"),  # speed limit 60
    4: (None, "II-30-70"),  # speed limit 70
    9: (None, "II-28"),  # no passing
    11: (17, "I-27"),  # priority at next intersection
    12: (61, "III-3"),  # priority road; DFG by the regulation
    13: (19, "II-1"),  # yield
    14: (21, "II-2"),  # stop
    15: (28, None),  # no vehicles
    16: (None, "II-7"),  # no trucks
    17: (22, "II-4"),  # no entry
    18: (13, "I-25"),  # danger
    19: (None, "I-1"),  # curve left
    20: (None, "I-1.1"),  # curve right
    22: (0, "I-10"),  # bumpy road
    23: (2, "I-11"),  # slippery road
    25: (10, "I-19"),  # road work
    26: (11, "I-20"),  # traffic signals
    28: (7, "I-15"),  # children
    29: (None, "I-16"),  # bicycles
    31: (None, "I-18"),  # wild animals
    35: (34, None),  # ahead only
    36: (36, None),  # ahead or right
    38: (None, "II-47"),  # keep right; DFG by the regulation
}
_BELGIAN = {pair[0]: CLASSES_GTSRB[sign] for sign, pair in MATCHES.items() if pair[0] is not None}
GERMAN = CLASSES_GTSRB
BELGIAN = tuple(_BELGIAN.get(number, f"BTS {number:05d}") for number in range(62))
SLOVENIAN = {pair[1]: CLASSES_GTSRB[sign] for sign, pair in MATCHES.items() if pair[1] is not None}

_COLUMNS = ("Filename", "Width", "Height", "ClassId")
_FIELDS = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are the first outside


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One sign in one image. group: frames of one sign and equal group look alike."""

    file: Path
    box: Box
    sign: str
    group: str


def read(root: Path) -> tuple[dict[str, Part], tuple[str, ...]]:
    """The parts `train` and `test`, with boxes to cut out, and the ten signs, commonest first.

    Raises UserError for tables and annotations that are not as published, and for fewer than ten signs.
    """
    base, belgian = root / "gtsrb" / "GTSRB", root / "BelgiumTSC"
    german = {"train": _class_folders(base / "Final_Training" / "Images", GERMAN), "test": _german_test(root / "gtsrb")}
    frames = {
        part: [*german[part], *_class_folders(belgian / folder, BELGIAN), *_photos(root / "DFG", part)]
        for part, folder in (("train", "Training"), ("test", "Testing"))
    }
    kept = {part: [frame for frame in each if _sides(frame.box) >= SIDE] for part, each in frames.items()}
    counts = Counter(frame.sign for each in kept.values() for frame in each)
    if len(counts) < CLASSES:
        raise UserError(
            f"{root}: only {len(counts)} signs have images of {SIDE}x{SIDE} pixels or more, {CLASSES} are needed; "
            "unpack the three data sets in full"
        )
    classes = tuple(sorted(counts, key=lambda sign: (-counts[sign], sign))[:CLASSES])
    return {part: _part(each, classes) for part, each in kept.items()}, classes


def _sides(box: Box) -> int:
    """The shorter side of a box, in pixels."""
    return min(box[2] - box[0], box[3] - box[1])


def _part(frames: Iterable[Frame], classes: tuple[str, ...]) -> Part:
    """The frames whose sign is among `classes`, labelled by its place there."""
    labels = {sign: label for label, sign in enumerate(classes)}
    chosen = [frame for frame in frames if frame.sign in labels]
    keys = [(frame.sign, frame.group) for frame in chosen]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return Part(
        images=tuple(frame.file for frame in chosen),
        boxes=np.array([frame.box for frame in chosen], dtype=np.int64).reshape(-1, 4),
        labels=np.array([labels[frame.sign] for frame in chosen], dtype=np.int64),
        groups=np.array([numbers[key] for key in keys], dtype=np.int64),
    )


def _class_folders(folder: Path, signs: tuple[str, ...]) -> Iterator[Frame]:
    """Frames in class folders `00000`, ... with tables `GT-00000.csv` and files `track_frame.ppm`; signs by number."""
    found = sorted(each for each in folder.iterdir() if re.fullmatch(r"\d{5}", each.name))
    if not found:
        raise UserError(f"{folder} has no class folders (00000, 00001, ...); unpack the data set there")
    for each in found:
        for name, number, box in _table(each / f"GT-{each.name}.csv", len(signs)):
            if number != int(each.name):
                raise UserError(f"{each}: its table has {name} in class {number}; take the data set's own table")
            yield Frame(file=each / name, box=box, sign=signs[number], group=f"{folder} {name.split('_')[0]}")


def _german_test(root: Path) -> Iterator[Frame]:
    """GTSRB's test frames, all in one folder; their tracks are not published."""
    for name, number, box in _table(root / "GT-final_test.csv", len(GERMAN)):
        file = root / "GTSRB" / "Final_Test" / "Images" / name
        yield Frame(file=file, box=box, sign=GERMAN[number], group=str(file))


def _table(file: Path, classes: int) -> Iterator[tuple[str, int, Box]]:
    """File name, class number (0 to `classes` - 1) and whole frame of each row of a table of GTSRB or BTS."""
    if not file.is_file():
        raise UserError(f"{file.parent} has no {file.name}; unpack the data set again, with its tables")
    with file.open(newline="") as opened:
        reader = csv.DictReader(opened, delimiter=";", skipinitialspace=True)
        lacking = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
        if lacking:
            raise UserError(f"{file} has no column {', '.join(lacking)}; take the data set's own table")
        for line, row in enumerate(reader, start=2):
            try:
                number, width, height = (int(row[column]) for column in ("ClassId", "Width", "Height"))
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"{file}, line {line}: class and size must be whole numbers; take the data set's own table"
                ) from error
            if not 0 <= number < classes:
                raise UserError(f"{file}, line {line}: there is no class {number}; take the data set's own table")
            yield row["Filename"], number, (0, 0, width, height)


def _photos(root: Path, part: str) -> Iterator[Frame]:
    """DFG's signs: annotations in COCO's form on whole photos."""
    file = root / "DFG-tsd-annot-json" / f"{part}.json"
    lists = _annotations(file)
    photos = {photo["id"]: photo for photo in lists["images"]}
    codes = {category["id"]: str(category["name"]) for category in lists["categories"]}
    for number, entry in enumerate(lists["annotations"]):
        if entry.get("ignore"):
            continue
        photo, code = photos.get(entry["image_id"]), codes.get(entry["category_id"])
        if photo is None or code is None:
            unknown = f"photo {entry['image_id']}" if photo is None else f"category {entry['category_id']}"
            raise UserError(f"{file}: annotation {number} names {unknown}, which is not listed; take DFG's own file")
        box = _with_border(entry["bbox"], photo["width"], photo["height"])
        if box is None:
            raise UserError(
                f"{file}: the box {entry['bbox']} of annotation {number} is not in its photo {photo['file_name']} "
                f"({photo['width']}x{photo['height']}); take DFG's own file"
            )
        path = root / "JPEGImages" / photo["file_name"]
        yield Frame(file=path, box=box, sign=SLOVENIAN.get(code, f"DFG {code}"), group=str(path))


def _annotations(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The three lists of a COCO file; UserError for one that is no JSON, or where a list or field is missing."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}); take DFG's own file") from error
    for name, fields in _FIELDS.items():
        entries = found.get(name) if isinstance(found, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"{file} has no list {name}; take DFG's own file")
        for number, entry in enumerate(entries):
            lacking = [field for field in fields if not isinstance(entry, dict) or field not in entry]
            if lacking:
                raise UserError(f"{file}: entry {number} of {name} lacks {', '.join(lacking)}; take DFG's own file")
    return dict(found)


def _with_border(bbox: Any, width: Any, height: Any) -> Box | None:
    """COCO's left, top, width, height with the border, cut at the photo's edges; None if its centre lies outside."""
    try:
        left, top, wide, high = (float(value) for value in bbox)
        width, height = int(width), int(height)
    except (TypeError, ValueError):
        return None
    inside = 0 <= left + wide / 2 < width and 0 <= top + high / 2 < height
    if not (inside and wide > 0 and high > 0):
        return None
    x, y = (max(BORDER * side, LEAST_BORDER) for side in (wide, high))
    return (
        max(0, round(left - x)),
        max(0, round(top - y)),
        min(width, round(left + wide + x)),
        min(height, round(top + high + y)),
    )
