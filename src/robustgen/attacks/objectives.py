"""What attacks on classifiers raise: losses (N,) of logits (N, K) and labels y (N,)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.errors import UserError

Loss = Literal["ce", "cw", "dlr"]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """−log softmax(z)_y."""
    return F.cross_entropy(logits, y, reduction="none")


def best_other(logits: Tensor, y: Tensor) -> Tensor:
    """max over k ≠ y of z_k."""
    true = F.one_hot(y, logits.shape[1]).bool()
    return logits.masked_fill(true, -torch.inf).amax(1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max over k ≠ y of z_k, less z_y (Carlini & Wagner 2017): positive where the label is wrong."""
    return best_other(logits, y) - _true(logits, y)


def accepted(z: Tensor, z_h: Tensor, y: Tensor) -> Tensor:
    """(N,) z_h, the detectors' logits (N, K), of the predicted class, argmax z, where that is wrong; −inf where it is
    right (GAT, Yin et al. 2020, Sec. 4.2). An image breaks the defence at every threshold T that is no larger.
    """
    predicted = z.argmax(1)
    logit = z_h.gather(1, predicted[:, None]).squeeze(1)
    return logit.masked_fill(predicted == y, -torch.inf)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """The margin over the gap between the first and the third logit (Croce & Hein 2020, Eq. 6).

    Raises UserError for fewer than three classes.
    """
    if logits.shape[1] < 3:
        raise UserError(f"loss dlr needs three classes at least, not {logits.shape[1]}; take ce or cw")
    ranked = logits.sort(1, descending=True).values
    return margin(logits, y) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "cw": margin, "dlr": dlr}


def check_loss(name: str) -> None:
    """Raise UserError for the name of no loss."""
    if name not in LOSSES:
        raise UserError(f"unknown loss {name!r}; known are {', '.join(get_args(Loss))}")


def _true(logits: Tensor, y: Tensor) -> Tensor:
    return logits.gather(1, y[:, None]).squeeze(1)
