"""The params files of E-ABS: whole, fair to the models that they compare, and of the paper's networks and recipes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from robustgen.models import aae, encoder_cnn
from robustgen.papers.e_abs.study import AttackStudy
from robustgen.training import aae as training
from robustgen.training import classifier

from .runs import CLASSIFIERS, CONTENTS, EVERY_RUN, ROOT, RUNS, SHARD, parse, words

E_ABS = [
    pytest.param(scale, sections, content, id=str(file.relative_to(ROOT)))
    for file, content in CONTENTS.items()
    for scale, sections in content.get("e-abs", {}).items()
]
MODELS_OF_E_ABS = {"cnn", "adv_linf", "adv_l2", "abs", "e_abs"}


NO_STUDIES = ("dataset", "natural", "labels")  # what in a section names none, or a folder of them


@pytest.mark.parametrize(("scale", "sections", "content"), E_ABS)
def test_the_studies_are_the_runs_of_the_file(scale: str, sections: dict[str, Any], content: dict[str, Any]) -> None:
    runs = {SHARD.sub(r"\1", run) for run in content["attack-synthesis"]}
    values = [value for section in sections.values() for key, value in section.items() if key not in NO_STUDIES]
    wanted = {name for value in values for name in ([value] if isinstance(value, str) else value)}
    wanted |= {
        f"{section['natural']}/{name.rpartition('/')[2]}"
        for section in sections.values()
        if "natural" in section
        for key, name in section.items()
        if key not in NO_STUDIES
    }
    assert {f"{scale}/e-abs/{name}" for name in wanted} == runs
    choices = sections.get("sensitivity", {"studies": [], "labels": []})
    assert len(choices["studies"]) == len(choices["labels"])


@pytest.mark.parametrize(("scale", "sections", "content"), E_ABS)
def test_the_models_of_a_comparison_are_attacked_alike(
    scale: str, sections: dict[str, Any], content: dict[str, Any]
) -> None:
    """The attacks of a classifier are among those of the autoencoders, and all see the same number of images."""
    items = content["attack-synthesis"]
    compared = [section for section in sections.values() if set(section) >= MODELS_OF_E_ABS]
    assert compared
    for section in compared:
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


@pytest.mark.parametrize(("scale", "sections", "content"), E_ABS)
def test_the_training_curves_that_are_read_are_runs_of_the_file(
    scale: str, sections: dict[str, Any], content: dict[str, Any]
) -> None:
    attacked = [item for item in content["attack-synthesis"].values() if item["arch"] == "aae"]
    assert attacked
    for item in attacked:
        study = AttackStudy("study", {"config": np.array(json.dumps(item))})
        assert f"{scale}/e-abs/{study.model}" in content["train-autoencoder"]


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
