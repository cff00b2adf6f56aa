from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from robustgen import io, models
from robustgen.errors import UserError
from robustgen.models.nijkamp import Config
from robustgen.models.wide_resnet import Config as Wide
from robustgen.training.snapshots import Snapshot, load_snapshots, save_snapshots

CONFIG = Config(size=8, channels=1, width=2, tau=0.05)


def snapshot(update: int, phase: str = "adam", config: object = CONFIG) -> tuple[Snapshot, nn.Module]:
    torch.manual_seed(update)
    model = models.build(config)
    return Snapshot(update, phase, model.state_dict(), torch.rand(3, 1, 8, 8)), model.eval()


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    (late, _), (early, network) = snapshot(120, "sgd"), snapshot(9)
    save_snapshots(tmp_path / "s.safetensors", CONFIG, [late, early])
    found = load_snapshots(tmp_path / "s.safetensors")
    assert found.config == CONFIG
    assert [(s.update, s.phase) for s in found.snapshots] == [(9, "adam"), (120, "sgd")]
    torch.testing.assert_close(found.snapshots[0].bank, early.bank, atol=0, rtol=0)
    v = torch.rand(4, 1, 8, 8)
    model = found.model(found.snapshots[0])
    assert not model.training
    torch.testing.assert_close(model(v), network(v))


def test_header_names_the_network_and_the_snapshots(tmp_path: Path) -> None:
    save_snapshots(tmp_path / "s.safetensors", CONFIG, [snapshot(5)[0]])
    tensors, header = io.load_weights(tmp_path / "s.safetensors")
    assert header["architecture"] == "nijkamp"
    assert header["parameters"]["tau"] == 0.05
    assert header["snapshots"] == [{"update": 5, "phase": "adam"}]
    assert {"5/bank", "5/head.weight"} <= set(tensors)


def test_tuples_survive_and_no_snapshot_is_fine(tmp_path: Path) -> None:
    config = Wide(size=8, channels=1, classes=4, depth=10, widen=1, base=2, mean=(0.3,), std=(0.3,))
    save_snapshots(tmp_path / "s.safetensors", config, [snapshot(1, config=config)[0]])
    found = load_snapshots(tmp_path / "s.safetensors")
    assert found.config == config
    found.model(found.snapshots[0])
    save_snapshots(tmp_path / "none.safetensors", CONFIG, [])
    assert load_snapshots(tmp_path / "none.safetensors").snapshots == ()


def test_another_file(tmp_path: Path) -> None:
    models.save(tmp_path / "model.safetensors", models.build(CONFIG))
    with pytest.raises(UserError, match="no file of training snapshots"):
        load_snapshots(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="not found"):
        load_snapshots(tmp_path / "none.safetensors")


@pytest.mark.parametrize("missing", ["bank", "weight"])
def test_a_file_with_a_part_missing(missing: str, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_snapshots(path, CONFIG, [snapshot(5)[0]])
    tensors, header = io.load_weights(path)
    io.save_weights(path, {k: v for k, v in tensors.items() if missing not in k}, header)
    if missing == "bank":
        with pytest.raises(UserError, match="no file of training snapshots"):
            load_snapshots(path)
    else:
        found = load_snapshots(path)
        with pytest.raises(UserError, match="snapshot 5: the weights do not fit a nijkamp"):
            found.model(found.snapshots[0])
