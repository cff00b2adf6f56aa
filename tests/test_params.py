"""Every run of every params file is a command line that its stage understands."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
import yaml
from dvc.parsing.interpolate import to_str

from robustgen import models
from robustgen.attacks.ball import ball_of
from robustgen.cli import negated
from robustgen.models import aae, detectors, encoder_cnn
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.stages.train_classifier import Options as TrainOptions
from robustgen.training import aae as training
from robustgen.training import classifier, dsm, ebm, gat
from robustgen.training.classifier import Adversary

ROOT = Path(__file__).parents[1]
FILES = {"quick": [ROOT / "params.yaml"]} | {
    folder.name: sorted(folder.glob("*.yaml")) for folder in sorted((ROOT / "params").iterdir()) if folder.is_dir()
}
FAMILIES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
EVERY_RUN = [
    (scale, family, run, item)
    for scale, files in FILES.items()
    for file in files
    for family, runs in yaml.safe_load(file.read_text()).items()
    for run, item in (runs or {}).items()
]
SHARD = re.compile(r"(.+)\.(\d{3})")
RUNS = [  # of the shards of an evaluation the first
    pytest.param(*values, id=f"{values[1]}@{values[2]}")
    for values in EVERY_RUN
    if not (shard := SHARD.fullmatch(values[2])) or shard[2] == "000"
]
CLASSIFIERS = ("train-classifier", "train-classifier-tuned")
PAPER_TRAININGS = [param for param in RUNS if param.values[0] == "paper" and param.values[1] in CLASSIFIERS]


def command_of(family: str) -> str:
    """The command of a family; `defend-none` is `defend` without its generative model, which would be a dependency, and
    `train-classifier-tuned` is `train-classifier` with one.
    """
    return family.removesuffix("-none").removesuffix("-tuned")


def words(family: str, run: str, item: dict[str, Any]) -> list[str]:
    """The words that the shell passes to `robustgen FAMILY`, with DVC's own rendering of the item."""
    options = to_str(item, {"bool": "boolean_optional", "list": "nargs"})
    command = FAMILIES[family]["do"]["cmd"].replace("${key}", run).replace("${item}", options)
    head, *rest = shlex.split(command.removeprefix("exec "))
    assert [head, rest[0]] == ["robustgen", command_of(family)]
    return rest[1:]


def parse(family: str, args: list[str]) -> Any:
    module = import_module(f"robustgen.stages.{command_of(family).replace('-', '_')}")
    kind = module.options_type(args) if hasattr(module, "options_type") else module.Options
    return tyro.cli(kind, args=[negated(word) for word in args])


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


@pytest.mark.parametrize(("scale", "family", "run", "item"), RUNS)
def test_references_lead_to_runs_of_the_same_scale(scale: str, family: str, run: str, item: dict[str, Any]) -> None:
    made = {
        output.replace("${key}", str(param.values[2]))
        for param in RUNS
        for output in FAMILIES[str(param.values[1])]["do"].get("outs", [])
        if param.values[0] == scale
    }
    texts = [value for value in flat(item).values() if isinstance(value, str)]
    wanted = {text for text in texts if text.startswith(("data/", "models/"))}
    folders = {str(parent) for output in made for parent in Path(output).parents}  # detectors, one class a file
    assert wanted <= made | folders


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


MODELS_OF_E_ABS = {"cnn", "adv_linf", "adv_l2", "abs", "e_abs"}


@pytest.mark.parametrize("scale", [scale for scale, family, _, _ in EVERY_RUN if family == "e-abs"])
def test_the_studies_of_e_abs_are_runs(scale: str) -> None:
    (item,) = (item for found, family, _, item in EVERY_RUN if (found, family) == (scale, "e-abs"))
    runs = {SHARD.sub(r"\1", run) for _, family, run, _ in EVERY_RUN if family == "attack-synthesis"}
    values = [value for section in item.values() for key, value in section.items() if key not in ("dataset", "labels")]
    wanted = {name for value in values for name in ([value] if isinstance(value, str) else value)}
    assert {f"{scale}/e-abs/{name}" for name in wanted} == {run for run in runs if run.startswith(f"{scale}/")}
    choices = item.get("sensitivity", {"studies": [], "labels": []})
    assert len(choices["studies"]) == len(choices["labels"])


@pytest.mark.parametrize("scale", [scale for scale, family, _, _ in EVERY_RUN if family == "e-abs"])
def test_the_models_of_a_comparison_are_attacked_alike(scale: str) -> None:
    """The attacks of a classifier are among those of the autoencoders, and all see the same number of images."""
    items = {run: item for found, family, run, item in EVERY_RUN if (found, family) == (scale, "attack-synthesis")}
    (sections,) = (item for found, family, _, item in EVERY_RUN if (found, family) == (scale, "e-abs"))
    for section in (each for each in sections.values() if set(each) >= MODELS_OF_E_ABS):
        attacks, images = {}, set()
        for key in MODELS_OF_E_ABS:
            name = f"{scale}/e-abs/{section[key]}"
            shards = [item for run, item in items.items() if re.fullmatch(rf"{name}(\.\d{{3}})?", run)]
            images.add(sum(item["images"] for item in shards))
            lists = {key: shards[0][key] for key in ("attack", "norm", "eps", "steps", "restarts")}
            count = max(map(len, lists.values()))
            attacks[key] = set(zip(*(each * count if len(each) == 1 else each for each in lists.values()), strict=True))
        assert attacks["cnn"] == attacks["adv_linf"] == attacks["adv_l2"]
        assert attacks["cnn"] <= attacks["abs"] == attacks["e_abs"]
        assert len(images) == 1


def test_the_training_curves_that_e_abs_reads_are_runs() -> None:
    runs = {run for _, family, run, _ in EVERY_RUN if family == "train-autoencoder"}
    attacked = [(scale, item) for scale, family, _, item in EVERY_RUN if family == "attack-synthesis"]
    for scale, item in attacked:
        if item["arch"] == "aae":
            study = AttackStudy("study", {"config": np.array(json.dumps(item))})
            assert f"{scale}/e-abs/{study.model}" in runs


PAPER_AUTOENCODERS = [param for param in RUNS if param.values[:2] == ("paper", "train-autoencoder")]


@pytest.mark.parametrize(("scale", "family", "run", "item"), PAPER_AUTOENCODERS)
def test_one_epoch_of_every_autoencoder_of_the_paper(scale: str, family: str, run: str, item: dict[str, Any]) -> None:
    """On twenty random images, two of each class: Table 9's maps, Sec. 4.3's recipe."""
    options = parse(family, words(family, run, item))
    config, recipe = options.model, options.recipe
    simple = "mnist" in run
    assert encoder_cnn.encoder_sizes(config) == ([28, 14, 7, 4, 3] if simple else [32, 16, 8, 4, 1])
    assert aae.decoder_sizes(config) == ([1, 4, 11, 25, 28, 28] if simple else [1, 4, 8, 16, 32, 32])
    assert (recipe.epochs, recipe.noise) == (800 if "svhn" in run else 500, 0.2 if simple else 0.01)
    assert (recipe.batch, recipe.lr, recipe.halve_every, recipe.beta, recipe.gamma) == (512, 1e-3, 200, 1, 10)
    torch.manual_seed(0)
    model = aae.AAE(config)
    x = torch.rand(20, config.channels, config.size, config.size, generator=torch.Generator().manual_seed(0))
    images = classifier.Images(x, torch.arange(20) % config.classes)
    trained, curve = training.train_autoencoder(
        model, images, images, replace(recipe, epochs=1, batch=20, check_every=1)
    )
    assert (curve[0].cross_entropy > 0) == config.shared
    assert (curve[0].discriminator > 0) == config.adversarial
    assert all(not torch.equal(p, old) for p, old in zip(trained.parameters(), model.parameters(), strict=True))


def test_the_cnn_of_e_abs_has_the_encoder_of_its_autoencoder() -> None:
    networks = {
        (family, run): item["model"] for scale, family, run, item in EVERY_RUN if "/e-abs/" in run and "model" in item
    }
    found = 0
    for (family, run), network in networks.items():
        if family in CLASSIFIERS:
            autoencoder = networks["train-autoencoder", f"{run.rpartition('/')[0]}/e-abs"]
            shared = set(network) - {"arch"}
            assert {f"encoder_{name}" for name in ("channels", "kernels", "strides", "paddings")} <= shared
            assert {key: network[key] for key in shared} == {key: autoencoder[key] for key in shared}
            found += 1
    assert found >= 3 * (4 + 2)  # data sets of the scales paper and desktop


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


@cache
def bank_of(member: Any) -> detectors.Detectors:
    """The first of two classes' detectors; training leaves it as it is."""
    torch.manual_seed(0)
    return detectors.Detectors(detectors.Config(labels=(0,), classes=2, member=member))


@pytest.mark.parametrize(("scale", "family", "run", "item"), PAPER_DETECTORS)
def test_one_update_of_the_detectors_of_the_paper(scale: str, family: str, run: str, item: dict[str, Any]) -> None:
    """The first class alone, one image of it and one other, the adversary's steps cut to one, the monitor's to none."""
    options = parse(family, words(family, run, item))
    member, recipe = options.model, options.recipe
    bank = bank_of(member)
    count = {"madry_cnn": 3_274_634 - 9 * 1025, "madry_resnet": 45_901_914 - 9 * 641, "resnet50": 23_510_081}
    assert sum(p.numel() for p in bank.parameters()) == count[member.arch]
    before = [p.detach().clone() for p in bank.parameters()]
    x = torch.rand(2, member.channels, member.size, member.size, generator=torch.Generator().manual_seed(0))
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
    """Natural and adversarial, on four random images, the adversary's steps cut to two."""
    options = train_options(item)
    shape = options.model
    torch.manual_seed(0)
    model = models.build(shape).to(memory_format=torch.channels_last)
    optimizer = classifier.make_optimizer(model, options.recipe)
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(4, shape.channels, shape.size, shape.size, generator=draws)
    y = torch.arange(4) % shape.classes
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
