"""A softmax classifier read as an energy-based model (Grathwohl et al. 2020; Beadini & Masi 2023, Sec. 3.2).

Cross-entropy splits into two energies: CE(x, y) = −log p(y|x) = E(x, y) − E(x). Low energy means likely.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustgen.errors import UserError


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """E(x) = −T · logsumexp(logits / T), in nats: the negative log-likelihood of x up to log Z (Eq. 8 at T = 1).

    `logits` (N, K) to energies (N,). T = 1 is the paper's; the released detector searches other values.
    Raises UserError where T is not positive.
    """
    if not temperature > 0:
        raise UserError(f"temperature must be positive, got {temperature}; 1 gives the paper's energy")
    return -temperature * torch.logsumexp(logits / temperature, dim=1)


def joint_energy(logits: Tensor, labels: Tensor) -> Tensor:
    """E(x, y) = −z_y, in nats: `logits` (N, K) and `labels` (N,) int64 in [0, K) to energies (N,)."""
    return -logits.gather(1, labels[:, None]).squeeze(1)
