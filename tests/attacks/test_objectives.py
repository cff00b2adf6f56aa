from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchattacks

from robustgen.attacks.objectives import LOSSES, check_loss, dlr, margin
from robustgen.errors import UserError


def test_margin_is_positive_where_the_label_is_wrong() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    assert margin(logits, torch.tensor([0, 1, 2])).tolist() == [-1, 2, 1]


def test_losses_are_those_of_others() -> None:
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    y = torch.arange(50) % 5
    torch.testing.assert_close(LOSSES["ce"](logits, y), F.cross_entropy(logits, y, reduction="none"))
    peer = torchattacks.APGD(torch.nn.Linear(1, 1))
    torch.testing.assert_close(LOSSES["dlr"](logits, y), peer.dlr_loss(logits, y))
    torch.testing.assert_close(dlr(3 * logits + 7, y), dlr(logits, y))  # what it is made for


def test_what_the_user_can_mend() -> None:
    check_loss("cw")
    with pytest.raises(UserError, match="unknown loss 'hinge'"):
        check_loss("hinge")
    with pytest.raises(UserError, match="loss dlr needs three classes at least, not 2; take ce or cw"):
        dlr(torch.zeros(1, 2), torch.tensor([0]))
