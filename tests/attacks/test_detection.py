from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen import models
from robustgen.attacks import detection
from robustgen.attacks.ball import BALLS, Norm
from robustgen.attacks.detection import (
    ATTACKS,
    DetectionAttack,
    candidates,
    check_attack,
    combined16,
    combined17,
    evade_classifier,
    evade_detector,
    targeted,
)
from robustgen.attacks.first_order import RULES, Rule
from robustgen.attacks.objectives import accepted, best_other
from robustgen.errors import UserError
from robustgen.models.detectors import Config, Detectors

Pair = tuple[Tensor, Tensor]
PAPERS = [name for name, kind in ATTACKS.items() if kind.value is not None]
MULTI = ["multi-integrated", "multi-generative"]
NONE = torch.empty(0)


class Linear(nn.Module):
    """Logits that are planes over 1x3x4 images, double precision; as (N, K)."""

    def __init__(self, seed: int, classes: int = 4) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(classes, 12, generator=draws, dtype=torch.float64))
        self.bias = nn.Parameter(0.3 * torch.randn(classes, generator=draws, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1) - 0.5, self.weight, self.bias)


class Forbidden(nn.Module):
    """A network that nobody may ask."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("asked")


def linear_images(n: int = 40) -> Pair:
    """Grey images that stay clear of black and white, each with the label that the planes of H give it."""
    draws = torch.Generator().manual_seed(5)
    x = 0.4 + 0.2 * torch.rand(n, 1, 3, 4, generator=draws, dtype=torch.float64)
    return x, Linear(1)(x).argmax(1).detach()


def attack(
    name: str,
    f: nn.Module | None = None,
    h: nn.Module | None = None,
    *,
    norm: Norm = "linf",
    eps: float = 0.05,
    alpha: float = 0.01,
    steps: int = 6,
    **options: Any,
) -> DetectionAttack:
    """Of one linear network guarded by another, unless others are given."""
    return DetectionAttack(
        name, f or Linear(0), h or Linear(1), norm=norm, eps=eps, alpha=alpha, steps=steps, **options
    )


@pytest.fixture
def pair(toy: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The toy classifier, and a narrower network in the detectors' place."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        h = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(45, 4)).double()
    return toy, h


def test_values_by_hand() -> None:
    z_f = torch.tensor([[2.0, 1, 0], [2, 1, 0], [1, 3, 0], [2, 2, 0]])
    z_h = torch.tensor([[5.0, -3, -1], [5, -3, 2], [5, -3, -1], [5, -3, -1]])
    y = torch.zeros(4, dtype=torch.long)
    assert evade_classifier(z_f, NONE, y).tolist() == [-1, -1, 2, 0]
    assert evade_detector(NONE, z_h, y).tolist() == [-1, 2, -1, -1]
    # the logit of class K + 1 is (1 - best wrong z_h) max z_f: 4, -2, 6, 4
    assert combined16(z_f, z_h, y).tolist() == [1 - 4, 1 - 2, 3 - 6, 2 - 4]
    assert combined17(z_f, z_h, y).tolist() == [-1, -1, -1, 0]  # a tie is not misclassified yet
    assert accepted(z_f, z_h, y).tolist() == [-math.inf, -math.inf, -3, -math.inf]
    assert accepted(z_h, z_h, torch.ones(4, dtype=torch.long)).tolist() == [5, 5, 5, 5]
    assert best_other(z_h, torch.tensor([1, 0, 2, 0])).tolist() == [5, 2, 5, -1]


def test_targeted_misleads_by_a_margin_before_it_turns_to_the_detector() -> None:
    z = torch.tensor([[2.0, 1, 0], [1, 3, 0], [1, 1.005, 0], [1, 0, 3]])
    z_h = torch.tensor([[5.0, -3, -1]]).expand(4, 3)
    found = targeted(z, z_h[:, 1], torch.ones(4, dtype=torch.long))
    torch.testing.assert_close(found, torch.tensor([-1.0, -3.0, 0.005, -3.0]))
    assert targeted(z_h, z_h[:, 0], torch.zeros(4, dtype=torch.long)).tolist() == [5, 5, 5, 5]  # generative


def test_gradients_of_the_cases_do_not_mix() -> None:
    z_f = torch.tensor([[2.0, 1, 0], [1, 3, 0]], requires_grad=True)
    z_h = torch.tensor([[5.0, -3, -1], [5, -3, -1]], requires_grad=True)
    by_f, by_h = torch.autograd.grad(combined17(z_f, z_h, torch.zeros(2, dtype=torch.long)).sum(), (z_f, z_h))
    assert by_f.tolist() == [[-1, 1, 0], [0, 0, 0]]
    assert by_h.tolist() == [[0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("name", ["classifier", "detector", "cw"])
def test_two_planes_have_a_known_summit(name: str) -> None:
    """Two classes: what rises is a plane, whose largest value in the ball and far from the box is x + ε sign(w)."""
    (x, _), f, h = linear_images(), Linear(0, 2), Linear(1, 2)
    y = torch.arange(len(x)) % 2
    weights = {
        "classifier": f.weight[1 - y] - f.weight[y],
        "detector": h.weight[1 - y],
        "cw": h.weight[1 - y] - h.weight[y],
    }
    uphill = weights[name].detach().view_as(x)
    linf = attack(name, f, h, steps=30)(x, y)
    torch.testing.assert_close(linf, x + 0.05 * uphill.sign())
    l2 = attack(name, f, h, norm="l2", alpha=0.02, steps=40)(x, y)
    torch.testing.assert_close(l2, x + 0.05 * F.normalize(uphill.flatten(1)).view_as(x), atol=1e-3, rtol=0)


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ATTACKS)
def test_in_the_ball_whatever_the_batch(
    name: str, rule: Rule, norm: Norm, pair: tuple[nn.Module, nn.Module], images: Pair
) -> None:
    x, y = images
    chosen = attack(name, *pair, norm=norm, eps=0.2, alpha=0.06, steps=4, rule=rule, restarts=2, seed=7)
    whole = chosen(x, y)
    assert float(BALLS[norm](0.2).distance(whole, x).max()) <= 0.2 + 1e-6
    assert 0 <= float(whole.min()) <= float(whole.max()) <= 1
    assert not torch.equal(whole, x)
    assert not whole.requires_grad
    order = torch.tensor([9, 2, 4])
    torch.testing.assert_close(chosen(x[order], y[order], order), whole[order], atol=1e-9, rtol=0)
    torch.testing.assert_close(chosen(x[3:4], y[3:4], [3]), whole[3:4], atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ATTACKS)
def test_networks_are_left_as_they_were(name: str, pair: tuple[nn.Module, nn.Module], images: Pair) -> None:
    for network in pair:
        network.train()
    pair[0].get_submodule("norm").eval()
    modes = [[child.training for child in network.modules()] for network in pair]
    before = [value.clone() for network in pair for value in network.state_dict().values()]
    attack(name, *pair, steps=2)(*images)
    assert [[child.training for child in network.modules()] for network in pair] == modes
    assert all(p.grad is None and p.requires_grad for network in pair for p in network.parameters())
    after = [value for network in pair for value in network.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_radius_of_zero_is_a_control(name: str, pair: tuple[nn.Module, nn.Module], images: Pair) -> None:
    x, y = images
    torch.testing.assert_close(attack(name, *pair, eps=0, steps=3)(x, y), x, atol=1e-15, rtol=0)


@pytest.mark.parametrize("name", ["detector", "ce", "cw", "multi-generative"])
def test_generative_attacks_do_not_ask_the_classifier(name: str) -> None:
    x, y = linear_images(5)
    assert ATTACKS[name].ways[0] == "generative"
    assert not ATTACKS[name].needs_classifier
    attack(name, Forbidden(), restarts=2)(x, y)


@pytest.mark.parametrize("name", PAPERS)
def test_the_paper_s_attacks_return_their_last_iterate(name: str) -> None:
    """Without restarts nothing is chosen: one step more is one step further."""
    x, _ = linear_images(5)
    y = Linear(0)(x).argmax(1)
    start = attack(name, random_start=False, steps=0)(x, y)
    assert torch.equal(start, x)
    one = attack(name, random_start=False, steps=1)(x, y)
    torch.testing.assert_close((one - x).abs(), torch.full_like(x, 0.01))


@pytest.mark.parametrize("name", ATTACKS)
def test_restarts_never_lower_what_is_accepted(name: str, pair: tuple[nn.Module, nn.Module], images: Pair) -> None:
    (x, y), (f, h) = images, pair
    scores = []
    for restarts in (1, 3):
        found = attack(name, f, h, eps=0.1, alpha=0.03, steps=3, restarts=restarts)(x, y)
        z_h = h(found)
        scores.append(accepted(z_h if ATTACKS[name].ways[0] == "generative" else f(found), z_h, y))
    assert (scores[1] >= scores[0]).all()
    assert (scores[1] > scores[0]).any()


def test_whose_rule_finds_the_best_can_be_said(pair: tuple[nn.Module, nn.Module], images: Pair) -> None:
    (x, y), (_, h) = images, pair
    options: dict[str, Any] = {"eps": 0.1, "alpha": 0.03, "steps": 3}
    with torch.no_grad():
        scores = []
        for restarts in (1, 4):
            found = attack("detector", Forbidden(), h, way="generative", restarts=restarts, **options)(x, y)
            scores.append(accepted(h(found), h(found), y))
    assert (scores[1] >= scores[0]).all()
    with pytest.raises(UserError, match="combined17 is an attack on integrated detection, not generative"):
        attack("combined17", way="generative")


@pytest.mark.parametrize("name", MULTI)
def test_every_wrong_class_is_a_target_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    targets: list[tuple[list[int], int]] = []
    plain = detection.targeted

    def spy(z: Tensor, logit: Tensor, target: Tensor) -> Tensor:
        targets.append((z.detach().argmax(1).tolist(), *target.unique().tolist()))
        return plain(z, logit, target)

    monkeypatch.setattr(detection, "targeted", spy)
    x, y = linear_images(9)
    z = Linear(0)(x) if name == "multi-integrated" else Linear(1)(x)
    attack(name, Linear(0), Linear(1), steps=0, random_start=False)(x, y)
    assert targets == [(z[y != target].argmax(1).tolist(), target) for target in range(4)]
    targets.clear()
    attack(name, Linear(0), Linear(1), steps=0)(x[:3], torch.tensor([2, 2, 2]))
    assert [target for _, target in targets] == [0, 1, 3]  # a class that all images are of is nobody's target


def test_candidates_are_the_wrong_classes_of_the_largest_logits() -> None:
    z = torch.tensor([[5.0, 1, 2, 2], [0, 9, -1, -2], [0, 9, -1, -2]])
    y = torch.tensor([0, 1, 3])
    for count, expected in (
        (1, [[2], [0], [1]]),
        (2, [[2, 3], [0, 2], [0, 1]]),
        (None, [[1, 2, 3], [0, 2, 3], [0, 1, 2]]),
    ):
        assert [row.nonzero().flatten().tolist() for row in candidates(z, y, count)] == expected
    for count in (3, 4, 9):  # no more than there are
        assert torch.equal(candidates(z, y, count), candidates(z, y, None))


@pytest.mark.parametrize("name", MULTI)
def test_few_targets_are_those_likeliest_at_the_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    targets: list[tuple[int, Tensor]] = []
    plain = detection.targeted

    def spy(z: Tensor, logit: Tensor, target: Tensor) -> Tensor:
        targets.append((int(target[0]), z.detach()))
        return plain(z, logit, target)

    monkeypatch.setattr(detection, "targeted", spy)
    x, y = linear_images(9)
    z = (Linear(0)(x) if name == "multi-integrated" else Linear(1)(x)).detach()
    ranked = z.scatter(1, y[:, None], -math.inf).argsort(1, descending=True)
    attack(name, steps=0, random_start=False, targets=2)(x, y)
    rows = {target: (ranked[:, :2] == target).any(1).nonzero().flatten() for target in range(4)}
    assert [target for target, _ in targets] == [target for target in range(4) if len(rows[target])]
    assert all(torch.equal(seen, z[rows[target]]) for target, seen in targets)


@pytest.mark.parametrize("name", MULTI)
def test_more_targets_never_break_less(name: str, pair: tuple[nn.Module, nn.Module], images: Pair) -> None:
    (x, y), (f, h) = images, pair
    options: dict[str, Any] = {"eps": 0.3, "alpha": 0.08, "steps": 4, "random_start": False}
    scores = []
    for targets in (1, 2, 3, None):
        chosen = attack(name, f, h, targets=targets, **options)
        found = chosen(x, y)
        z_h = h(found).detach()
        scores.append(accepted(z_h if name == "multi-generative" else f(found).detach(), z_h, y))
    assert all((more >= fewer).all() for fewer, more in pairwise(scores))
    assert (scores[2] > scores[0]).any()
    assert torch.equal(scores[2], scores[3])  # three wrong classes are all of them
    few = attack(name, f, h, **{**options, "random_start": True}, restarts=2, targets=1, seed=3)
    whole, order = few(x, y), torch.tensor([9, 2, 4])
    torch.testing.assert_close(few(x[order], y[order], order), whole[order], atol=1e-9, rtol=0)
    torch.testing.assert_close(few(x[3:4], y[3:4], [3]), whole[3:4], atol=1e-9, rtol=0)


@pytest.mark.parametrize(("name", "way"), [(name, way) for name in MULTI for way in ATTACKS[name].ways])
def test_multi_targeted_attacks_are_the_strongest(name: str, way: str) -> None:
    """Of planes: at any threshold they break as many images as every other attack on that way of detection."""
    (x, y), f, h = linear_images(), Linear(0), Linear(1)

    def broken(images: Tensor) -> Tensor:
        z_h = h(images)
        return accepted(f(images) if way == "integrated" else z_h, z_h, y).detach()

    strength = {
        other: broken(attack(other, f, h, steps=25, random_start=False)(x, y))
        for other, kind in ATTACKS.items()
        if way in kind.ways
    }
    thresholds = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    counts = {other: (score >= thresholds).sum(1) for other, score in strength.items()}
    assert all((counts[name] >= count).all() for count in counts.values())
    assert (counts[name] > counts["detector"]).any()
    assert 0 < counts[name].double().mean() < len(x)


@pytest.mark.parametrize("name", MULTI)
def test_multi_targeted_attacks_keep_the_image_where_nothing_breaks(name: str) -> None:
    (x, y), f, h = linear_images(), Linear(0), Linear(1)
    y = f(x).argmax(1) if name == "multi-integrated" else y
    found = attack(name, f, h, eps=0.02)(x, y)
    z_h = h(found)
    score = accepted(f(found) if name == "multi-integrated" else z_h, z_h, y)
    stood = score == -math.inf
    assert 0 < stood.sum() < len(x)
    assert torch.equal(found[stood], x[stood])
    assert (found[~stood] != x[~stood]).flatten(1).any(1).all()


def test_of_images_wrong_from_the_start_the_natural_ones_count() -> None:
    """One whose own logit is the largest within reach stays."""
    x, y = linear_images()
    h = Linear(1)
    wrong = (y + 1) % 4
    found = attack("multi-generative", None, h, steps=0)(x, wrong)
    assert (accepted(h(found), h(found), wrong) >= accepted(h(x), h(x), wrong)).all()


@pytest.mark.parametrize("name", ATTACKS)
def test_real_detectors(name: str) -> None:
    member = models.config_type("madry_cnn")(size=8, channels=1, classes=1, widths=(2, 3), hidden=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        h = Detectors(Config(labels=(0, 1, 2), classes=3, member=member))
        f = models.build(models.config_type("madry_cnn")(size=8, channels=1, classes=3, widths=(2, 3), hidden=4))
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = f(x).argmax(1)
    chosen = attack(name, f, h, eps=0.2, alpha=0.05, steps=3)
    whole = chosen(x, y)
    torch.testing.assert_close(chosen(x[:1], y[:1]), whole[:1], atol=1e-5, rtol=0)
    assert (whole - x).abs().max() <= 0.2 + 1e-6
    columns = attack(name, f, nn.Sequential(h), eps=0.2, alpha=0.05, steps=3)  # no DetectorBank: no separate networks
    torch.testing.assert_close(columns(x, y), whole, atol=1e-5, rtol=0)
    for labels in ((0, 2), (0, 1)):
        part = Detectors(Config(labels=labels, classes=3, member=member))
        listed = ", ".join(map(str, labels))
        with pytest.raises(UserError, match=rf"each of 3 classes, and these are of \({listed}\); load them all"):
            attack(name, f, part)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "combined18"}, "unknown attack 'combined18'; known are classifier, detector, combined16"),
        ({"rule": "newton"}, "unknown rule 'newton'"),
        ({"norm": "l0"}, "unknown norm 'l0'"),
        ({"eps": -1}, "eps >= 0, alpha > 0 and steps >= 0"),
        ({"alpha": 0}, "eps >= 0, alpha > 0 and steps >= 0"),
        ({"restarts": 0}, "restarts is 0; give at least 1 start"),
        ({"restarts": 2, "random_start": False}, "2 restarts from the image itself are all the same"),
        ({"targets": 0}, "targets is 0; give at least 1 wrong class, or leave it out for all"),
    ],
)
def test_what_the_user_can_mend(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        attack(**{"name": "combined17", **options})


def test_names_are_checked() -> None:
    for name in ATTACKS:
        check_attack(name)
    with pytest.raises(UserError, match="unknown attack 'pgd'"):
        check_attack("pgd")


@pytest.mark.parametrize("name", ["detector", "multi-generative"])
def test_nan_logits_are_refused(name: str) -> None:
    class Lost(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * math.nan

    x, y = linear_images(3)
    with pytest.raises(UserError, match="NaN or infinite for 3 of 3 images; train the attacked networks again"):
        attack(name, h=Lost(1))(x, y)
