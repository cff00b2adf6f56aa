"""Integrated and generative detection against decisions worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from robustgen.defenses.gat import REJECTED, Generative, Integrated, Rejecting
from robustgen.errors import UserError
from robustgen.models import detectors, madry_cnn
from robustgen.protocols import Detector


class Pixels(nn.Module):
    """Logits are the first three pixels, in the order given."""

    def __init__(self, order: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        self.order = list(order)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, self.order]


def images(*rows: tuple[float, float, float]) -> Tensor:
    x = torch.zeros(len(rows), 1, 2, 2)
    x.view(len(rows), 4)[:, :3] = torch.tensor(rows)
    return x


def test_generative_predicts_the_largest_logit_and_rejects_below_the_threshold() -> None:
    x = images((0.9, 0.1, 0.2), (0.1, 0.4, 0.2), (0.3, 0.3, 0.6))
    defense = Generative(Pixels(), threshold=0.5)
    predicted, logits = defense.decide(x)
    assert predicted.tolist() == [0, 1, 2]
    assert logits.tolist() == pytest.approx([0.9, 0.4, 0.6])
    assert defense.predict(x).tolist() == [0, REJECTED, 2]
    assert Generative(Pixels()).predict(x).tolist() == [0, 1, 2]


def test_integrated_asks_the_detector_of_the_class_that_the_classifier_names() -> None:
    x = images((0.9, 0.1, 0.2), (0.1, 0.4, 0.2))
    defense = Integrated(Pixels((1, 2, 0)), Pixels(), threshold=0.25)  # f is wrong about the order
    predicted, logits = defense.decide(x)
    assert predicted.tolist() == [2, 0]
    assert logits.tolist() == pytest.approx([0.2, 0.1])
    assert defense.predict(x).tolist() == [REJECTED, REJECTED]


def test_threshold_is_accepted_itself_and_logits_keep_their_decimals() -> None:
    x = images((0.75, 0.0, 0.0), (0.7, 0.0, 0.0))
    assert Generative(Pixels(), threshold=0.75).predict(x).tolist() == [0, REJECTED]


def test_fit_uses_the_scores_of_the_images() -> None:
    x = images(*((i / 20, 0.0, 0.0) for i in range(1, 21)))
    defense = Generative(Pixels()).fit(x, 0.9)
    assert float((defense.predict(x) != REJECTED).float().mean()) == pytest.approx(0.9)


def test_they_are_defences_and_detectors_and_results_do_not_depend_on_the_batch() -> None:
    config = madry_cnn.Config(size=8, classes=1, widths=(2, 3), hidden=5)
    torch.manual_seed(0)
    bank = detectors.Detectors(detectors.Config(labels=(0, 1, 2), classes=3, member=config))
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for defense in (Generative(bank), Integrated(Pixels(), bank)):
        assert isinstance(defense, Detector)
        assert all(hasattr(defense, name) for name in ("classifier", "draws", "purify"))
        assert defense.purify(x) is x
        defense.train()
        whole = defense.decide(x)
        assert defense.training
        defense.batch = 2
        for parts, all_at_once in zip(defense.decide(x), whole, strict=True):
            assert torch.equal(parts, all_at_once)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="share"):
        Generative(Pixels()).fit(images((0.5, 0.0, 0.0)), 0.0)
    with pytest.raises(UserError, match="threshold is nan"):
        Generative(Pixels(), math.nan)
    with pytest.raises(UserError, match="at least 1 image"):
        Generative(Pixels(), batch=0)
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        Generative(Pixels()).predict(images((2.0, 0.0, 0.0)))


def test_logits_that_are_not_finite_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3] * math.nan

    x = images((0.5, 0.0, 0.0), (0.1, 0.0, 0.2))
    for defense, whose in (
        (Generative(Broken()), "detectors"),
        (Integrated(Pixels(), Broken()), "detectors"),
        (Integrated(Broken(), Pixels()), "classifier"),
    ):
        message = f"the logits of the {whose} are NaN or infinite for 2 of 2 images; train the network again"
        with pytest.raises(UserError, match=message):
            defense.predict(x)


def test_base_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Rejecting(Pixels())  # type: ignore[abstract]
