"""A tiny project whose networks attack-synthesis attacks: a classifier, autoencoders, and spoilt ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustgen import models
from robustgen.data import load_split
from robustgen.defenses.e_abs import AnalysisBySynthesis
from robustgen.defenses.e_abs import Options as Inference
from robustgen.models import aae, encoder_cnn, madry_cnn
from robustgen.options import recorded
from robustgen.training.aae import Recipe, train_autoencoder
from robustgen.training.classifier import Images

ENCODER: dict[str, Any] = {
    "size": 8,
    "classes": 4,
    "encoder_channels": (6, 8),
    "encoder_kernels": (3, 4),
    "encoder_strides": (2, 1),
    "encoder_paddings": (1, 0),
}
DECODER: dict[str, Any] = {
    "latent": 3,
    "decoder_channels": (8, 6, 1),
    "decoder_kernels": (4, 4, 1),
    "decoder_strides": (1, 2, 1),
    "decoder_paddings": (0, 1, 0),
    "neurons": (12, 6),
}
CNN = "--model cnn.safetensors --data data.npz --images 7 --batch 3 --seed 2"
AAE = (
    "--model aae.safetensors --data data.npz --images 7 --batch 3 --seed 2 --inference.candidates 20 "
    "--inference.iterations 5 --follow 2 --draws 2"
)
PGD = "--attack pgd --norm linf --eps 0.1 --steps 3"
MIXED = (
    "--attack pgd pgd pgd deepfool deepfool ddn noise --norm linf linf l2 linf linf l2 l2 "
    "--eps 0.1 0.1 0.8 0.05 0.2 0.6 1.0 --steps 3 3 3 8 8 8 10 --restarts 1 3 2 1 1 1 1"
)
EVERY = (
    "--attack pgd estimated deepfool ddn cw noise boundary --norm linf l2 linf l2 l2 l2 l2 "
    "--eps 0.1 1.5 0.12 0.8 1 3 1.2 --steps 3 2 8 8 6 10 40 --details.queries 4 --details.searches 3 "
    "--details.directions 2 --details.c 1 --details.lr 0.1 --details.sigma 2"
)
PER_IMAGE = {"natural_correct": 0, "control_correct": 0, "natural_logits": 0, "labels": 0, "indices": 0}
PER_POINT = {"robust": 1, "chosen": 1, "seen": 1, "distance": 1}
EXAMPLES = {f"example_{name}" for name in ("rows", "images", "reconstructions", "losses")}
Stage = Callable[[str], dict[str, np.ndarray]]
INFERENCE = Inference(candidates=20, iterations=5, seed=2)


def taught(data: Path) -> nn.Module:
    """A classifier that names most of the images rightly."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = models.build(encoder_cnn.Config(**ENCODER, dropout=0.0))
    train = load_split(data, "train")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(model(train.images), train.labels).backward()
        optimizer.step()
    return model.eval()


def autoencoders(data: Path, recipe: Recipe) -> nn.Module:
    """Networks whose inference names most of the images rightly."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = models.build(aae.Config(**ENCODER, **DECODER))
    train, validation = (load_split(data, split) for split in ("train", "validation"))
    assert isinstance(model, aae.AAE)
    sets = (Images(each.images, each.labels) for each in (train, validation))
    return train_autoencoder(model, *sets, recipe)[0]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder that holds data files, a classifier, autoencoders, and spoilt ones."""
    root = tmp_path_factory.mktemp("attack-synthesis")
    write_data(root / "data.npz")
    write_data(root / "wide.npz", size=16)
    cnn = taught(root / "data.npz")
    models.save(root / "cnn.safetensors", cnn, training={"epochs": 30})
    recipe = Recipe(epochs=15, batch=32, lr=0.01, noise=0.05)
    model = autoencoders(root / "data.npz", recipe)
    models.save(root / "aae.safetensors", model, training=recorded(recipe))
    models.save(root / "unrecorded.safetensors", model)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = madry_cnn.Config(size=8, channels=1, classes=4, widths=(2, 4), hidden=8)
        models.save(root / "madry.safetensors", models.build(config))
    cnn.fc.bias.data.fill_(np.nan)  # type: ignore[union-attr, operator]
    models.save(root / "spoilt-cnn.safetensors", cnn)
    model.decoder.fc.bias.data.fill_(np.nan)  # type: ignore[union-attr, operator]
    models.save(root / "spoilt-aae.safetensors", model, training=recorded(recipe))
    return root


def network(options: Inference | None = None) -> nn.Module:
    """The classifier, or with `options` the inference, that the stage attacks with --seed 2."""
    if options is None:
        return models.load("cnn.safetensors")
    return AnalysisBySynthesis(models.load("aae.safetensors"), options)
