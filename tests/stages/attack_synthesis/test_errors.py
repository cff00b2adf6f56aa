from __future__ import annotations

from pathlib import Path

import pytest

from robustgen.errors import UserError

from .conftest import AAE, CNN, PGD, Stage

STAGE = "attack-synthesis"


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        (CNN, "--attack fgsm", "unknown attack 'fgsm'; known are pgd, deepfool"),
        (CNN, "--attack ddn", "ddn is an attack in l2, not linf"),
        (CNN, "--attack", "attack has 0"),
        (CNN, "--eps", "eps has 0"),
        (
            CNN,
            "--attack pgd ddn --norm linf l2 --eps 0.1 0.2 0.3",
            "belong together, but attack has 2, norm has 2, eps",
        ),
        (CNN, "--steps 1 2 --eps 0.1 0.2 0.3", "steps has 2; give each 3 values, or one"),
        (CNN, "--eps -0.1", "an attack needs eps >= 0"),
        (CNN, "--attack deepfool --eps -0.1", "an attack needs eps >= 0"),
        (CNN, "--restarts 0", "restarts >= 1"),
        (CNN, "--steps 0", "an attack needs steps"),
        (CNN, "--draws 0", "draws >= 1"),
        (CNN, "--follow -1", "an attacker needs follow >= 0"),
        (CNN, "--details.queries 3", "an even number of queries"),
        (CNN, "--batch 0", "batch is 0"),
        (CNN, "--runs 0", "runs 0"),
        (CNN, "--shown -1", "shown -1"),
        (CNN, "--starts -1", "starts -1"),
        (CNN, "--images 33", "data.npz holds 32 test images, not the 33"),
        (CNN, "--data wide.npz", "wide.npz: images are 1x16x16"),
        (AAE, "--data wide.npz", "wide.npz: images are 1x16x16"),
        (CNN, "--data none.npz", "array file not found: none.npz; make it with"),
        (CNN, "--model none.safetensors", "model not found: none.safetensors; make it with"),
        (CNN, "--arch aae", "cnn.safetensors holds a encoder_cnn, not the aae"),
        (CNN, "--bound", "ε* is a bound of autoencoders, but cnn.safetensors holds a encoder_cnn; leave it out"),
        (CNN, "--model madry.safetensors --bound", "madry.safetensors holds a madry_cnn; leave it out"),
        (CNN, "--attack latent-descent", "latent-descent is an attack on autoencoders, but cnn.safetensors"),
        (AAE, "--model unrecorded.safetensors", "does not say with which beta and cost it was trained; make it with"),
        (AAE, "--inference.candidates 0", "inference needs candidates"),
        (CNN, "--model spoilt-cnn.safetensors", "logits are NaN or infinite for 3 of 3 images; train"),
        (AAE, "--model spoilt-aae.safetensors", "are NaN or infinite for"),
        (AAE, "--model spoilt-aae.safetensors --bound", "are NaN or infinite for"),
    ],
)
def test_what_the_user_can_mend(base: str, options: str, message: str, run: Stage) -> None:
    with pytest.raises(UserError) as caught:
        run(f"{base} {PGD} {options}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.npz").exists()
