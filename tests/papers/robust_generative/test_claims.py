from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from robustgen.errors import UserError
from robustgen.evaluation.rows import Claim
from robustgen.papers.robust_generative.claims import claims
from robustgen.papers.robust_generative.study import Study

MakeStudy = Callable[..., Study]
MakeInterpretation = Callable[..., dict[str, np.ndarray]]

# For every claim a world in which it is wrong.
VIOLATED: dict[str, dict[str, Any]] = {
    "pgd-lower": {"energies": {"pgd": -9.0}},
    "more-steps-lower": {"fall": -2.0},
    "fgsm-lower": {"energies": {"fgsm": -9.0}},
    "first-steps-lower": {"fall": -2.0},
    "more-steps-easier": {"fall": -2.0, "natural": -12.5},
    "larger-radius-easier": {"energies": {"pgd-strong": -13.0}},
    "separated": {"energies": {"pgd": -10.5}},
    "beats-kd-bu": {"rivals": 1.0},
    "beats-lid": {"rivals": 1.0},
    "unseen-apgd": {"energies": {"apgd": -12.5}},
    "unseen-fgsm": {"energies": {"fgsm": -12.0}},
    "he-pgd-overlaps": {"energies": {"he-pgd": -12.0}},
    "he-pgd-paper-overlaps": {"energies": {"he-pgd-paper": -8.0}},
    "he-pgd-as-effective": {"he_accuracy": 0.3},
    "he-pgd-bypasses": {"energies": {"he-pgd": -14.0}},
    "he-pgd-breaks": {"he_accuracy": 0.3},
    "he-pgd-invariant": {"he_fall": 3.0},
    "he-pgd-gradual": {"he_half": 1.0},
}
VIOLATED_INTERPRETATION = {
    "robust-gradient-density": {"robust_density": 0.1},
    "robust-gradient-alignment": {"robust_alignment": 0.05},
    "robust-synthesises": {"robust_judged": 0.02},
    "quasi-robust-synthesises": {"quasi_robust_judged": 0.02},
    "quasi-robust-is-not-robust": {"quasi_robust_robust_correct": 0.95},
    "quasi-robust-keeps-accuracy": {"quasi_robust_clean_correct": 0.8},
}


def decide(study: Study, found: dict[str, np.ndarray]) -> dict[str, Claim]:
    decided = claims(study, found)
    assert len({claim.id for claim in decided}) == len(decided)
    return {claim.id: claim for claim in decided}


def test_every_claim_holds_where_the_paper_is_right(study: MakeStudy, interpretation: MakeInterpretation) -> None:
    decided = decide(study(), interpretation())
    assert {name: claim.verdict for name, claim in decided.items()} == dict.fromkeys(
        [*VIOLATED, *VIOLATED_INTERPRETATION], "holds"
    )


@pytest.mark.parametrize("name", VIOLATED)
def test_claim_about_attacks_fails_where_it_is_wrong(
    name: str, study: MakeStudy, interpretation: MakeInterpretation
) -> None:
    assert decide(study(**VIOLATED[name]), interpretation())[name].verdict == "fails"


@pytest.mark.parametrize("name", VIOLATED_INTERPRETATION)
def test_claim_about_gradients_fails_where_it_is_wrong(
    name: str, study: MakeStudy, interpretation: MakeInterpretation
) -> None:
    assert decide(study(), interpretation(**VIOLATED_INTERPRETATION[name]))[name].verdict == "fails"


def test_few_images_decide_little(study: MakeStudy, interpretation: MakeInterpretation) -> None:
    decided = decide(study(n=12), interpretation())
    assert decided["he-pgd-breaks"].value == 0
    assert decided["he-pgd-breaks"].verdict == "not decided"


def test_every_claim_has_a_source_and_an_interval_around_its_value(
    study: MakeStudy, interpretation: MakeInterpretation
) -> None:
    for claim in decide(study(), interpretation()).values():
        assert claim.value is not None
        assert claim.low is not None
        assert claim.high is not None
        assert claim.low <= claim.value <= claim.high
        assert claim.n
        assert claim.source


def without(study: Study, *gone: str) -> Study:
    return Study(study.name, {key: value for key, value in study.arrays.items() if not any(g in key for g in gone)})


def test_what_was_not_measured_is_not_claimed(study: MakeStudy, interpretation: MakeInterpretation) -> None:
    full = study()
    missing = {"he-pgd-paper-overlaps", "beats-kd-bu", "beats-lid"}
    part = decide(without(full, "he-pgd-paper", "kd-bu", "lid"), interpretation())
    assert set(decide(full, interpretation())) - set(part) == missing


def test_an_attack_that_the_claims_need_is_named(study: MakeStudy, interpretation: MakeInterpretation) -> None:
    with pytest.raises(UserError, match="digits32 was not scored under apgd; add them"):
        decide(without(study(), "logits.apgd"), interpretation())
