"""What holds for every attack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from robustgen.attacks import ATTACKS, attack_type
from robustgen.attacks.base import BallAttack
from robustgen.errors import UserError
from robustgen.protocols import Attack

EPS = 0.1
RANDOM = ("apgd", "he_pgd", "pgd")
L2_OPTIONS = {"norm": "l2", "alpha": 0.2, "steps": 20}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in ATTACKS} | {
    "pgd-l2": ("pgd", L2_OPTIONS)
}
Pair = tuple[Tensor, Tensor]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def name(variant: str) -> str:
    return VARIANTS[variant][0]


@pytest.fixture
def make(variant: str, toy: nn.Module) -> Callable[..., BallAttack]:
    """make(**options): the attack on `toy`, by default of radius EPS. An L2 ball gets the radius times √D: so it
    reaches the corners of the L∞ ball."""

    def build(model: nn.Module = toy, **options: Any) -> BallAttack:
        name, defaults = VARIANTS[variant]
        given = {"eps": EPS, **defaults, **options}
        if given.get("norm") == "l2":
            given["eps"] *= 50**0.5  # 2x5x5 pixels
        attack: BallAttack = attack_type(name)(model, **given)
        return attack

    return build


def test_images_stay_in_the_ball_and_in_range(make: Callable[..., BallAttack], images: Pair) -> None:
    x, y = images
    for eps in (0.0, 0.03, 0.5):
        attack = make(eps=eps)
        adversarial = attack(x, y)
        assert adversarial.shape == x.shape
        order = 2 if attack.options.norm == "l2" else torch.inf
        assert float((adversarial - x).flatten(1).norm(order, dim=1).max()) <= attack.eps * (1 + 1e-6) + 1e-6
        assert float(adversarial.min()) >= 0
        assert float(adversarial.max()) <= 1
        assert not adversarial.requires_grad


def test_most_predictions_change(make: Callable[..., BallAttack], toy: nn.Module, images: Pair) -> None:
    x, y = images
    assert float((toy(make(eps=0.3)(x, y)).argmax(1) == y).double().mean()) < 0.3


def test_an_image_meets_the_same_fate_in_any_batch(make: Callable[..., BallAttack], images: Pair) -> None:
    x, y = images
    indices = torch.arange(100, 100 + len(x))
    attack = make()
    whole = attack(x, y, indices)
    singly = [attack(x[i : i + 1], y[i : i + 1], [100 + i]) for i in range(len(x))]
    torch.testing.assert_close(torch.cat(singly), whole, atol=1e-12, rtol=0)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attack(x[order], y[order], indices[order]), whole[order], atol=1e-12, rtol=0)


def test_seed_and_index_name_the_random_stream(name: str, make: Callable[..., BallAttack], images: Pair) -> None:
    x, y = images
    first = make(seed=1)(x, y)
    assert torch.equal(make(seed=1)(x, y), first)
    assert torch.equal(make(seed=1)(x, y, range(len(x))), first)
    for other in (make(seed=2)(x, y), make(seed=1)(x, y, range(1, len(x) + 1))):
        assert torch.equal(other, first) is (name not in RANDOM)


def test_global_generator_is_neither_used_nor_moved(make: Callable[..., BallAttack], images: Pair) -> None:
    torch.manual_seed(3)
    expected = make()(*images)
    state = torch.get_rng_state()
    torch.manual_seed(4)
    assert torch.equal(make()(*images), expected)
    torch.manual_seed(3)
    make()(*images)
    assert torch.equal(torch.get_rng_state(), state)


def test_model_is_left_as_it_was(make: Callable[..., BallAttack], toy: Any, images: Pair) -> None:
    toy.train()
    toy.norm.eval()  # torchattacks alone would put this one into training mode
    toy.conv.weight.grad = torch.full_like(toy.conv.weight, 7)
    toy.head[1].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in toy.state_dict().items()}
    x, y = (value.clone() for value in images)
    attack = make()
    attack(x, y)
    assert {key: module.training for key, module in toy.named_modules()} == {
        key: key != "norm" for key, _ in toy.named_modules()
    }
    assert all(torch.equal(value, before[key]) for key, value in toy.state_dict().items())
    assert torch.equal(toy.conv.weight.grad, torch.full_like(toy.conv.weight, 7))
    assert all(p.grad is None for key, p in toy.named_parameters() if key != "conv.weight")
    assert not toy.head[1].weight.requires_grad
    assert torch.equal(x, images[0])
    assert torch.equal(y, images[1])


def test_training_mode_does_not_change_the_result(
    make: Callable[..., BallAttack], toy: nn.Module, images: Pair
) -> None:
    expected = make()(*images)
    toy.train()
    assert torch.equal(make()(*images), expected)
    assert all(module.training for module in toy.modules())


def test_mode_is_restored_after_a_failure(make: Callable[..., BallAttack], toy: Any, images: Pair) -> None:
    toy.train()
    toy.head[1] = nn.Linear(3, 4).double()  # does not fit
    with pytest.raises(RuntimeError, match="shapes"):
        make()(*images)
    assert all(module.training for module in toy.modules())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 2, r"must lie in \[0, 1\]"),
        (lambda x: x - 0.5, r"must lie in \[0, 1\]"),
        (lambda x: torch.where(x > 0.9, torch.nan, x), r"must lie in \[0, 1\]"),
        (lambda x: x[0], "four dimensions"),
        (lambda x: (x * 255).byte(), "floating point"),
        (lambda x: x[:0], "no image"),
    ],
    ids=["bright", "negative", "nan", "shape", "bytes", "empty"],
)
def test_wrong_images_are_refused(
    make: Callable[..., BallAttack], images: Pair, change: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make()(change(images[0]), images[1])


def test_unknown_option_is_an_error(make: Callable[..., BallAttack]) -> None:
    with pytest.raises(TypeError, match="epsilon"):
        make(epsilon=0.1)


def test_unknown_attack_is_named() -> None:
    with pytest.raises(UserError, match=r"unknown attack 'cw'; known are apgd, fgsm, he_pgd, pgd"):
        attack_type("cw")


def test_module_name_is_the_option(name: str) -> None:
    assert attack_type(name).Options().name == name


def test_attacks_serve_torchattacks(make: Callable[..., BallAttack], toy: nn.Module, images: Pair) -> None:
    attack = make(eps=0.3)
    assert isinstance(attack, torchattacks.attack.Attack)
    assert isinstance(attack, Attack)
    assert f"eps={attack.eps}" in repr(attack)
    peer = torchattacks.PGD(toy, eps=0.3, steps=2)
    adversarial = torchattacks.MultiAttack([attack, peer])(*images)
    assert float((adversarial - images[0]).abs().max()) <= attack.eps + 1e-6
    right = toy(adversarial).argmax(1) == images[1]
    alone = toy(attack(*images)).argmax(1) == images[1]
    assert right.sum() <= alone.sum()


def test_another_model_can_be_set(make: Callable[..., BallAttack], toy: nn.Module, images: Pair) -> None:
    class Flipped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -toy(x)  # type: ignore[no-any-return]

    attack = make()
    attack.set_model(Flipped())
    x, _ = images
    y = toy(x).argmin(1)
    torch.testing.assert_close(attack(x, y), make(Flipped())(x, y))
