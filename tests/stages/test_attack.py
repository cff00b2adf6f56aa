from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustgen import io, models
from robustgen.data import load_split
from robustgen.stages import attack

PGD = "data/adversarial/tiny/pgd.npz"
BASE = "attack --out own/x.npz --model models/natural.safetensors --data data/images/tiny.npz --test 8"


@pytest.mark.parametrize("name", ["pgd", "pgd-strong", "apgd", "fgsm", "targeted", "he-pgd"])
@pytest.mark.usefixtures("tiny")
def test_adversarial_set_is_what_it_says(name: str) -> None:
    arrays = io.load_arrays(f"data/adversarial/tiny/{name}.npz")
    config = json.loads(str(arrays["config"]))
    found = torch.from_numpy(arrays["test_adversarial"])
    test = load_split("data/images/tiny.npz", "test")
    assert found.dtype == torch.float32
    assert np.array_equal(arrays["test_indices"], np.arange(32))
    assert float((found - test.images).abs().max()) <= config["eps"] + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert ("validation_adversarial" in arrays) is (name in ("pgd", "pgd-strong", "apgd"))
    assert ("trace_energy" in arrays) is (name in ("pgd", "he-pgd"))
    assert "norm" not in config  # files of the time when there was but one norm are made again byte for byte


@pytest.mark.usefixtures("tiny")
def test_l2_attack(succeed: Callable[[str], None]) -> None:
    succeed(f"{BASE} --out own/l2.npz --attack.name pgd --attack.norm l2 --attack.eps 0.5 --attack.alpha 0.2")
    arrays = io.load_arrays("own/l2.npz")
    assert json.loads(str(arrays["config"]))["norm"] == "l2"
    change = torch.from_numpy(arrays["test_adversarial"]) - load_split("data/images/tiny.npz", "test", limit=8).images
    assert 0.4 < float(change.flatten(1).norm(dim=1).max()) <= 0.5 * (1 + 1e-5)


@pytest.mark.usefixtures("tiny")
def test_trace_ends_where_the_images_are() -> None:
    from robustgen.models.energy import energy

    arrays = io.load_arrays(PGD)
    labels = load_split("data/images/tiny.npz", "test").labels
    with torch.no_grad():
        logits = models.load("models/natural.safetensors")(torch.from_numpy(arrays["test_adversarial"]))
    assert arrays["trace_energy"].shape == arrays["trace_correct"].shape == (9, 32)
    assert arrays["trace_energy"].dtype == np.float32
    assert arrays["trace_correct"].dtype == np.bool_
    np.testing.assert_allclose(arrays["trace_energy"][-1], energy(logits).numpy(), atol=1e-4)
    np.testing.assert_array_equal(arrays["trace_correct"][-1], (logits.argmax(1) == labels).numpy())


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("out", [PGD, "data/adversarial/tiny/apgd.npz"])
def test_batches_only_share_the_work(out: str, stage_commands: dict[str, str], succeed: Callable[[str], None]) -> None:
    succeed(f"{stage_commands[out]} --batch 32 --out own/rebatched.npz")
    one, other = io.load_arrays(out), io.load_arrays("own/rebatched.npz")
    assert one.keys() == other.keys()
    for key in ("validation_adversarial", "test_adversarial"):
        far = np.abs(one[key] - other[key]) > 1e-6
        assert far.mean() < 0.01  # a pixel whose gradient is all rounding may go either way


@pytest.mark.usefixtures("tiny")
def test_same_command_writes_the_same_bytes(stage_commands: dict[str, str], succeed: Callable[[str], None]) -> None:
    succeed(f"{stage_commands[PGD]} --out own/again.npz")
    assert Path("own/again.npz").read_bytes() == Path(PGD).read_bytes()


@pytest.mark.usefixtures("tiny")
def test_attack_chooses_its_options() -> None:
    assert attack.options_type(["--attack.name", "he_pgd"]) != attack.options_type(["--attack.name=fgsm"])
    assert attack.options_type(["--attack.name=pgd"]) == attack.options_type([])


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--attack.name cw", "unknown attack 'cw'; known are apgd, fgsm, he_pgd, pgd"),
        ("--arch vgg", "models/natural.safetensors holds a resnet10, not the vgg that was asked for"),
        ("--model models/none.safetensors", "model not found: models/none.safetensors; make it with"),
        ("--data data/images/none.npz", "array file not found: data/images/none.npz"),
        ("--device cuda:99", "device cuda:99 was asked for, but"),
        ("--device tpu", "unknown device 'tpu'; use cpu, cuda or cuda:N"),
        ("--threads 0", "threads is 0; give at least 1"),
        ("--test -3", "limit is -3"),
        ("--data own/file/wide.npz", "images are 1x16x16 with 4 classes where the model needs 1x8x8 with 4 classes"),
        ("--data own/file/damaged.npz", "own/file/damaged.npz is not a readable npz array file"),
        ("--data own/file/pickled.npz", "own/file/pickled.npz is not a readable npz array file"),
        ("--data own/file/float.npz", "images must be uint8"),
        ("--model own/file/pickled.safetensors", "only safetensors are loaded, pickles never are"),
        ("--model own/file/halved.safetensors", "is not a readable safetensors file"),
        ("--model own/file/vgg.safetensors", "unknown architecture 'vgg'"),
        ("--model own/file/narrow.safetensors", "the weights do not fit the architecture its header names"),
        ("--out own/file/vgg.safetensors/x.npz", "cannot write own/file/vgg.safetensors/x.npz"),
    ],
)
def test_what_the_user_can_mend(
    options: str, message: str, fail: Callable[[str], str], write_data: Callable[..., Path]
) -> None:
    damage(Path("own/file"), write_data)
    before = sorted(Path("own").rglob("*"))
    assert message in fail(f"{BASE} {options}")
    assert sorted(Path("own").rglob("*")) == before  # nothing half-written


def damage(folder: Path, write_data: Callable[..., Path]) -> None:
    """Data and model files that each have something wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    write_data(folder / "wide.npz", size=16)
    data = Path("data/images/tiny.npz").read_bytes()
    (folder / "damaged.npz").write_bytes(data[: len(data) // 2])
    arrays = io.load_arrays("data/images/tiny.npz")
    pickled: Any = {**arrays, "test_labels": arrays["test_labels"].astype(object)}
    np.savez(folder / "pickled.npz", **pickled)
    io.save_arrays(folder / "float.npz", {**arrays, "test_images": arrays["test_images"] / 255})
    (folder / "pickled.safetensors").write_bytes(pickle.dumps({"fc.weight": [1.0]}))
    model = Path("models/natural.safetensors").read_bytes()
    (folder / "halved.safetensors").write_bytes(model[: len(model) // 2])
    tensors, header = io.load_weights("models/natural.safetensors")
    io.save_weights(folder / "vgg.safetensors", tensors, {**header, "architecture": "vgg"})
    narrow = {**header["parameters"], "width": 2}
    io.save_weights(folder / "narrow.safetensors", tensors, {**header, "parameters": narrow})


@pytest.mark.usefixtures("tiny")
def test_read_only_folder(monkeypatch: pytest.MonkeyPatch, fail: Callable[[str], str]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    message = fail(f"{BASE} --out read-only/x.npz")
    assert "cannot write read-only/x.npz: Permission denied; check the folder's permissions and free space" in message
