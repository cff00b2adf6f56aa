"""Where raw images come from: the places are tried in order of nearness, and what they give is verified."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

import numpy as np

from robustgen.data import readers, registry, transport
from robustgen.data.parts import Source
from robustgen.data.transport import MIRROR, UnavailableError
from robustgen.errors import UserError
from robustgen.io import sha256

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
EMBEDDED = "digits"


def find(name: str, size: int | None = None, root: Path | None = None) -> Source:
    """The raw images of set `name` from the nearest place that has them, verified by the pinned checksums.

    Places: scikit-learn (digits), a mirror folder, Debian's package (Fashion-MNIST), earlier downloads, a mirror
    URL, torchvision's download. `size` (pixels) chooses among the variants of Imagenette. `root` belongs to
    `folder`, a user's own images. Raises UserError for an unknown name, damaged files, or nothing at hand.
    """
    if name == registry.FOLDER:
        if root is None:
            raise UserError("--name folder needs --root PATH, a folder of class folders or of train and test folders")
        return readers.read_folder(root)
    known = registry.dataset(name)
    if root is not None:
        raise UserError(f"--root belongs to --name folder, not to {name}; set {MIRROR} to use raw files of your own")
    source = readers.read_digits() if name == EMBEDDED else _search(known.name, size)
    _verify(source, known)
    return source


def whereabouts(name: str) -> tuple[bool, str]:
    """Whether the raw images of set `name` are on this machine, and the place they would come from."""
    if name == EMBEDDED:
        return True, "scikit-learn"
    place = transport.mirror()
    if isinstance(place, Path) and (registry.raw_paths(name, place) or _packed(name, place)):
        return True, f"mirror {place}"
    if name == "fashion-mnist" and _debian():
        return True, "Debian's dataset-fashion-mnist"
    if cached := _cached(name):
        return True, str(cached)
    if by_hand := registry.dataset(name).by_hand:
        return False, by_hand.needed
    return False, f"mirror {place}, or download" if isinstance(place, str) else "download (torchvision)"


def _search(name: str, size: int | None) -> Source:
    place = transport.mirror()
    if isinstance(place, Path) and registry.raw_paths(name, place, size):
        return readers.read(name, place, size, f"mirror {place}")
    if name == "fashion-mnist" and _debian():
        return _read_debian()
    cached = transport.cache_folder(name, size)
    if registry.raw_paths(name, cached, size):
        return readers.read(name, cached, size, str(cached))
    return readers.read(name, _bring(name, size, place), size, str(cached))


def _bring(name: str, size: int | None, place: Path | str | None) -> Path:
    """Bring the raw files into the cache, from the mirror or by download; one line of UserError if neither works."""
    known = registry.dataset(name)
    if known.by_hand:
        raise UserError(
            f"{name} is not at hand and has no download{_lacking(known.layout, place)}; {known.by_hand.how}, "
            f"and set {MIRROR} to the folder above"
        )
    told = []
    if place is not None:
        try:
            return transport.copy_from(place, name, size)
        except UnavailableError as reason:
            told.append(f"mirror {place}: {reason}")
    try:
        return transport.download(name, size)
    except UnavailableError as reason:
        told.append(f"download: {reason}")
    debian = ", install Debian's package dataset-fashion-mnist" if name == "fashion-mnist" else ""
    files = (*known.layout[:1], *registry.archive_paths(name, size)[:1])
    raise UserError(
        f"{name} is not at hand ({'; '.join(told)}); go online{debian}, or set {MIRROR} to a folder or URL "
        f"that holds its raw files ({' or '.join(dict.fromkeys(files))}, ...)"
    )


def _lacking(layout: tuple[str, ...], place: Path | str | None) -> str:
    """What a mirror folder that holds some of a set's layout does not hold, as half a sentence; else nothing."""
    absent = [path for path in layout if isinstance(place, Path) and not (place / path).exists()]
    return f" ({place} lacks {', '.join(absent)})" if 0 < len(absent) < len(layout) else ""


def _verify(source: Source, known: registry.DataSet) -> None:
    """Compare the decoded arrays with the pinned SHA-256 sums, where there are any."""
    for part, pinned in known.pins.items():
        found = source.parts[part]
        assert isinstance(found.images, np.ndarray)  # only sets of one image size are pinned
        if (sha256(found.images), sha256(found.labels.astype(np.uint8))) != pinned:
            raise UserError(
                f"{source.origin}: the {part} part of {known.name} is damaged or not the official one "
                "(SHA-256 sums differ); replace or delete these files and run again"
            )


def _packed(name: str, place: Path) -> bool:
    published = [registry.archive_paths(name, size) for size in _sizes(name)]
    return any(paths and all((place / path).is_file() for path in paths) for paths in published)


def _cached(name: str) -> Path | None:
    folders = (transport.cache_folder(name, size) for size in _sizes(name))
    return next((folder for folder in folders if registry.raw_paths(name, folder)), None)


def _sizes(name: str) -> tuple[int | None, ...]:
    """Sizes that between them ask for every published variant of a set."""
    return (160, 320, None) if name == "imagenette" else (None,)


def _debian() -> bool:
    return all((DEBIAN / Path(path).name).is_file() for path in registry.archive_paths("fashion-mnist"))


def _read_debian() -> Source:
    """Fashion-MNIST from the compressed IDX files of Debian's package."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for path in registry.archive_paths("fashion-mnist"):
            packed = DEBIAN / Path(path).name
            try:
                (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(f"{packed} cannot be read ({error}); reinstall dataset-fashion-mnist") from error
        return readers.read("fashion-mnist", Path(folder), None, "Debian's dataset-fashion-mnist")
