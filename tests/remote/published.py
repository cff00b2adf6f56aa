"""A DVC repository with a few untrained networks, recorded as if the pipeline had made them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from robustgen import models
from robustgen.io import save_arrays, save_csv
from robustgen.models import aae, detectors, madry_cnn, nijkamp
from robustgen.training.snapshots import save_snapshots

ROOT = Path(__file__).parents[2]
AAE = aae.Config(
    size=8,
    classes=4,
    latent=2,
    encoder_channels=(4, 4),
    encoder_kernels=(4, 2),
    encoder_strides=(2, 2),
    encoder_paddings=(1, 0),
    decoder_channels=(4, 4, 1),
    decoder_kernels=(4, 4, 1),
    decoder_strides=(1, 2, 1),
    decoder_paddings=(0, 1, 0),
    neurons=(4,),
)
CNN = madry_cnn.Config(size=8, channels=1, classes=4, widths=(2, 2), hidden=4)
MEMBER = madry_cnn.Config(size=8, channels=1, classes=1, widths=(2, 2), hidden=4)
GAT = detectors.Config(member=MEMBER, classes=4, labels=(0, 1, 2, 3))
EBM = nijkamp.Config(size=16, channels=1, width=2)
TRAINED = {"beta": 0.25, "cost": "mean"}  # neither is what inference takes unless it is told

RUNS: dict[str, dict[str, Any]] = {
    "fetch": {"quick/digits8": {"name": "digits"}, "desktop/svhn": {"name": "svhn"}},
    "train-classifier": {
        "quick/digits8-natural": {"data": "data/images/quick/digits8.npz", "model": {"arch": "madry_cnn"}},
        "desktop/digits8-natural": {
            "data": "data/images/desktop/svhn.npz",
            "model": {"arch": "madry_cnn"},
            "recipe": {"select": "robust"},
        },
    },
    "train-autoencoder": {
        "quick/e-abs/e-abs": {"data": "data/images/quick/digits8.npz", "model": {"arch": "aae"}},
        "quick/e-abs/d": {
            "data": "data/images/quick/digits8.npz",
            "model": {"arch": "aae"},
            "recipe": {"select": "accuracy"},
        },
    },
    "train-gat": {
        "quick/gat/tuned": {
            "init": "models/desktop/digits8-natural.safetensors",
            "data": "data/images/quick/digits8.npz",
            "model": {"arch": "madry_cnn"},
        }
    },
    "train-ebm": {"quick/digits8-ebm": {"data": "data/images/quick/digits8.npz", "model": {"arch": "nijkamp"}}},
}
MADE = "--out models/${key}.safetensors"
STAGES: dict[str, dict[str, Any]] = {
    "fetch": {"cmd": "robustgen fetch --out data/images/${key}.npz ${item}", "outs": ["data/images/${key}.npz"]},
    **{
        family: {
            "cmd": f"robustgen {family} {MADE} --curve results/curves/${{key}}.csv ${{item}}",
            "deps": ["${item.data}", *(["${item.init}"] if family == "train-gat" else [])],
            "outs": ["models/${key}.safetensors"],
            "plots": [{"results/curves/${key}.csv": {"cache": False}}],
        }
        for family in ("train-classifier", "train-autoencoder", "train-gat")
    },
    "train-ebm": {
        "cmd": f"robustgen train-ebm {MADE} --snapshots models/${{key}}-snapshots.safetensors ${{item}}",
        "deps": ["${item.data}"],
        "outs": ["models/${key}.safetensors", "models/${key}-snapshots.safetensors"],
    },
}


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository with recorded models, committed and pushed to the folder `remote`."""

    root: Path
    remote: Path

    def run(self, *command: str) -> str:
        return subprocess.run(command, check=True, cwd=self.root, capture_output=True, text=True).stdout

    def file(self, name: str) -> Path:
        return self.root / "models" / f"{name}.safetensors"

    def objects(self, name: str) -> tuple[Path, Path]:
        """Where the cache and the remote keep a model."""
        lock = yaml.safe_load((self.root / "dvc.lock").read_text())["stages"].values()
        outs = {out["path"]: out["md5"] for entry in lock for out in entry["outs"]}
        md5 = outs[f"models/{name}.safetensors"]
        below = Path("files/md5", md5[:2], md5[2:])
        return self.root / ".dvc/cache" / below, self.remote / below

    def forget(self, *places: str) -> None:
        """Empty the models' folder, the cache, or both."""
        folders = {"workspace": self.root / "models", "cache": self.root / ".dvc/cache"}
        for place in places:
            shutil.rmtree(folders[place])


def make(root: Path, remote: Path) -> Repository:
    """Write everything that RUNS names and have DVC record it, without running a command."""
    repository = Repository(root=root, remote=remote)
    root.mkdir(parents=True)
    repository.run("git", "init", "--quiet", "--initial-branch=main")
    repository.run("dvc", "init", "--quiet")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    repository.run("dvc", "remote", "modify", "storage", "url", os.path.relpath(remote, root))
    stages = {family: {"foreach": f"${{{family}}}", "do": stage} for family, stage in STAGES.items()}
    (root / "params.yaml").write_text(yaml.safe_dump(RUNS))
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    fill(root)
    repository.run("dvc", "commit", "--force", "--quiet")
    repository.run("git", "add", "--all")
    repository.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "state")
    repository.run("dvc", "push", "--quiet")
    return repository


def fill(root: Path) -> None:
    """Write the data files, networks and curves."""
    for name in RUNS["fetch"]:
        save_arrays(root / f"data/images/{name}.npz", {"classes": np.array([name])})
    networks = {"train-classifier": CNN, "train-autoencoder": AAE, "train-gat": GAT, "train-ebm": EBM}
    torch.manual_seed(0)
    for family, config in networks.items():
        for name in RUNS[family]:
            facts = {"training": TRAINED} if family == "train-autoencoder" else {}
            models.save(root / f"models/{name}.safetensors", models.build(config), **facts)
            curve(root / f"results/curves/{name}.csv", family)
    save_snapshots(root / "models/quick/digits8-ebm-snapshots.safetensors", EBM, [])


def curve(path: Path, family: str) -> None:
    """A training curve as its family writes it, of three rows; the accuracy on natural images is best in the second."""
    columns = {
        "train-classifier": {"clean_accuracy": (0.25, 0.875, 0.75), "robust_accuracy": (0.5, 0.25, 0.5)},
        "train-autoencoder": {"accuracy": (0.25, 0.875, 0.75)},
    }.get(family, {"natural_auc": (0.25, 0.875, 0.75)})
    save_csv(path, ("epoch", "loss", *columns), zip((1, 2, 3), (2.0, 1.0, 0.5), *columns.values(), strict=True))
