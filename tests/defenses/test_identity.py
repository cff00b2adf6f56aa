from __future__ import annotations

import torch
from torch import Tensor, nn

from robustgen.defenses.identity import Undefended
from robustgen.protocols import RandomDefense
from robustgen.seeding import ImageStreams


def test_it_is_the_classifier(toy: nn.Module, images: tuple[Tensor, Tensor]) -> None:
    x, _ = images
    defense = Undefended(toy)
    assert isinstance(defense, RandomDefense)
    assert torch.equal(defense(x), toy(x))
    assert torch.equal(defense.purify(x), x)
    drawn = defense.purify_draws(x, 3, ImageStreams(0, range(len(x))))
    assert drawn.shape == (11, 3, 2, 5, 5)
    logits = toy(drawn.flatten(0, 1)).unflatten(0, (11, 3))
    torch.testing.assert_close(defense.combine(logits), toy(x))


def test_only_unrolled_has_a_gradient(toy: nn.Module, images: tuple[Tensor, Tensor]) -> None:
    x = images[0].clone().requires_grad_()
    streams = ImageStreams(0, range(len(x)))
    assert not Undefended(toy).purify_draws(x, 2, streams).requires_grad
    (gradient,) = torch.autograd.grad(Undefended(toy).unrolled(x, 2, streams).sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 2))
