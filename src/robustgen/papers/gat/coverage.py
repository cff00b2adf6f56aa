"""How far each item of the paper is reproduced at a scale, from what was measured there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustgen.evaluation.rows import Coverage
from robustgen.papers.coverage import drawing, line
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.probe import Probe
from robustgen.papers.gat.study import Density, Detection, Distortion, Synthesis
from robustgen.papers.gat.tables.cifar import others, steps
from robustgen.papers.gat.tables.implemented import searched
from robustgen.papers.gat.tables.mnist import ROLES, crossed
from robustgen.papers.gat.words import CIFAR, IMAGENET, LINF_LARGE, LINF_SMALL, LOSSES, MNIST
from robustgen.papers.reference import reference
from robustgen.papers.studies import OfImages

SOFTMAX = "a softmax classifier"
TEST = 10000  # test images of MNIST and CIFAR-10; the tables say no other number
LONG = 2000  # updates of Tables 1 and 7
RESTARTS = {"Table 9": 50, "Table 12": 10}
SETTINGS = {"Table 3": 5, "Table 14": 2, "Table 18": 6}  # lines of these tables
PANELS = 5  # of detectors in Figure 15
PROBLEMS = {1: 1, 2: 4}  # data sets of Figures 20 and 21
POINTS = {1: 500, 2: 1000}  # of either class, all of them in a batch
UPDATES = 50000  # of the authors' notebooks; the paper gives none
Parts = Mapping[str, bool]


def coverage(found: Measured) -> list[Coverage]:
    """One line per table and figure, and for the appendices with numbers."""
    return [*_tables(found), *_figures(found), _cost()]


def _tables(found: Measured) -> list[Coverage]:
    mnist, cifar, dog = found.mnist, found.cifar, found.imagenet.probe
    small, large = {LINF_SMALL: mnist.distortion_small}, {LINF_LARGE: mnist.distortion_large}
    tuned = {LINF_LARGE: cifar.distortion}
    trained = {f"{column} under {row}": cell is not None for (row, column), cell in steps(found).items()}
    balls = {f"attack in the {key} ball": point is not None for key, point in others(found).items()}
    unread = "its numbers are not in the text"
    return [
        _mnist(found, "Table 1", "Adam attacks, short and long", _lengths(found, "adam")),
        _mnist(found, "Table 2", "mean L2 distortion", _distorted(MNIST, small | large)),
        _cifar(found, "Table 3", "steps and step sizes", _listed("Table 3", cifar.large)),
        _cifar(found, "Table 4", f"mean L2 distortion; {unread}", _distorted(CIFAR, tuned)),
        _mnist(found, "Table 5", "training setups", {role: role in mnist.probes for role in ROLES}),
        _both(found, "Table 6", "search settings", _searched(MNIST, small | large) | _searched(CIFAR, tuned)),
        _mnist(found, "Table 7", "normalised steepest descent", _lengths(found, "steepest")),
        _mnist(found, "Table 8", "other norms and radii", _crossed(found)),
        _mnist(found, "Table 9", "random restarts", _restarted("Table 9", mnist.linf_large, mnist.l2_large)),
        _mnist(found, "Table 10", "all detectors", _every(mnist.linf_small)),
        _mnist(found, "Table 11", f"all detectors; {unread}", _every(mnist.linf_large)),
        _cifar(found, "Table 12", "random restarts", _restarted("Table 12", cifar.small, cifar.large)),
        _cifar(found, "Table 13", "other norms and radii", balls),
        _cifar(found, "Table 14", "the L2 model", _listed("Table 14", cifar.l2)),
        _cifar(found, "Table 15", "all detectors", _every(cifar.small)),
        _cifar(found, "Table 16", "all detectors", _every(cifar.large)),
        _cifar(found, "Table 17", "size of the training step", trained | _all_images(cifar.fine, cifar.coarse)),
        _line("Table 18", "the dog detector", _listed("Table 18", dog), found.imagenet.dataset, IMAGENET),
    ]


def _figures(found: Measured) -> list[Coverage]:
    mnist, cifar = found.mnist, found.cifar
    small = {"detectors": mnist.synthesis, SOFTMAX: mnist.synthesis_softmax}
    tuned = {"detectors": cifar.synthesis, SOFTMAX: cifar.synthesis_softmax}
    lengths = {"small radius": cifar.synthesis_small, "large radius": cifar.synthesis}
    wide = {"detectors of radius 16/255": cifar.synthesis_wide}
    histories = {"small radius": cifar.small_curve is not None, "large radius": cifar.large_curve is not None}
    return [
        drawing("Figure 1"),
        drawing("Figure 2"),
        _mnist(found, "Figure 3", "detection and classification", _detected(mnist.detection)),
        _mnist(found, "Figure 4", "targeted perturbations", _images("shifted", small)),
        _cifar(found, "Figure 5", "detection and classification", _detected(cifar.detection)),
        _cifar(found, "Figure 6", "targeted perturbations", _images("shifted", tuned)),
        _cifar(found, "Figure 7", "generated images", _images("generated", tuned)),
        _mnist(found, "Figure 8", "losses against generative detection", _losses(mnist.detection)),
        _mnist(found, "Figure 9", "logits of perturbed images", _images("shifted", small)),
        _cifar(found, "Figure 10", "losses against generative detection", _losses(cifar.detection)),
        _cifar(found, "Figure 11", "logits of generated images", _images("generated", tuned)),
        _cifar(found, "Figure 12", "training histories", histories),
        _cifar(
            found,
            "Figure 13",
            "perturbations of one length",
            _images("shifted", {"the natural classifier": cifar.synthesis_natural, **lengths}),
        ),
        _cifar(found, "Figure 14", "images generated by the widest detectors", _images("generated", wide)),
        _dogs(found, "Figure 15", "generated"),
        _dogs(found, "Figure 16", "shifted"),
        Coverage(item="Figure 17", what="none", status="not reproducible", where="", note="it has a number alone"),
        _dogs(found, "Figure 18", "generated"),
        _cifar(
            found,
            "Figure 19",
            "noise turned into images",
            _images("noise", {**wide, SOFTMAX: cifar.synthesis_softmax}),
        ),
        _density(found, "Figure 20", 1),
        _density(found, "Figure 21", 2),
    ]


def _where(item: str) -> str:
    return item.lower().replace(" ", "")


def _line(item: str, what: str, parts: Parts, dataset: str, shown: str) -> Coverage:
    return line(item, what, _where(item), parts, dataset=dataset, shown=shown)


def _mnist(found: Measured, item: str, what: str, parts: Parts) -> Coverage:
    return _line(item, what, parts, found.mnist.dataset, MNIST)


def _cifar(found: Measured, item: str, what: str, parts: Parts) -> Coverage:
    return _line(item, what, parts, found.cifar.dataset, CIFAR)


def _both(found: Measured, item: str, what: str, parts: Parts) -> Coverage:
    dataset = " and ".join(dict.fromkeys(filter(None, (found.mnist.dataset, found.cifar.dataset))))
    return _line(item, what, parts, dataset, f"{MNIST} and {CIFAR}")


def _all_images(*studies: OfImages | None) -> dict[str, bool]:
    """Whether every study that is there saw the whole test set; no part of an item without studies."""
    counts = [len(study.labels) for study in studies if study is not None]
    return {f"all {TEST} test images (n {min(counts)})": min(counts) >= TEST} if counts else {}


def _lengths(found: Measured, rule: str) -> dict[str, bool]:
    probes = found.mnist.probes
    long = {role: probes[role].long(rule) if role in probes else None for role in ROLES}
    updates = [int(probes[role].options(point)["steps"]) for role, point in long.items() if point is not None]
    parts = {role: point is not None for role, point in long.items()}
    if updates:
        parts[f"{LONG} updates (here {min(updates)})"] = min(updates) >= LONG
    return parts | _all_images(*probes.values())


def _distorted(shown: str, studies: Mapping[str, Distortion | None]) -> dict[str, bool]:
    return _searched(shown, studies) | _all_images(*studies.values())


def _searched(shown: str, studies: Mapping[str, Distortion | None]) -> dict[str, bool]:
    known, parts = reference("robustgen.papers.gat"), {}
    for role, study in studies.items():
        parts[f"{shown}'s {role}"] = study is not None
        if study is not None:
            row = searched(shown, role)
            depth, updates = (int(known[shown, row, column].value) for column in ("search depth", "PGD steps"))
            here = study.config["search"]
            words = f"{depth} bisections of {updates} updates (here {here['depth']} of {here['steps']})"
            parts[f"{shown}'s {role} by {words}"] = here["depth"] >= depth and here["steps"] >= updates
    return parts


def _listed(item: str, probe: Probe | None) -> dict[str, bool]:
    count = 0 if probe is None else len(probe.fixed())
    parts = {f"{SETTINGS[item]} settings" + (f" (here {count})" if count else ""): count >= SETTINGS[item]}
    parts |= {"some settings": True} if count else {}
    return parts | (_all_images(probe) if item != "Table 18" else {})


def _crossed(found: Measured) -> dict[str, bool]:
    probes = found.mnist.probes
    pairs = [(model, attack) for model in ROLES for attack in ROLES]
    there = [pair for pair in pairs if crossed(probes, *pair) is not None]
    parts = {f"{len(pairs)} pairs" + (f" (here {len(there)})" if there else ""): len(there) == len(pairs)}
    return ({"some pairs": True} if there else {}) | parts | _all_images(*probes.values())


def _restarted(item: str, *probes: Probe | None) -> dict[str, bool]:
    pairs = [None if probe is None else probe.restarted() for probe in probes]
    parts = {f"the {word} model": pair is not None for word, pair in zip(("first", "second"), pairs, strict=True)}
    counts = [
        int(probe.options(pair[0])["restarts"])
        for probe, pair in zip(probes, pairs, strict=True)
        if probe is not None and pair is not None
    ]
    if counts:
        parts[f"{RESTARTS[item]} restarts (here {min(counts)})"] = min(counts) >= RESTARTS[item]
    return parts | _all_images(*probes)


def _every(probe: Probe | None) -> dict[str, bool]:
    parts = {"all detectors": probe is not None and len(probe.usable) >= 10}
    return ({"some detectors": True} if probe is not None else {}) | parts | _all_images(probe)


def _detected(study: Detection | None) -> dict[str, bool]:
    if study is None or not study.radii:
        return {"attacks on both ways of detection": False}
    here = study.attacks(study.radii[0])
    wanted = ("classifier", "detector", "combined16", "combined17")
    return {
        **{f"attack {name}": name in here for name in wanted},
        "a larger radius": len(study.radii) > 1,
        **_all_images(study),
    }


def _losses(study: Detection | None) -> dict[str, bool]:
    here = [] if study is None or not study.radii else study.attacks(study.radii[0])
    return {f"loss {name}": name in here for name in LOSSES} | _all_images(study if here else None)


def _images(part: str, studies: Mapping[str, Synthesis | None]) -> dict[str, bool]:
    return {name: study is not None and study.has(part) for name, study in studies.items()}


def _dogs(found: Measured, item: str, part: str) -> Coverage:
    imagenet = found.imagenet
    there = [study for study in imagenet.synthesis if study.has(part)]
    if item == "Figure 15":
        parts = {"some detectors": True} if there else {}
        parts[f"{PANELS} panels of detectors" + (f" (here {len(there)})" if there else "")] = len(there) >= PANELS
        parts |= _images(part, {SOFTMAX: imagenet.synthesis_softmax})
    else:
        parts = {"detectors of the largest radius": bool(there) and there[-1] is imagenet.synthesis[-1]}
    what = {"generated": "generated dogs", "shifted": "perturbed dogs"}[part]
    return _line(item, what, parts, imagenet.dataset, IMAGENET)


def _density(found: Measured, item: str, dimensions: int) -> Coverage:
    studies: Sequence[Density] = found.density(dimensions)
    parts = {"densities": bool(studies)}
    if studies:
        problems, points = len({name for study in studies for name in study.problems}), POINTS[dimensions]
        updates, batch = (min(int(study.config[name]) for study in studies) for name in ("updates", "batch"))
        parts[f"{PROBLEMS[dimensions]} data sets (here {problems})"] = problems >= PROBLEMS[dimensions]
        parts[f"the notebooks' {UPDATES} updates (here {updates})"] = updates >= UPDATES
        parts[f"batches of {points} (here {batch})"] = batch >= points
    if dimensions == 2:
        parts["the paper's own data sets, which it does not name"] = False
    return _line(item, f"{dimensions}-dimensional densities", parts, "synthetic data", "synthetic data")


def _cost() -> Coverage:
    note = "`python benchmarks/gat.py` measures it on the machine at hand; no part of the pipeline"
    return Coverage(item="Appendix E", what="cost of training and inference", status="partly", where="", note=note)
