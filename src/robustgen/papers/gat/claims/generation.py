"""Claims about what raises a detector's logit (Figures 4, 6, 7, 9, 11, 13) and about densities (Figures 20, 21)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robustgen.evaluation.claims import Condition
from robustgen.evaluation.rows import Claim
from robustgen.evaluation.statistics import mean, mean_difference, proportion_difference, share_difference
from robustgen.papers.gat.measured import Measured
from robustgen.papers.gat.pairing import fooling, from_one_noise, from_one_start, same_images
from robustgen.papers.gat.study import GAT, NATURAL, Density, Synthesis
from robustgen.papers.gat.words import CIFAR, MNIST
from robustgen.papers.statements import READING, Statement

JUDGES = {"judged": "an independent classifier", "nearest": "the nearest training image"}
MATCH = Condition("<", 0.2)  # total variation; 0 is the target itself, 1 the farthest
RECOGNISED = 0.9  # a share of class Gaussians above which nothing is left for generation to show
SHARED = "a class that both models have"
FLAT = {1: "Fig. 20", 2: "Fig. 21"}


def claims(found: Measured) -> Iterator[Claim]:
    mnist, cifar = found.mnist, found.cifar
    sections = ((MNIST, "Fig. 4", mnist.synthesis, mnist.synthesis_softmax),)
    for shown, source, ours, theirs in (*sections, (CIFAR, "Fig. 6", cifar.synthesis, cifar.synthesis_softmax)):
        for judge in JUDGES:
            yield _shifted(shown, source, judge, ours, theirs)
    for shown, ours, theirs in (
        (MNIST, mnist.synthesis, mnist.synthesis_softmax),
        (CIFAR, cifar.synthesis, cifar.synthesis_softmax),
    ):
        for judge in JUDGES:
            yield _from_noise(shown, judge, ours, theirs)
        yield _noise_fools(shown, ours, theirs)
    for judge in JUDGES:
        yield _generated(judge, cifar.synthesis, cifar.synthesis_softmax)
    yield _rubbish(cifar.synthesis, cifar.synthesis_softmax)
    yield _semantic(cifar.synthesis, cifar.synthesis_natural)
    for dimensions in FLAT:
        yield from _densities(dimensions, found.density(dimensions))


def _shifted(shown: str, source: str, judge: str, ours: Synthesis | None, theirs: Synthesis | None) -> Claim:
    statement = Statement(
        name=f"{shown.split('-')[0].lower()}-perturbations-are-semantic-{judge}",
        text=f"{shown}: images perturbed to raise a detector's logit show features of its class, those that raise a "
        f"softmax classifier's logit do not, says {JUDGES[judge]}",
        source=f"Sec. {'5.1' if shown == MNIST else '5.2'}, {source}",
        quantity="share of perturbed images taken for their target, detectors − softmax",
    )
    if ours is None or theirs is None or not (ours.has("shifted") and theirs.has("shifted")):
        return statement.missing("targeted perturbations against the detectors and against a softmax classifier")
    return _perturbed(statement, judge, ours, theirs, 0)


def _perturbed(statement: Statement, judge: str, ours: Synthesis, theirs: Synthesis, setting: int) -> Claim:
    """The share of targets that an image is taken for, paired by image; `setting` indexes ours."""
    words = ours.shifts[setting]
    if words not in theirs.shifts:
        return statement.missing(f"the softmax classifier under the detectors' attack ({words})")
    same_images(ours, theirs)
    first = _shares(ours, theirs, f"shifted_{judge}", setting)
    second = _shares(theirs, ours, f"shifted_{judge}", theirs.shifts.index(words))
    if not len(first):
        return statement.missing(SHARED)
    note = f"{first.mean():.1%} against {second.mean():.1%} of {len(first)} images and the targets that are not their "
    return statement.decided(share_difference(first, second), f"{note}class; an image is one observation. {words}")


def _shares(study: Synthesis, other: Synthesis, judged: str, setting: int) -> np.ndarray:
    """For every image (M,) the share of targets, of those that both have and it is not of, that it is taken for."""
    both = np.isin(study["model_labels"], other["model_labels"])
    foreign = study.of_other_classes()[both]
    alike = study.alike(judged)[setting][both] & foreign
    counted = foreign.sum(0) > 0
    return np.asarray(alike.sum(0)[counted] / foreign.sum(0)[counted])


def _from_noise(shown: str, judge: str, ours: Synthesis | None, theirs: Synthesis | None) -> Claim:
    statement = Statement(
        name=f"{shown.split('-')[0].lower()}-noise-becomes-recognisable-{judge}",
        text=f"{shown}'s recipe: white noise that is moved up a detector's logit comes to look like its class, moved "
        f"up a softmax classifier's it does not, says {JUDGES[judge]}",
        source="App. D, Fig. 19",
        quantity="share of the images taken for their class after the last step, detectors − softmax",
    )
    if ours is None or theirs is None or not (ours.has("noise") and theirs.has("noise")):
        return statement.missing("white noise moved up the logits of detectors and of a softmax classifier")
    rows, others = from_one_noise(ours, theirs)
    if not rows:
        return statement.missing(SHARED)
    a, b = (study.alike(f"noise_{judge}")[-1][at].mean(0) for study, at in ((ours, rows), (theirs, others)))
    note = f"{a.mean():.1%} against {b.mean():.1%} of {len(a)} noise images and all classes; a noise image is one "
    return statement.decided(share_difference(a, b), f"{note}observation. {ours.climber}")


def _noise_fools(shown: str, ours: Synthesis | None, theirs: Synthesis | None) -> Claim:
    statement = Statement(
        name=f"{shown.split('-')[0].lower()}-noise-fools-softmax-only",
        text=f"{shown}'s recipe: unrecognisable images made of noise cause high logits of the softmax classifier, not "
        "of the detectors",
        source="Sec. 5.2, App. D, Fig. 19",
        quantity="share of the images that at some step kept are not taken for their class and yet have a larger logit "
        "than the median of its natural images, softmax − detectors",
    )
    studies = [study for study in (ours, theirs) if study is not None]
    if ours is None or theirs is None or not all(s.has("noise") and s.has("natural") for s in studies):
        return statement.missing("white noise moved up the logits of detectors and of a softmax classifier")
    rows, others = from_one_noise(ours, theirs)
    if not rows:
        return statement.missing(SHARED)
    a, b = (fooling(study, "noise", at).mean(0) for study, at in ((ours, rows), (theirs, others)))
    note = f"{b.mean():.1%} against {a.mean():.1%} of {len(a)} noise images and all classes; a noise image is one "
    return statement.decided(share_difference(b, a), f"{note}observation. {ours.climber}")


def _generated(judge: str, ours: Synthesis | None, theirs: Synthesis | None) -> Claim:
    statement = Statement(
        name=f"cifar-generated-images-are-recognisable-{judge}",
        text="CIFAR-10: images generated from noise by raising a detector's logit look like its class, those by "
        f"raising a softmax classifier's do not, says {JUDGES[judge]}",
        source="Sec. 5.2, Fig. 7",
        quantity="share of generated images taken for their class, detectors − softmax",
    )
    if ours is None or theirs is None or not (ours.has("generated") and theirs.has("generated")):
        return statement.missing("images generated by the detectors and by a softmax classifier")
    rows, others = from_one_start(ours, theirs)
    if not rows:
        return statement.missing(SHARED)
    a, b = (study.alike(f"generated_{judge}")[at].ravel() for study, at in ((ours, rows), (theirs, others)))
    start = ours.alike("start_judged")[rows].mean()
    note = f"{_generated_words(ours, a, b)}. An independent classifier takes {start:.1%} of the samples themselves for "
    estimate = proportion_difference(a, b)
    if start > RECOGNISED:
        return statement.shown(estimate, f"{note}their class: the samples already are, so this measures nothing")
    return statement.decided(estimate, f"{note}their class")


def _generated_words(study: Synthesis, ours: np.ndarray, theirs: np.ndarray) -> str:
    shares = f"{ours.mean():.1%} against {theirs.mean():.1%} of {ours.size} images"
    return f"{shares}, from the same samples of {study.generator.removeprefix('from ')}"


def _rubbish(ours: Synthesis | None, theirs: Synthesis | None) -> Claim:
    statement = Statement(
        name="cifar-rubbish-fools-softmax-only",
        text="CIFAR-10: unrecognisable images cause high logits of the softmax classifier, not of the detectors",
        source="Sec. 5.2, Figs. 7 and 11",
        quantity="share of generated images that are not taken for their class and yet have a larger logit than the "
        "median of its natural images, softmax − detectors",
    )
    studies = [study for study in (ours, theirs) if study is not None]
    if ours is None or theirs is None or not all(s.has("generated") and s.has("natural") for s in studies):
        return statement.missing("generated and natural images of the detectors and of a softmax classifier")
    rows, others = from_one_start(ours, theirs)
    if not rows:
        return statement.missing(SHARED)
    a, b = (fooling(study, "generated", at).ravel() for study, at in ((ours, rows), (theirs, others)))
    return statement.decided(proportion_difference(b, a), _generated_words(ours, b, a))


def _semantic(ours: Synthesis | None, natural: Synthesis | None) -> Claim:
    statement = Statement(
        name="cifar-semantics-come-from-training",
        text="CIFAR-10: at the same L2 perturbation, images perturbed against detectors of a large radius are "
        "recognisable as the target, those against the naturally trained classifier are not",
        source="App. C.2.3, Fig. 13",
        quantity="share of perturbed images taken for their target, detectors − naturally trained classifier",
    )
    settings = [] if ours is None else [k for k, norm in enumerate(ours["shift_norm"].tolist()) if norm == "l2"]
    if ours is None or natural is None or not settings or not natural.has("shifted"):
        return statement.missing("L2 perturbations against detectors and against the naturally trained classifier")
    return _perturbed(statement, "judged", ours, natural, settings[0])


def _densities(dimensions: int, studies: Sequence[Density]) -> Iterator[Claim]:
    closer, match = (
        Statement(
            name=f"density-{dimensions}d-{name}",
            text=f"{dimensions}-dimensional synthetic data: {text}",
            source=f"App. F, {FLAT[dimensions]}",
            quantity=quantity,
            condition=condition,
        )
        for name, text, quantity, condition in (
            (
                "closer-than-ordinary-training",
                "GAT's logits come closer to the density than those of ordinary discriminative training",
                "total variation to the target, GAT − ordinary training, mean over problems, then over seeds",
                Condition("<", 0),
            ),
            (
                "recovered",
                "GAT's logits recover the target density",
                "total variation of GAT's density to the target, mean over problems, then over seeds",
                MATCH,
            ),
        )
    )
    gat, ordinary = (per_seed(studies, kind) for kind in (GAT, NATURAL))
    if len(gat) < 2:
        yield from (statement.missing("densities of two seeds, each of every problem") for statement in (closer, match))
        return
    singly = ", ".join(
        f"{problem} {study.distance(GAT, problem).mean():.3f} (ordinary {study.distance(NATURAL, problem).mean():.3f}, "
        f"a uniform density {uniform:.3f})"
        for study in studies
        for problem, uniform in zip(study.problems, study["uniform_distance"], strict=True)
    )
    settings = "; ".join(dict.fromkeys(study.settings for study in studies))
    note = f"An observation is a seed. {singly}. {settings}"
    yield closer.decided(mean_difference(gat, ordinary), note)
    yield match.decided(mean(gat), f"{READING} {note}")


def per_seed(studies: Sequence[Density], kind: str) -> np.ndarray:
    """Total variation to the target, mean over the problems of all studies, of each seed (S,) that they have."""
    seeds = [study["seeds"].tolist() for study in studies]
    shared = [seed for seed in seeds[0] if all(seed in others for others in seeds)] if seeds else []
    columns = [[each.index(seed) for seed in shared] for each in seeds]
    found = [study.distance(kind)[:, column] for study, column in zip(studies, columns, strict=True)]
    return np.concatenate(found).mean(0) if found else np.zeros(0)
