from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchattacks
from torch import Tensor, nn

from robustgen.attacks.apgd import APGD
from robustgen.attacks.fgsm import FGSM
from robustgen.attacks.pgd import PGD
from robustgen.seeding import ImageRandomness, ImageStreams

Pair = tuple[Tensor, Tensor]


def test_fgsm_is_one_full_signed_step(toy: nn.Module, images: Pair) -> None:
    x, y = images
    (gradient,) = torch.autograd.grad(F.cross_entropy(toy(x.requires_grad_()), y, reduction="sum"), x)
    expected = (x + 0.1 * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(FGSM(toy, eps=0.1)(x, y), expected.detach())
    torch.testing.assert_close(FGSM(toy, eps=0.1)(x, y), torchattacks.FGSM(toy, eps=0.1)(x.detach(), y))
    one_step = PGD(toy, eps=0.1, alpha=0.1, steps=1, random_start=False)(x, y)
    torch.testing.assert_close(FGSM(toy, eps=0.1)(x, y), one_step)


def test_apgd_equals_torchattacks_given_its_draws(toy: nn.Module, images: Pair) -> None:
    x, y = images
    for loss in ("ce", "dlr"):
        ours = APGD(toy, eps=0.1, steps=25, loss=loss, seed=3)(x, y)
        with ImageRandomness(ImageStreams(3, range(len(x)))):
            theirs = torchattacks.APGD(toy, eps=0.1, steps=25, loss=loss)(x, y)
        assert torch.equal(ours, theirs)


def test_apgd_leaves_misclassified_and_resisting_images_alone(toy: nn.Module, images: Pair) -> None:
    x, y = images
    labels = torch.where(torch.arange(len(y)) < 3, (y + 1) % 4, y)
    found = APGD(toy, eps=0.1, steps=20)(x, labels)
    changed = (found - x).abs().flatten(1).amax(1) > 0
    right = toy(found).argmax(1) == labels
    assert not changed[:3].any()
    assert torch.equal(changed[3:], ~right[3:])
    assert changed.any()
    assert torch.equal(APGD(toy, eps=0.1)(x, (y + 1) % 4), x)


def test_apgd_is_at_least_as_strong_as_fgsm(toy: nn.Module, images: Pair) -> None:
    x, y = images
    robust = {attack: int((toy(attack(toy, eps=0.08)(x, y)).argmax(1) == y).sum()) for attack in (APGD, FGSM)}
    assert robust[APGD] <= robust[FGSM]


def test_apgd_with_an_unknown_loss(toy: nn.Module, images: Pair) -> None:
    with pytest.raises(ValueError, match="unknown loss"):
        APGD(toy, loss="hinge")(*images)
