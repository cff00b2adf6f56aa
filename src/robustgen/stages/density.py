"""Densities of 1-D and 2-D data, learned by generative adversarial and by ordinary training (GAT, App. F)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustgen.data import planar
from robustgen.errors import UserError
from robustgen.io import save_arrays
from robustgen.options import recorded
from robustgen.stages.compute import Compute, identity, prepare
from robustgen.training.checkpoint import Checkpoint
from robustgen.training.density import KINDS, Recipe, gibbs, total_variation, train_densities

if TYPE_CHECKING:
    Arrays = dict[str, np.ndarray]

SOURCES = (
    "training.density",
    "training.gat",
    "training.passes",
    "data.planar",
    "adam",
    "attacks.first_order",
    "attacks.ball",
    "seeding",
)  # what a checkpoint belongs to


@dataclass(frozen=True, kw_only=True)
class Options(Compute, Recipe):
    out: Path  # densities, targets and distances to write, npz
    problems: tuple[str, ...]  # problems of one dimension: mixture (1-D); ring, grid, spirals, checkerboard (2-D)
    seeds: tuple[int, ...] = (0,)  # replicates, each with data, initialisation and order of its own; trained together
    grid: int = 100  # points on each axis at which densities are compared

    def __post_init__(self) -> None:
        super().__post_init__()
        dimensions = {planar.problem(name).dimensions for name in self.problems}
        if len(dimensions) != 1:
            raise UserError(f"problems must be of one dimension, not {', '.join(self.problems)}; give each its own run")
        for name, values in (("problems", self.problems), ("seeds", self.seeds)):
            if not values or len(set(values)) < len(values):
                raise UserError(f"{name} must be different ones, one at least, not {values}")
        if self.grid < 2:
            raise UserError(f"grid is {self.grid}; give at least 2 points")


def run(options: Options) -> None:
    """Write P problems, S seeds, two kinds and G grid points an axis; D is the problems' dimension.

    problems (P,), seeds (S,), kinds (2,); axis (P, G), midpoints of equal cells; logits float32 (P, S, 2, G[, G]), the
    first coordinate first; target (P, G[, G]) and estimate (P, S, 2, G[, G]) float32, shares of the cells, of which
    sum 1; distance (P, S, 2) and uniform_distance (P,), total variation in [0, 1] between the estimate, or a uniform
    density, and the target; positives and negatives float32 (P, N, D) of the first seed; curve_updates (T,) with
    curve_loss and curve_distance (P, T, S, 2); config, the options as JSON.
    """
    device = prepare(options)
    whole = identity(options, [], SOURCES)
    checkpoints = [Checkpoint([whole, name]) for name in options.problems]
    found = [
        learned(name, options, device, checkpoint)
        for name, checkpoint in zip(options.problems, checkpoints, strict=True)
    ]
    updates = {"curve_updates": found[0].pop("curve_updates")}
    for arrays in found[1:]:
        del arrays["curve_updates"]
    common = {
        "problems": np.array(options.problems),
        "seeds": np.array(options.seeds, np.int64),
        "kinds": np.array(KINDS),
        "config": np.array(json.dumps(recorded(options), sort_keys=True, default=str)),
    }
    save_arrays(options.out, common | updates | {name: np.stack([each[name] for each in found]) for name in found[0]})
    for checkpoint in checkpoints:
        checkpoint.clear()


def learned(name: str, options: Options, device: str, checkpoint: Checkpoint) -> Arrays:
    """What `run` writes of one problem, without the axis of problems."""
    import torch

    axis, points = grid_of(name, options.grid)
    values = planar.density(name, points)
    target = torch.from_numpy(values / values.sum())
    samples = [planar.sample(name, seed) for seed in options.seeds]
    positives, negatives = (torch.from_numpy(np.stack(sets)) for sets in zip(*samples, strict=True))
    trained = train_densities(
        positives,
        negatives,
        options.seeds,
        options,
        grid=torch.from_numpy(points).float(),
        target=target,
        device=device,
        checkpoint=checkpoint,
        label=f"{options.out.stem} {name}",
    )
    shape = (options.grid,) * planar.problem(name).dimensions
    grids = {"logits": trained.logits, "target": target, "estimate": gibbs(trained.logits)}
    return {
        **{key: value.unflatten(-1, shape).float().numpy() for key, value in grids.items()},
        "axis": axis,
        "distance": trained.distances[-1].numpy(),
        "uniform_distance": total_variation(torch.zeros_like(target), target).numpy(),
        "positives": samples[0][0],
        "negatives": samples[0][1],
        "curve_updates": np.array(trained.updates, np.int64),
        "curve_loss": torch.stack(trained.losses).numpy(),
        "curve_distance": torch.stack(trained.distances).numpy(),
    }


def grid_of(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints (count,) of equal cells of the domain, and their grid (count^D, D), the first coordinate first."""
    low, high = planar.DOMAIN
    axis = low + (np.arange(count) + 0.5) * ((high - low) / count)
    axes = np.meshgrid(*[axis] * planar.problem(name).dimensions, indexing="ij")
    return axis, np.stack(axes, -1).reshape(count ** len(axes), -1)
