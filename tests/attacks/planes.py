"""Classifiers, and analyses by synthesis, whose decision boundaries are known; attacks on them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from robustgen.attacks.synthesis import ATTACKS, Options, Outcome, run_attack
from robustgen.defenses.e_abs import AnalysisBySynthesis
from robustgen.defenses.e_abs import Options as Inference

K, M, SHAPE = 3, 2, (1, 4, 4)
SIZE = math.prod(SHAPE)
N = 5
SEARCHES = [(name, norm) for name, kind in ATTACKS.items() if not kind.radius for norm in kind.norms]
CLIMBS = [(name, norm) for name, kind in ATTACKS.items() if kind.radius for norm in kind.norms]
SHORT = {"boundary": 300, "noise": 40, "cw": 60, "estimated": 10, "pgd": 30}  # steps where the paper's are many


class Linear(nn.Module):
    """W x + b, the boundaries all close to medium grey."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        w = torch.randn(K, SIZE, generator=random, dtype=torch.float64)
        self.w, self.b = nn.Parameter(w), nn.Parameter(-w.sum(1) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.w.T + self.b


class Decoders(nn.Module):
    """G_k(z) = b_k + a A_k z with unit vectors in A_k; at a = 0 the classes are points, and boundaries planes."""

    def __init__(self, a: float = 0.0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(SIZE, K * M, generator=random, dtype=torch.float64)).Q
        self.a = nn.Parameter(a * basis.T.reshape(K, M, SIZE))
        self.b = nn.Parameter(0.5 + 0.4 * (torch.rand(K, SIZE, generator=random, dtype=torch.float64) - 0.5))
        self.config = SimpleNamespace(latent=M, adversarial=False)
        self.num_classes = K

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        zero = x.new_zeros(len(x), K, M)
        return zero, zero

    def decode(self, z: Tensor) -> Tensor:
        return (torch.einsum("nkm,kmd->nkd", z, self.a) + self.b).unflatten(2, SHAPE)

    def log_d(self, z: Tensor) -> Tensor:
        raise AssertionError("only adversarial autoencoders are asked for this")


def synthesis(a: float = 0.0, **options: object) -> AnalysisBySynthesis:
    # the latents of points are where the encoder has them
    given = {"variational": False, "candidates": 20, "iterations": 60 if a else 1, **options}
    return AnalysisBySynthesis(Decoders(a), Inference(**given))  # type: ignore[arg-type]


def images(network: nn.Module, n: int = N) -> tuple[Tensor, Tensor]:
    """Nearly grey images, and what the network takes them for."""
    x = 0.5 + 0.1 * (torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5)
    with torch.no_grad():
        return x, network(x).argmax(1)


def planes(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (K, D) and logits (N, K) of a classifier with plane boundaries."""
    if isinstance(network, Linear):
        return network.w.detach(), network(x).detach()
    b = network.model.b.detach()  # type: ignore[union-attr]
    return 2 * b, -(x.flatten(1)[:, None] - b).square().sum(2)  # type: ignore[operator]


def nearest(network: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """(N,) distances of x from the nearest boundary."""
    w, z = planes(network, x)
    normals = w[None] - w[y][:, None]
    length = normals.abs().sum(2) if norm == "linf" else normals.norm(dim=2)
    behind = z.gather(1, y[:, None]) - z
    return (behind / length).scatter(1, y[:, None], math.inf).amin(1)


def run(name: str, network: nn.Module, x: Tensor, y: Tensor, **options: object) -> Outcome:
    given = {"steps": SHORT.get(name), "restarts": 2, "seed": 7, **options}
    return run_attack(name, network, x, y, range(len(x)), Options(**given))  # type: ignore[arg-type]


NETWORKS = [Linear(), synthesis()]
