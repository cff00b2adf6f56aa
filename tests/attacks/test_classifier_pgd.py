from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.ascent import ascend
from robustgen.attacks.classifier_pgd import ClassifierPgd
from robustgen.attacks.objectives import cross_entropy
from robustgen.seeding import ImageStreams, derive

from .conftest import Fake, Pair, coin, gaussian


class Counting(Fake):
    """Remembers how many draws it was asked for at a time."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__(classifier, gaussian(0.05))
        self.asked: list[tuple[int, int]] = []

    def purify_draws(self, x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        self.asked.append((len(x), draws))
        return super().purify_draws(x, draws, streams)


def test_defence_is_consulted_at_the_end_only(toy: nn.Module, images: Pair) -> None:
    defense = Counting(toy)
    outcome = ClassifierPgd(defense, eps=0.05, steps=5, draws=40, verify=21, batch=64).evaluate(*images)
    right = int(outcome.natural_correct.sum())
    assert defense.asked == [(len(images[0]), 21), (right, 21)]
    np.testing.assert_array_equal(outcome.checks, outcome.natural_correct.astype(int))
    assert 0 < outcome.broken.sum() < right
    assert set(outcome.broken_step[outcome.broken]) == {5}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_states_are_pgds_whatever_the_defence(toy: nn.Module, images: Pair, norm: str) -> None:
    x, y = images
    eps = 0.1 if norm == "linf" else 0.5
    for transform in (gaussian(0.05), gaussian(1.0)):
        attack = ClassifierPgd(Fake(toy, transform), norm=norm, eps=eps, steps=7, step=0.2, verify=9)
        found = torch.from_numpy(attack.evaluate(x, y, natural_correct=np.ones(11, dtype=bool)).adversarial)
        start = attack.ball.offset(x, ImageStreams(derive(0, "start", 0), range(11)))
        expected = ascend(
            toy,
            x,
            lambda logits: cross_entropy(logits, y),
            ball=attack.ball,
            alpha=0.2 * eps,
            steps=7,
            start=start,
        )
        torch.testing.assert_close(found, expected)


def test_restarts_are_judged_one_by_one(toy: nn.Module, images: Pair) -> None:
    outcome = ClassifierPgd(Fake(toy, coin(0.5)), eps=0.1, steps=2, verify=1, restarts=6).evaluate(*images)
    assert (outcome.checks[outcome.broken] == outcome.broken_restart[outcome.broken] + 1).all()
    assert (outcome.checks[outcome.natural_correct & ~outcome.broken] == 6).all()
