from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from robustgen import models
from robustgen.data import load_split
from robustgen.defenses.detectors import fit_threshold
from robustgen.io import load_arrays
from robustgen.models.energy import energy

OUT = "data/detection/tiny.npz"


@pytest.mark.usefixtures("tiny")
def test_energy_scores_and_threshold() -> None:
    arrays, pgd = load_arrays(OUT), load_arrays("data/adversarial/tiny/pgd.npz")
    model = models.load("models/natural.safetensors")
    test, validation = (load_split("data/images/tiny.npz", split) for split in ("test", "validation"))

    def energies(images: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return energy(model(images)).numpy()

    natural, attacked = energies(test.images), energies(torch.from_numpy(pgd["test_adversarial"]))
    np.testing.assert_allclose(arrays["natural-score.energy.pgd.pgd"], natural, atol=1e-4)
    np.testing.assert_allclose(arrays["score.energy.pgd.pgd"], attacked, atol=1e-4)
    expected = fit_threshold(
        energies(validation.images), energies(torch.from_numpy(pgd["validation_adversarial"])), "g-mean"
    )
    assert float(arrays["threshold.energy.pgd"]) == pytest.approx(expected, abs=1e-4)
    assert float(arrays["temperature.energy.pgd"]) == 1


@pytest.mark.usefixtures("tiny")
def test_every_combination_is_there() -> None:
    arrays, natural = load_arrays(OUT), load_split("data/images/tiny.npz", "test").images.numpy()
    attacks = ("pgd", "pgd-strong", "apgd", "fgsm", "targeted", "he-pgd")
    for attack in attacks:
        assert arrays[f"logits.{attack}"].shape == arrays[f"natural-logits.{attack}"].shape == (32, 4)
        assert arrays[f"labels.{attack}"].shape == (32,)
        found = load_arrays(f"data/adversarial/tiny/{attack}.npz")["test_adversarial"]
        moved = (found != natural).any((1, 2, 3))
        np.testing.assert_array_equal(arrays[f"changed.{attack}"], moved)
        for detector in ("energy", "energy-released", "kd-bu", "lid"):
            for fit in ("pgd", "pgd-strong", "apgd"):
                assert np.isfinite(arrays[f"score.{detector}.{fit}.{attack}"]).all()
    np.testing.assert_array_equal(
        arrays["trace_energy.pgd"], load_arrays("data/adversarial/tiny/pgd.npz")["trace_energy"]
    )
    assert "trace_energy.fgsm" not in arrays


@pytest.mark.usefixtures("tiny")
def test_same_command_writes_the_same_bytes(stage_commands: dict[str, str], succeed: Callable[[str], None]) -> None:
    succeed(f"{stage_commands[OUT]} --out own/detection.npz")
    assert Path("own/detection.npz").read_bytes() == Path(OUT).read_bytes()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--detectors energy sonar", "unknown detector sonar; known are energy, energy-released, kd-bu, lid"),
        ("--fit fgsm", "fgsm.npz holds no validation images, so no detector can be fitted on it"),
        ("--attacks pgd cw", "array file not found: data/adversarial/tiny/cw.npz"),
        ("--data own/wide.npz", "images are 1x16x16 with 4 classes where the model needs 1x8x8"),
    ],
)
def test_what_the_user_can_mend(
    options: str,
    message: str,
    stage_commands: dict[str, str],
    fail: Callable[[str], str],
    write_data: Callable[..., Path],
) -> None:
    write_data(Path("own/wide.npz"), size=16)
    assert message in fail(f"{stage_commands[OUT]} --out own/none.npz {options}")
    assert not Path("own/none.npz").exists()
