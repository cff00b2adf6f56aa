from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.apgd import APGD
from robustgen.attacks.ball import Linf
from robustgen.attacks.base import BallAttack
from robustgen.attacks.fgsm import FGSM
from robustgen.attacks.he_pgd import HePGD
from robustgen.attacks.pgd import PGD
from robustgen.errors import UserError


@pytest.mark.parametrize(("norm", "reach"), [("linf", 0.2), ("l2", 0.2 * 50**0.5)])
def test_attack_that_leaves_its_ball_is_caught(
    toy: nn.Module, images: tuple[Tensor, Tensor], norm: str, reach: float
) -> None:
    class Wild(BallAttack):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x - 0.2

    x, y = images[0] * 0.7 + 0.3, images[1]  # 2x5x5 pixels, each of which may move by 0.2
    torch.testing.assert_close(Wild(toy, eps=reach, norm=norm)(x, y), x - 0.2)
    with pytest.raises(AssertionError, match="Wild left its ball"):
        Wild(toy, eps=reach - 1e-4, norm=norm)(x, y)


def test_unknown_norm_is_refused(toy: nn.Module) -> None:
    with pytest.raises(UserError, match="unknown norm 'l1'; known are linf, l2"):
        PGD(toy, norm="l1")


@pytest.mark.parametrize("attack", [APGD, FGSM, HePGD])
def test_attacks_of_one_norm_say_so(attack: type[BallAttack], toy: nn.Module) -> None:
    assert attack(toy).ball == attack(toy, norm="linf").ball == Linf(8 / 255)
    with pytest.raises(UserError, match="norm is l2, but this attack is for linf only; use pgd"):
        attack(toy, norm="l2")


@pytest.mark.parametrize("wrong", [{"eps": -0.1}, {"alpha": 0.0}, {"steps": -1}, {"eps": float("nan")}])
def test_options_out_of_range_are_refused(wrong: dict[str, float], toy: nn.Module) -> None:
    with pytest.raises(UserError, match="eps >= 0, alpha > 0 and steps >= 0"):
        PGD(toy, **wrong)
