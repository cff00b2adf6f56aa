"""Figures 4, 6, 13 and 16: natural images moved towards a class by raising its logit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from robustgen.evaluation.plotting import figure
from robustgen.io import save_csv
from robustgen.papers.drawing import absent, banner
from robustgen.papers.gat.figures.shared import FRAME, Line, one_of_each, settings, shares
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.pairing import same_images
from robustgen.papers.gat.study import Synthesis
from robustgen.papers.tiles import SMALL, extent, tiles, title, wrapped

HEADER = ("model", "target", "image", "label", "logit", "judged", "nearest", "l2_distance", "settings")
SIDE = 0.34  # inches of an image where there is one for every pair of classes


def setting_of(study: Synthesis, norm: str) -> int:
    """The last setting of a norm, or the last of all where there is none."""
    rows = np.flatnonzero(study["shift_norm"] == norm)
    return int(rows[-1]) if len(rows) else len(study["shift_norm"]) - 1


def linf_setting(study: Synthesis) -> int:
    """The setting of Figures 4, 6 and 9."""
    return setting_of(study, "linf")


def mnist(path: Path, found: Measured) -> None:
    """Figure 4: targeted attacks on the detectors trained from scratch and on the softmax classifier."""
    studies = {"detectors": found.mnist.synthesis, "softmax": found.mnist.synthesis_softmax}
    _targeted(path, studies, "targeted attacks on the detectors of the first section")


def cifar(path: Path, found: Measured) -> None:
    """Figure 6: the same of the detectors fine-tuned from the classifier."""
    studies = {"detectors": found.cifar.synthesis, "softmax": found.cifar.synthesis_softmax}
    _targeted(path, studies, "targeted attacks on the detectors of the second section")


def _targeted(path: Path, studies: Mapping[str, Synthesis | None], what: str) -> None:
    """Detectors above, softmax below: natural images of every class, and a row of them for every target."""
    there = {name: study for name, study in studies.items() if study is not None and study.has("shifted")}
    if not there:
        absent(path, HEADER, what)
        return
    down, across = (max(len(s.targets) + 1 for s in there.values()), max(_columns(s) for s in there.values()))
    width, height = extent(down, across, SIDE)
    table: list[Line] = []
    with figure(path, max(4.6, width + 0.9), len(studies) * (height + 0.9)) as made:
        made.set_layout_engine("compressed")  # for axes of equal aspect
        for axes, name in zip(made.subplots(len(studies), 1), studies, strict=True):
            if name not in there:
                banner(axes, f"targeted attacks on {name}")
                continue
            study = there[name]
            row, chosen = linf_setting(study), one_of_each(study["image_labels"])
            pictures = np.concatenate([study["images"][None, chosen], study["shifted"][row][:, chosen]])
            framed = np.concatenate([np.zeros((1, len(chosen)), bool), study.alike("shifted_judged")[row][:, chosen]])
            tiles(axes, pictures, ["clean", *(f"to {k}" for k in study.targets)], framed=framed)
            title(axes, _targeted_title(name, study, row), max(4.2, width + 0.5))
            table += lines_of(name, study, row)
    save_csv(f"{path}.csv", HEADER, table)


def _columns(study: Synthesis) -> int:
    return len(np.unique(study["image_labels"]))


def _targeted_title(name: str, study: Synthesis, row: int) -> str:
    others = study.of_other_classes()
    judged = shares(study.alike("shifted_judged")[row][others])
    nearest = shares(study.alike("shifted_nearest")[row][others])
    return (
        f"{settings(name, study.shifts[row], study.trained)}\n"
        f"{FRAME}: {judged} of other classes' images; nearest training image is of it: {nearest}"
    )


def lines_of(name: str, study: Synthesis, row: int, targets: list[int] | None = None) -> list[Line]:
    """Of every image and target (all of them, or some labels) what a setting made of it."""
    change = np.sqrt(np.square(study["shifted"][row].astype(np.float64) - study["images"]).sum((2, 3, 4)))
    how = settings(study.shifts[row], study.trained)
    return [
        (
            *(name, target, image, int(label), float(study["shifted_logits"][row, k, image, k])),
            *(int(study[f"shifted_{part}"][row, k, image]) for part in ("judged", "nearest")),
            *(float(change[k, image]), how),
        )
        for k, target in enumerate(study.targets)
        if targets is None or target in targets
        for image, label in enumerate(study["image_labels"])
    ]


def same_length(path: Path, found: Measured) -> None:
    """Figure 13: changes of one L2 length that raise the first class' logit, of models of growing training radius."""
    cifar = found.cifar
    studies = {
        "natural classifier": cifar.synthesis_natural,
        "detectors, small radius": cifar.synthesis_small,
        "detectors, large radius": cifar.synthesis,
    }
    _moved(path, studies, "changes of one length that raise a logit")


def imagenet(path: Path, found: Measured) -> None:
    """Figure 16: images of other classes moved towards the detector's."""
    largest = found.imagenet.synthesis[-1] if found.imagenet.synthesis else None
    _moved(path, {"detector": largest}, "targeted attacks on a detector of Restricted ImageNet")


def _moved(path: Path, studies: Mapping[str, Synthesis | None], what: str) -> None:
    """Natural images of other classes, and below them a row a model of what raising the first class' logit makes."""
    there = {name: study for name, study in studies.items() if study is not None and study.has("shifted")}
    if not there:
        absent(path, HEADER, what)
        return
    first, *others = there.values()
    for study in others:
        same_images(first, study)
    target = next(reversed(there.values())).targets[0]
    chosen = np.array([k for k in one_of_each(first["image_labels"]) if first["image_labels"][k] != target])
    pictures, framed, names, table = [first["images"][chosen]], [np.zeros(len(chosen), bool)], ["clean"], []
    for name, study in there.items():
        row, position = setting_of(study, "l2"), study.targets.index(target)
        pictures.append(study["shifted"][row, position][chosen].astype(np.float32))
        framed.append(study.alike("shifted_judged")[row, position][chosen])
        lines = lines_of(name, study, row, [target])
        lengths = [float(str(line[7])) for line in lines if line[3] != target]
        ends = dict.fromkeys(f"{length:.3g}" for length in (min(lengths), max(lengths)))
        names.append(f"{name}\nL2 change {' to '.join(ends)}")
        table += lines
    missing = [name for name, study in studies.items() if name not in there]
    width, height = extent(len(pictures), len(chosen), 0.62)
    words = max(width + 0.3, 4.6)
    with figure(path, max(width + 1.6, words + 0.2), height + 0.6 + 0.14 * len(there)) as made:
        made.set_layout_engine("compressed")  # for axes of equal aspect
        axes = made.subplots()
        tiles(axes, np.stack(pictures), names, framed=np.stack(framed))
        made.suptitle(wrapped(_moved_title(there, target, missing), words), fontsize=SMALL)
    save_csv(f"{path}.csv", HEADER, table)


def _moved_title(studies: Mapping[str, Synthesis], target: int, missing: list[str]) -> str:
    lines = [f"raising the logit of class {target}; {FRAME}"]
    made = {study.shifts[setting_of(study, "l2")]: None for study in studies.values()}
    lines += made if len(made) == 1 else []
    for name, study in studies.items():
        how = study.shifts[setting_of(study, "l2")] if len(made) > 1 else ""
        known = [word for word in (how, study.trained) if word]
        lines += [settings(name, *known)] if known else []
    lines += [f"not run at this scale: {', '.join(missing)}"] if missing else []
    return "\n".join(lines)
