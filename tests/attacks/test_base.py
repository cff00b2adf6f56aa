from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustgen.attacks.apgd import APGD
from robustgen.attacks.ball import Linf
from robustgen.attacks.base import BallAttack
from robustgen.attacks.detection import DetectionAttack
from robustgen.attacks.distortion import Options as Search
from robustgen.attacks.distortion import distort
from robustgen.attacks.fgsm import FGSM
from robustgen.attacks.first_order import check_ascent
from robustgen.attacks.he_pgd import HePGD
from robustgen.attacks.pgd import PGD
from robustgen.attacks.registry import EOT_ATTACKS, build_attack
from robustgen.attacks.synthesis import Options as SynthesisOptions
from robustgen.attacks.synthesis import run_attack
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


@pytest.mark.parametrize("eps", [8.0, 1.001])
def test_a_radius_in_bytes_is_refused_in_linf_only(eps: float, toy: nn.Module) -> None:
    message = rf"images are in \[0, 1\]; did you mean {eps:g}/255\?"
    makers: list[Callable[[str], Any]] = [
        lambda norm: PGD(toy, eps=eps, norm=norm),
        lambda norm: SynthesisOptions(eps=eps, norm=norm),  # type: ignore[arg-type]
        lambda norm: check_ascent(norm=norm, eps=eps, rule="steepest", steps=1, alpha=0.1),
    ]
    for make in makers:
        with pytest.raises(UserError, match=message):
            make("linf")
        make("l2")
    PGD(toy, eps=1.0)


Call = Callable[..., Any]


def calls(toy: nn.Module, noisy: nn.Module) -> dict[str, Call]:
    """Everything that takes images, labels and perhaps indices, by name."""
    plain: dict[str, Call] = {kind.__name__: kind(toy) for kind in (APGD, FGSM, HePGD, PGD)}
    few = {"steps": 1, "draws": 1, "verify": 1}
    random = {name: build_attack(name, noisy, shared=few) for name in EOT_ATTACKS}
    detection = {
        name: DetectionAttack(name, toy, toy, norm="linf", eps=0.1, alpha=0.1, steps=1)
        for name in ("classifier", "detector", "multi-generative")
    }
    options = SynthesisOptions(eps=0.1, steps=1, restarts=1)
    return {
        **plain,
        **random,
        **{f"{name}.evaluate": each.evaluate for name, each in random.items()},
        **detection,
        "run_attack": lambda x, y, indices=None: run_attack(
            "pgd", toy, x, y, range(len(x)) if indices is None else indices, options
        ),
        "distort": lambda x, y, indices=None: distort(toy, x, y, 0.0, Search(depth=1, steps=1)),
    }


def refusal(call: Call, *args: Any, **options: Any) -> str:
    """What a call's UserError says; "" where there is none."""
    try:
        call(*args, **options)
    except UserError as error:
        return str(error)
    return ""


WRONG_LABELS = [
    (torch.tensor([0]), "2 images, but 1 label; give one for each"),
    (torch.tensor([0, 1, 2]), "2 images, but 3 labels; give one for each"),
    (torch.tensor([0.0, 1.0]), "labels must be whole numbers"),
    (torch.tensor([[0, 1], [1, 0]]), "not of shape (2, 2)"),
    (torch.tensor([0, -1]), "a label is -1; classes are counted from 0"),
    (torch.tensor([0, 99]), "a label is 99, but there are 4 classes; labels are 0 to 3"),
    (np.array([0, 1]), "labels must be a torch tensor, not ndarray"),
    ([0, 1], "labels must be a torch tensor, not list"),
]


@pytest.mark.parametrize(("labels", "message"), WRONG_LABELS)
def test_labels_that_are_none_are_told_in_a_line(
    labels: Any, message: str, toy: nn.Module, noisy: nn.Module, images: tuple[Tensor, Tensor]
) -> None:
    for name, call in calls(toy, noisy).items():
        assert message in refusal(call, images[0][:2], labels), name
    assert not toy._forward_hooks


def test_each_image_has_one_position(toy: nn.Module, noisy: nn.Module, images: tuple[Tensor, Tensor]) -> None:
    x, y = images[0][:2], images[1][:2]
    for name, call in calls(toy, noisy).items():
        if name != "distort":
            assert refusal(call, x, y, indices=[0]) == "2 images, but 1 index; give one for each", name
    with pytest.raises(UserError, match="2 images, but 1 entry of natural_correct"):
        build_attack("bpda", noisy).evaluate(x, y, natural_correct=np.array([True]))


def test_arrays_are_no_images(toy: nn.Module, noisy: nn.Module, images: tuple[Tensor, Tensor]) -> None:
    for name, call in calls(toy, noisy).items():
        assert "images must be a torch tensor, not ndarray" in refusal(call, images[0].numpy(), images[1]), name


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
def test_labels_of_any_whole_kind_serve(kind: torch.dtype, toy: nn.Module, images: tuple[Tensor, Tensor]) -> None:
    x, y = images
    assert torch.equal(PGD(toy, targeted=True)(x, y.to(kind)), PGD(toy, targeted=True)(x, y))
