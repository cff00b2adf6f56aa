from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustgen.io import save_arrays
from robustgen.papers.robust_generative.study import Study, load_study

MakeStudy = Callable[..., Study]


def test_energy_is_minus_logsumexp() -> None:
    logits = np.array([[1e4, 0.0], [0.0, 0.0]], dtype=np.float32)
    study = Study("x", {"natural-logits.pgd": logits, "logits.pgd": logits[::-1]})
    np.testing.assert_allclose(study.natural_energy(), [-1e4, -np.log(2)])
    np.testing.assert_allclose(study.energy("pgd"), [-np.log(2), -1e4])


def test_names_and_attacks(study: MakeStudy) -> None:
    assert study("cifar10").dataset == "CIFAR-10"
    assert study("mine").dataset == "mine"
    assert study().attacks == ["pgd", "pgd-strong", "apgd", "fgsm", "targeted", "he-pgd", "he-pgd-paper"]


def test_flagged_is_at_or_below_the_threshold() -> None:
    arrays = {
        "natural-score.energy.pgd.apgd": np.array([1.0]),
        "score.energy.pgd.apgd": np.array([-2.0, -1.0, 0.0]),
        "threshold.energy.pgd": np.array(-1.0),
    }
    study = Study("x", arrays)
    assert study.flagged("energy", "pgd", "apgd").tolist() == [True, True, False]
    assert study.has("energy", "pgd", "apgd")
    assert not study.has("lid", "pgd", "apgd")


@pytest.mark.parametrize(
    ("attack", "text"),
    [
        ("pgd", "PGD, eps 16/255, step 2/255, 10 steps, seed 0"),
        ("pgd-strong", "PGD, eps 32/255, step 2/255, 10 steps, seed 0"),
        ("apgd", "APGD, eps 16/255, 10 steps, seed 0"),
        ("fgsm", "FGSM, eps 16/255, seed 0"),
        ("targeted", "PGD, eps 16/255, step 2/255, 10 steps, random target, seed 0"),
        ("he-pgd", "HE-PGD, eps 16/255, step 2/255, 10 steps, λ 0.9, seed 0"),
    ],
)
def test_attack_in_words(study: MakeStudy, attack: str, text: str) -> None:
    assert study().method(attack) == text


def test_study_comes_back_from_its_file(tmp_path: Path, study: MakeStudy) -> None:
    save_arrays(tmp_path / "digits32.npz", study().arrays)
    loaded = load_study(tmp_path, "digits32")
    assert loaded.method("pgd") == study().method("pgd")
    np.testing.assert_array_equal(loaded.energy("pgd"), study().energy("pgd"))
