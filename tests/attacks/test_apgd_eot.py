from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from robustgen.attacks.apgd_eot import ApgdClimb, ApgdEot
from robustgen.attacks.ball import Linf, ball_of
from robustgen.attacks.bpda_eot import BpdaEot
from robustgen.attacks.eot import Climb
from robustgen.defenses.identity import Undefended
from robustgen.errors import UserError
from robustgen.seeding import ImageRandomness, ImageStreams, derive

from .conftest import Fake, Margin, Pair, gaussian


class Watched(ApgdEot):
    """Keeps the states that are looked at, by row; misclassified or not, all images go on."""

    def __init__(self, model: nn.Module, **options: Any) -> None:
        super().__init__(model, **options)
        object.__setattr__(self, "seen", [])

    def propose(self, climb: Climb, wanted: bool) -> Tensor:
        suspects = super().propose(climb, wanted)
        self.seen.append(climb.state.clone())
        return torch.zeros_like(suspects)


class Eavesdropped(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        logits: Tensor = self.model(x)
        return logits


# not dlr in L2: where the label is third it is 1 but for rounding, which is then all that gives the step its direction
@pytest.mark.parametrize(("norm", "eps", "loss"), [("linf", 0.3, "ce"), ("linf", 0.3, "dlr"), ("l2", 2.0, "ce")])
def test_without_a_defence_it_is_torchattacks(toy: nn.Module, norm: str, eps: float, loss: str) -> None:
    x = torch.rand(8, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    y = toy(x).argmax(1)
    ours = Watched(Undefended(toy), norm=norm, eps=eps, steps=40, draws=1, verify=1, loss=loss)
    ours.evaluate(x, y)
    model = Eavesdropped(toy)
    theirs = torchattacks.APGD(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, steps=40, loss=loss)
    with ImageRandomness(ImageStreams(derive(0, "start", 0), range(8))):
        theirs.attack_single_run(x, y)
    assert len(ours.seen) == len(model.seen) == 41
    for one, other in zip(ours.seen, model.seen, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)  # theirs has single precision step sizes
    moves = [float((b - a).abs().max()) for a, b in zip(ours.seen, ours.seen[1:], strict=False)]
    assert moves[-1] < moves[0] / 4  # steps were halved


def peak(at: float) -> Callable[[float], float]:
    """An objective with a steep left and a gentle right flank."""
    return lambda z: -5 * (at - z) if z < at else -0.5 * (z - at)


def reference(objective: Callable[[float], float], x: float, eps: float, start: float, steps: int) -> list[float]:
    """APGD on one pixel, after the paper's Algorithm 1: the points that the objective is taken at."""

    def slope(z: float) -> float:
        return np.sign(objective(z + 1e-7) - objective(z - 1e-7))

    def inside(z: float) -> float:
        return min(max(z, x - eps, 0), x + eps, 1)

    w, gap = [0], max(int(0.22 * steps), 1)
    while w[-1] < steps:
        w.append(w[-1] + gap)
        gap = max(gap - max(int(0.03 * steps), 1), int(0.06 * steps), 1)
    points, values = [start], [objective(start)]
    eta, before, here = 2 * eps, start, start
    best_then, eta_then = None, None
    for k in range(steps):
        ahead = inside(here + eta * slope(here))
        share = 1 if k == 0 else 0.75
        before, here = here, inside(here + share * (ahead - here) + (1 - share) * (here - before))
        points.append(here)
        values.append(objective(here))
        if k + 1 in w:
            first = w[w.index(k + 1) - 1]
            rises = sum(values[i + 1] > values[i] for i in range(first, k + 1))
            best = max(values)
            stale = best_then is not None and eta_then == eta and best_then >= best
            best_then, eta_then = best, eta
            if rises <= 0.75 * (k + 1 - first) or stale:
                eta /= 2
                here = points[values.index(best)]
    return points


def test_steps_are_halved_and_go_on_from_the_best_point() -> None:
    places = [0.62, 0.5, 0.05]  # within, at the image, out of reach: the last climbs to the ball's edge and stays
    starts = [0.3, 0.7, 0.6]
    x = torch.full((3, 1, 1, 1), 0.5, dtype=torch.float64)
    expected = [reference(peak(place), 0.5, 0.2, start, 60) for place, start in zip(places, starts, strict=True)]
    streams = ImageStreams(0, range(3))
    state = torch.tensor(starts, dtype=torch.float64).view(3, 1, 1, 1)
    climb = ApgdClimb(
        rows=torch.arange(3), x=x, y=torch.zeros(3).long(), state=state, draws=streams, fresh=streams, steps=60
    )
    for step in range(61):
        if step == 25:  # one leaves: the others do not notice
            climb = climb.subset(torch.tensor([2, 0]))
        points = climb.state.flatten().tolist()
        assert points == pytest.approx([expected[row][step] for row in climb.rows.tolist()])
        of = [peak(places[row]) for row in climb.rows.tolist()]
        climb.value = torch.tensor([f(z) for f, z in zip(of, points, strict=True)], dtype=torch.float64)
        slopes = [f(z + 1e-7) - f(z - 1e-7) for f, z in zip(of, points, strict=True)]
        climb.gradient = torch.tensor(slopes, dtype=torch.float64).view(-1, 1, 1, 1)
        climb.judge()
        climb.advance(Linf(0.2))
    assert float(climb.best[1]) == pytest.approx(0.62, abs=0.01)  # far below the first step of 0.4
    assert float(climb.step[1]) < 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_start_lies_on_the_surface(noisy: Fake, norm: str) -> None:
    x = torch.full((20, 2, 5, 5), 0.5)
    attack = ApgdEot(noisy, eps=0.2, norm=norm)
    start = attack.start(x, ImageStreams(0, range(20)))
    torch.testing.assert_close(ball_of(norm, 0.2).distance(start, x), torch.full((20,), 0.2))


def test_objective_and_gradient_are_means_over_the_draws(noisy: Fake, images: Pair) -> None:
    x, y = images
    attack = ApgdEot(noisy, draws=4, loss="cw")
    draws, fresh = ImageStreams(3, range(11)), ImageStreams(4, range(11))
    climb = attack.climb(rows=torch.arange(11), x=x, y=y, state=x, draws=draws, fresh=fresh)
    attack.propose(climb, True)
    leaf = x.clone().requires_grad_()
    logits = noisy.classifier(noisy.unrolled(leaf, 4, ImageStreams(3, range(11))).flatten(0, 1))
    other = logits.masked_fill(nn.functional.one_hot(y.repeat_interleave(4), 4).bool(), -torch.inf).amax(1)
    margins = (other - logits.gather(1, y.repeat_interleave(4)[:, None])[:, 0]).unflatten(0, (11, 4)).mean(1)
    torch.testing.assert_close(climb.value, margins.detach())
    (gradient,) = torch.autograd.grad(margins.sum(), leaf)
    torch.testing.assert_close(climb.gradient, gradient)


def test_it_sees_through_a_purification_that_hides_the_gradient(toy: nn.Module, images: Pair) -> None:
    # the purifier turns the image upside down: the identity is no stand-in for it
    x, y = images[0], images[1]

    def flip(x: Tensor, draws: int, streams: ImageStreams) -> Tensor:
        return gaussian(0.02)(1 - x, draws, streams)

    defense = Fake(toy, flip)
    y = toy(1 - x).argmax(1)
    options: dict[str, Any] = {"eps": 0.1, "steps": 10, "draws": 3, "verify": 31}
    assert ApgdEot(defense, **options).evaluate(x, y).broken.sum() >= 6
    assert (
        ApgdEot(defense, **options).evaluate(x, y).broken.sum()
        > BpdaEot(defense, **options).evaluate(x, y).broken.sum()
    )


def test_losses(noisy: Fake) -> None:
    with pytest.raises(UserError, match="unknown loss 'hinge'; known are ce, cw, dlr"):
        ApgdEot(noisy, loss="hinge")
    two = Fake(Margin(lambda z: z), gaussian(0.1))
    x = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    with pytest.raises(UserError, match="dlr needs three classes at least, not 2"):
        ApgdEot(two, loss="dlr", verify=1).evaluate(x, torch.tensor([1]))
