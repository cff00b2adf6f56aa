"""Every run of every params file is a command line that its stage understands."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from dvc.fs import LocalFileSystem
from dvc.parsing.context import Context

from robustgen import models
from robustgen.attacks.ball import ball_of
from robustgen.models import detectors
from robustgen.stages.train_classifier import Options as TrainOptions
from robustgen.training import classifier, dsm, ebm, gat
from robustgen.training.classifier import Adversary

from .runs import CLASSIFIERS, CONTENTS, EVERY_RUN, FAMILIES, FILES, ROOT, RUNS, SHARD, parse, words

PAPER_TRAININGS = [param for param in RUNS if param.values[0] == "paper" and param.values[1] in CLASSIFIERS]


def flat(item: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"recipe.monitor.steps": 5, ...}"""
    found: dict[str, Any] = {}
    for key, value in item.items():
        name = f"{prefix}{key}".replace("-", "_")
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def number_like(expected: Any, found: Any) -> Any:
    """A fraction as the number it stands for, where a number was found."""
    if isinstance(expected, str) and isinstance(found, float):
        above, _, below = expected.partition("/")
        return float(above) / float(below or 1)
    return expected


def test_settings_of_dvc_are_those_used_here() -> None:
    config = (ROOT / ".dvc/config").read_text()
    assert re.search(r"\[parsing\]\s+bool = boolean_optional\s+list = nargs", config)


@pytest.mark.parametrize(("scale", "family", "run", "item"), RUNS)
def test_run_parses_and_every_value_arrives(scale: str, family: str, run: str, item: dict[str, Any]) -> None:
    assert run.split("/")[0] == scale
    options = parse(family, words(family, run, item))
    for name, expected in flat(item).items():
        found: Any = options
        for part in name.split("."):
            found = getattr(found, part)
        if isinstance(expected, list):
            expected = tuple(number_like(*pair) for pair in zip(expected, found, strict=True))
        else:
            expected = number_like(expected, found)
        assert (str(found) if isinstance(found, Path) else found) == expected, name


def test_shards_differ_in_their_offset_only() -> None:
    runs = {(family, run): item for _, family, run, item in EVERY_RUN}
    shards = [(family, shard, item) for (family, run), item in runs.items() if (shard := SHARD.fullmatch(run))]
    assert shards
    for family, shard, item in shards:
        first = runs[family, f"{shard[1]}.000"]
        assert {**item, "offset": 0} == {**first, "offset": 0}, shard[0]
        assert item.get("offset", 0) == int(shard[2]) * item["images"], shard[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_key_is_named(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, run, item = next(param.values for param in RUNS if param.values[1] == family)
    with pytest.raises(SystemExit) as caught:
        parse(family, words(family, str(run), {**item, "no_such_key": 1}))  # type: ignore[dict-item]
    assert caught.value.code == 2
    assert "no_such_key" in capsys.readouterr().err.replace("-", "_")


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("fetch", "size", "large"),
        ("train-classifier", "recipe", {"epochs": "many"}),
        ("train-classifier", "recipe", {"epochs": 1, "milestones": ["late"]}),
        ("train-classifier", "model", {"width": 0.5}),
        ("attack", "test", None),
        ("attack", "attack", {"name": "pgd", "eps": "8/2/55"}),
        ("interpret", "per_class", 1.5),
    ],
)
def test_ill_typed_key_is_named(family: str, key: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, run, item = next(param.values for param in RUNS if param.values[1] == family)
    with pytest.raises(SystemExit) as caught:
        parse(family, words(family, str(run), {**item, key: value}))  # type: ignore[dict-item]
    assert caught.value.code == 2
    named = key.replace("_", "-") if not isinstance(value, dict) else f"{key}.{list(value)[-1]}"
    assert f"--{named}" in capsys.readouterr().err


@pytest.mark.parametrize("file", CONTENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_references_lead_to_runs_of_the_same_file(file: Path) -> None:
    """So that every file can be on without the others."""
    runs = [(family, run, item) for family, found in CONTENTS[file].items() for run, item in (found or {}).items()]
    made = {out.replace("${key}", run) for family, run, _ in runs for out in FAMILIES[family]["do"].get("outs", [])}
    folders = {str(parent) for output in made for parent in Path(output).parents}  # detectors, one class a file
    texts = [value for _, _, item in runs for value in flat(item).values() if isinstance(value, str)]
    assert set() < {text for text in texts if text.startswith(("data/", "models/"))} <= made | folders


@pytest.mark.parametrize("scale", [scale for scale in FILES if scale != "quick"])
def test_all_files_of_a_scale_can_be_on_together(scale: str) -> None:
    """DVC merges dicts key by key and refuses anything else that two files define."""
    context = Context()
    context.load_from_vars(LocalFileSystem(), list(map(str, FILES[scale])), str(ROOT), default="params.yaml")
    merged = context.value
    for found, family, run, item in EVERY_RUN:
        if found in ("quick", scale):
            assert item.items() <= merged[family][run].items(), f"{family}@{run}"


STUDIES = {"detection": "defend-detectors", "distortion": "distort", "synthesis": "synthesize", "curve": "train-gat"}


@pytest.mark.parametrize("scale", FILES)
def test_the_studies_of_gat_are_runs(scale: str) -> None:
    (item,) = (item for found, family, _, item in EVERY_RUN if (found, family) == (scale, "gat"))
    runs = {(family, run.removesuffix(".000")) for _, family, run, _ in EVERY_RUN}
    wanted = {("density", name) for name in item["densities"]}
    for section in ("mnist", "cifar", "imagenet"):
        for key, value in item.get(section, {}).items():
            family = next((STUDIES[word] for word in key.split("_") if word in STUDIES), "attack-detectors")
            wanted |= {(family, name) for name in ([value] if isinstance(value, str) else value) if key != "dataset"}
    cifar = item["cifar"]
    wanted |= {("train-gat", cifar.get(f"{name}_curve", cifar[name])) for name in ("small", "large")}
    assert len(wanted) > 20
    assert {(family, f"{scale}/gat/{name}") for family, name in wanted} <= runs


def test_paper_trains_the_papers_networks() -> None:
    counts = {
        str(run): sum(p.numel() for p in models.build(train_options(item).model).parameters())
        for _, _, run, item in (param.values for param in PAPER_TRAININGS)
    }
    assert counts["paper/cifar10-natural"] == 4_903_242
    assert counts["paper/imagenette-natural"] == 4_918_602
    assert counts["paper/cifar10-wrn"] == 36_489_290
    assert counts["paper/cifar100-wrn"] == 36_489_290 + 90 * 641  # ninety more classes
    assert counts["paper/gat-cnn"] == counts["paper/gat-cnn-linf"] == 3_274_634
    assert counts["paper/gat-wrn"] == counts["paper/gat-wrn-linf"] == 45_901_914
    assert counts["paper/gat-resnet50"] == 23_508_032 + 9 * 2049


PAPER_EBMS = [param for param in RUNS if param.values[:2] == ("paper", "train-ebm")]


@pytest.mark.parametrize(("scale", "family", "run", "item"), PAPER_EBMS)
def test_one_update_of_every_energy_model_of_the_paper(scale: str, family: str, run: str, item: dict[str, Any]) -> None:
    """On four random images, the Langevin steps cut to two; with the first optimizer and with the second."""
    options = parse(family, words(family, run, item))
    config, recipe = options.model, options.recipe
    assert sum(p.numel() for p in models.build(config).parameters()) == 693_569
    assert recipe.schedule == ((250_000, 125_000) if run.endswith("released") else (150_000, 50_000))
    x = torch.rand(4, config.channels, config.size, config.size, generator=torch.Generator().manual_seed(0))
    for switch, phase in ((1, "adam"), (0, recipe.second)):
        short = replace(recipe, updates=1, switch=switch, batch=4, steps=2, log_every=1)
        trained = ebm.train_ebm(lambda: models.build(config), x, short)
        assert [row.phase for row in trained.curve] == [phase]
        assert all(torch.isfinite(p).all() for p in trained.model.parameters())


PAPER_NCSNS = [param for param in RUNS if param.values[:2] == ("paper", "train-ncsn")]


@pytest.mark.parametrize(("scale", "family", "run", "item"), PAPER_NCSNS)
def test_one_update_of_every_score_network_of_the_paper(
    scale: str, family: str, run: str, item: dict[str, Any]
) -> None:
    """On one random image, with the perturbation that the run names."""
    options = parse(family, words(family, run, item))
    config, recipe = options.model, options.recipe
    assert (recipe.updates, recipe.batch, recipe.ema) == (300_000, 128, 0.999)
    x = torch.rand(1, config.channels, config.size, config.size, generator=torch.Generator().manual_seed(0))
    short = replace(recipe, updates=1, batch=1, log_every=1)
    model, curve = dsm.train_dsm(lambda: models.build(config), x, x, short)
    assert sum(p.numel() for p in model.parameters()) == 29_694_083
    assert 0 < curve[0].loss < 3 * x[0].numel()
    assert all(torch.isfinite(p).all() for p in model.parameters())


PAPER_DETECTORS = [  # of detectors that are trained one class a run, the first class
    param
    for param in RUNS
    if param.values[0] == "paper"
    and str(param.values[1]).startswith("train-gat")
    and not re.search(r"/[1-9]$", str(param.values[2]))
]


AVERAGING = ("madry_resnet", "resnet50")
WHOLE = {next(str(param.values[2]) for param in PAPER_DETECTORS if param.values[3]["model"]["arch"] == arch)
         for arch in AVERAGING}  # fmt: skip


@cache
def bank_of(member: Any) -> detectors.Detectors:
    """The first of two classes' detectors; training leaves it as it is."""
    torch.manual_seed(0)
    return detectors.Detectors(detectors.Config(labels=(0,), classes=2, member=member))


@pytest.mark.parametrize(("scale", "family", "run", "item"), PAPER_DETECTORS)
def test_one_update_of_the_detectors_of_the_paper(scale: str, family: str, run: str, item: dict[str, Any]) -> None:
    """The first class alone, one image of it and one other, the adversary's steps cut to one, the monitor's to none.

    Networks that average their last map see images of the paper's size in one of the trainings alone.
    """
    options = parse(family, words(family, run, item))
    member, recipe = options.model, options.recipe
    bank = bank_of(member)
    count = {"madry_cnn": 3_274_634 - 9 * 1025, "madry_resnet": 45_901_914 - 9 * 641, "resnet50": 23_510_081}
    assert sum(p.numel() for p in bank.parameters()) == count[member.arch]
    before = [p.detach().clone() for p in bank.parameters()]
    size = member.size if run in WHOLE or member.arch not in AVERAGING else member.size // 4
    x = torch.rand(2, member.channels, size, size, generator=torch.Generator().manual_seed(0))
    images = classifier.Images(x, torch.arange(2))
    short = replace(
        recipe,
        updates=1,
        check_every=1,
        positives=1,
        negatives=1,
        adversary=replace(recipe.adversary, steps=1),
        monitor=replace(recipe.monitor, eps=0),
        select="last",
    )
    trained, curve = gat.train_detectors(bank, images, images, short)
    assert [row.update for row in curve] == [0, 1]
    assert 0 < curve[-1].loss < 100
    assert any(not torch.equal(p, old) for p, old in zip(trained.parameters(), before, strict=True))
    assert all(torch.isfinite(p).all() for p in trained.parameters())


def train_options(item: Any) -> TrainOptions[Any]:
    options: TrainOptions[Any] = parse("train-classifier", words("train-classifier", "paper/x", item))
    return options


@pytest.mark.parametrize(("scale", "family", "run", "item"), PAPER_TRAININGS)
def test_one_step_of_every_training_of_the_paper(scale: str, family: str, run: str, item: dict[str, Any]) -> None:
    """Natural and adversarial, on two random images, the adversary's steps cut to two."""
    options = train_options(item)
    shape = options.model
    torch.manual_seed(0)
    model = models.build(shape).to(memory_format=torch.channels_last)
    optimizer = classifier.make_optimizer(model, options.recipe)
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(2, shape.channels, shape.size, shape.size, generator=draws)
    y = torch.arange(2) % shape.classes
    x = classifier.augment(x, flip=options.recipe.flip, crop=options.recipe.crop, draws=draws)
    given = options.recipe.adversary if options.recipe.adversary.eps > 0 else Adversary(eps=8 / 255)
    for adversary in (None, replace(given, steps=2)):
        before = [p.detach().clone() for p in model.parameters()]
        images = x if adversary is None else classifier.adversarial_images(model, x, y, adversary, draws)
        assert float(ball_of(given.norm, given.eps).distance(images, x).max()) <= given.eps + 1e-5
        loss = classifier.train_step(model, optimizer, images, y, options.recipe.precision)
        assert torch.isfinite(loss)
        assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
        assert all(torch.isfinite(p).all() for p in model.parameters())
