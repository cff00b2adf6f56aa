from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustgen import cli, io, models
from robustgen.data import load_split
from robustgen.errors import UserError
from robustgen.evaluation import fid
from robustgen.stages import dynamics
from robustgen.training.snapshots import Snapshot, save_snapshots

BASE = (
    "--data data.npz --ebm ebm.safetensors --classifier classifier.safetensors --samples 3 --long-steps 30 "
    "--steady-steps 30 --energy-images 6 --lyapunov-chains 4 --lyapunov-burn-in 5 --lyapunov-steps 20 --fid-images 10 "
    "--fid-resamples 4 --timed-steps 1 --timed-repetitions 1 --timed-images 3 --batch 4 --seed 1"
)
PARTS = (
    "--snapshots snapshots.safetensors --adversarial pgd.npz --twin twin.safetensors --jem jem.safetensors "
    "--igebm igebm.safetensors --etas 0.5 1 2 --fid-steps 0 10 30"
)


def network(path: str, **parameters: Any) -> Any:
    """Save an untrained network for 1x8x8 images."""
    with torch.random.fork_rng():
        torch.manual_seed(len(path))
        config = models.config_type(parameters["arch"])(**{"size": 8, "channels": 1, **parameters})
        model: Any = models.build(config)
    models.save(path, model)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]) -> Path:
    """A folder with everything that the stage reads."""
    root = tmp_path_factory.mktemp("dynamics")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_data(Path("data.npz"))
        network("classifier.safetensors", arch="resnet10", width=2, classes=4, mean=(0.3,), std=(0.3,))
        network("twin.safetensors", arch="nijkamp", width=2, tau=0.05)
        network("jem.safetensors", arch="jem", depth=10, widen=1, base=2, classes=4)
        network("igebm.safetensors", arch="igebm", width=2, classes=4)
        ebm = network("ebm.safetensors", arch="nijkamp", width=2, tau=0.05)
        bank = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
        kept = [Snapshot(k, phase, ebm.state_dict(), bank * k / 9) for k, phase in ((4, "adam"), (9, "sgd"))]
        save_snapshots("snapshots.safetensors", ebm.config, kept)
        test = load_split("data.npz", "test").images[[3, 1, 4, 1, 5, 9, 2, 6]]
        io.save_arrays(
            "pgd.npz",
            {
                "test_adversarial": (test + 0.05).clamp(0, 1).numpy(),
                "test_indices": np.array([3, 1, 4, 1, 5, 9, 2, 6]),
                "config": np.array(json.dumps({"eps": 0.05, "norm": "linf"})),
            },
        )
    return root


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, np.ndarray]]:
    """run(options): the stage's arrays."""
    monkeypatch.chdir(folder)

    def stage(options: str) -> dict[str, np.ndarray]:
        cli.run("dynamics", [*shlex.split(f"{BASE} --out out/x.npz"), *shlex.split(options)])
        return io.load_arrays("out/x.npz")

    return stage


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cli.run("dynamics", shlex.split(f"{BASE} {PARTS} --out full.npz"))
        return io.load_arrays("full.npz")


def test_shapes_and_types(found: dict[str, np.ndarray]) -> None:
    image = (1, 8, 8)
    shapes = {
        "snapshot_updates": ("int64", (2,)),
        "short_samples": ("float32", (2, 3, *image)),
        "long_samples": ("float32", (2, 3, *image)),
        "energy_natural": ("float32", (6,)),
        "energy_adversarial": ("float32", (6,)),
        "energy_perturbed": ("float32", (6,)),
        "energy_noise": ("float32", (6,)),
        "etas": ("float64", (3,)),
        "lyapunov": ("float64", (3, 4)),
        "lyapunov_distances": ("float64", (3,)),
        "lyapunov_by_distance": ("float64", (3, 3, 4)),
        "lyapunov_counted": ("int64", (3, 4)),
        "eta_samples": ("float32", (3, 3, *image)),
        "fid_steps": ("int64", (3,)),
        "fid_convergent": ("float64", (3, 3)),
        "fid_nonconvergent": ("float64", (3, 3)),
        "fid_floor": ("float64", (3,)),
    }
    for model in ("ours", "twin", "igebm", "jem"):
        shapes[f"steady_{model}"] = ("float32", (3, *image))
        shapes[f"diverged_{model}"] = ("int64", (3,))
        shapes[f"parameters_{model}"] = ("int64", ())
    for model in ("ours", "ours_autograd", "igebm", "jem"):
        shapes[f"ms_per_step_{model}"] = ("float64", ())
    assert {name: (str(found[name].dtype), found[name].shape) for name in shapes} == shapes
    assert set(found) - set(shapes) == {"snapshot_phase", "fid_features", "config"}
    assert all(np.isfinite(found[name]).all() for name in shapes)
    assert json.loads(str(found["config"]))["ebm"] == "ebm.safetensors"


def test_samples_along_training(found: dict[str, np.ndarray], folder: Path) -> None:
    assert found["snapshot_updates"].tolist() == [4, 9]
    assert found["snapshot_phase"].tolist() == ["adam", "sgd"]
    bank = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy() * 2 - 1
    np.testing.assert_allclose(found["short_samples"][1], (bank[:3] + 1) / 2, atol=1e-6)
    assert np.abs(found["long_samples"] - found["short_samples"]).mean() > 0.05  # 30 steps of τ/2 = 0.025


def test_energies_are_of_the_same_images(found: dict[str, np.ndarray], folder: Path) -> None:
    model: Any = models.load(folder / "ebm.safetensors")
    x = load_split(folder / "data.npz", "test").images[[3, 1, 4, 1, 5, 9]]
    with torch.no_grad():
        for name, images in (("natural", x), ("adversarial", (x + 0.05).clamp(0, 1))):
            expected = model.scaled_energy(2 * images - 1).numpy() / (0.05**2 / 2)
            np.testing.assert_allclose(found[f"energy_{name}"], expected, rtol=1e-4)
    assert found["energy_natural"][1] == pytest.approx(found["energy_natural"][3])
    assert found["energy_perturbed"][1] != found["energy_perturbed"][3]  # own random signs


def test_fid_starts_at_the_floor(found: dict[str, np.ndarray]) -> None:
    for name in ("fid_convergent", "fid_nonconvergent"):
        np.testing.assert_allclose(found[name][0], found["fid_floor"], rtol=1e-3)
        assert (found[name][:, 1] <= found[name][:, 0]).all()
        assert (found[name][:, 0] <= found[name][:, 2]).all()
    assert not np.allclose(found["fid_convergent"][1:], found["fid_nonconvergent"][1:])
    assert str(found["fid_features"]) == "penultimate layer of our resnet10 classifier"


def test_exponents(found: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(found["lyapunov"], found["lyapunov_by_distance"][0])
    assert (found["lyapunov_counted"] == 20).all()
    spread = found["eta_samples"].std((1, 2, 3, 4))
    assert spread[0] < spread[1] < spread[2]


def test_sizes_of_the_models(found: dict[str, np.ndarray], folder: Path) -> None:
    count = sum(tensor.numel() for tensor in io.load_weights(folder / "ebm.safetensors")[0].values())
    assert found["parameters_ours"] == count
    assert all(found[f"ms_per_step_{model}"] > 0 for model in ("ours", "igebm", "jem"))


def test_results_repeat_but_for_the_times(
    found: dict[str, np.ndarray], run: Callable[[str], dict[str, np.ndarray]]
) -> None:
    again = run(PARTS)
    for name in set(found) - {"config"}:
        if not name.startswith("ms_per_step"):
            np.testing.assert_array_equal(found[name], again[name])


def test_parts_that_were_not_asked_for_are_left_out(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    arrays = run("--twin '' --jem '' --igebm '' --snapshots '' --adversarial ''")
    ours = {f"{what}_ours" for what in ("steady", "diverged", "ms_per_step", "parameters")}
    assert set(arrays) == {"config", *ours, "ms_per_step_ours_autograd"}
    arrays = run("--fid-steps 5 --etas 1")
    assert "fid_nonconvergent" not in arrays
    assert arrays["lyapunov"].shape == (1, 4)  # from training images, where there is no bank


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--etas 1 0.5", "etas are .* in ascending order"),
        ("--fid-steps 3 3", "fid_steps are .* different"),
        ("--timed-steps 0 --samples 0", "samples is 0, timed_steps is 0"),
        ("--lyapunov-burn-in -1", "lyapunov_burn_in is -1"),
        ("--fid-steps 0 --fid-images 33", "fid_images is 33, but data.npz holds 64 training images"),
        ("--ebm classifier.safetensors", "which has no energy"),
        ("--jem classifier.safetensors", "which has no energy"),
        ("--ebm none.safetensors", "not found"),
        ("--snapshots ebm.safetensors", "no file of training snapshots"),
        ("--adversarial data.npz", "holds no array"),
        ("--fid-steps 0 --fid-features inception --inception none.pth", "Inception weights not found: none.pth"),
        ("--fid-steps 0 --classifier ebm.safetensors", "shows no features"),
    ],
)
def test_errors(options: str, message: str, run: Callable[[str], dict[str, np.ndarray]]) -> None:
    with pytest.raises(UserError, match=message):
        run(options)


def test_adversarial_set_of_other_images(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    arrays = io.load_arrays("pgd.npz")
    io.save_arrays("other.npz", arrays | {"test_indices": arrays["test_indices"] + 1000})
    with pytest.raises(UserError, match=r"other\.npz was not made from data\.npz"):
        run("--adversarial other.npz")


def test_a_perturbation_is_as_large_as_an_l2_attacks(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    config = np.array(json.dumps({"eps": 0.8, "norm": "l2"}))
    io.save_arrays("l2.npz", io.load_arrays("pgd.npz") | {"config": config})
    options = dynamics.Options(
        data=Path("data.npz"),
        ebm=Path("ebm.safetensors"),
        classifier=Path("classifier.safetensors"),
        out=Path("x.npz"),
        long_steps=1,
        steady_steps=1,
    )
    assert dynamics.attacked_images(options, Path("l2.npz"))[2] == pytest.approx(0.8 / math.sqrt(64))
    assert dynamics.attacked_images(options, Path("pgd.npz"))[2] == 0.05


def test_inception_where_its_weights_are(
    run: Callable[[str], dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="no Inception weights here"):
        run("--fid-steps 0 --fid-features inception")
    assert str(run("--fid-steps 0 --fid-features auto")["fid_features"]).startswith("penultimate layer")

    def stub(path: Path, device: str) -> fid.Extractor:
        return fid.Extractor(path.name, lambda x: x.flatten(1)[:, :5])

    monkeypatch.setattr(fid, "inception_features", stub)
    Path("weights.pth").touch()
    assert str(run("--fid-steps 0 --fid-features auto --inception weights.pth")["fid_features"]) == "weights.pth"


def test_our_model_must_not_diverge(run: Callable[[str], dict[str, np.ndarray]]) -> None:
    tensors, header = io.load_weights("ebm.safetensors")
    io.save_weights("wild.safetensors", {name: tensor * 1e20 for name, tensor in tensors.items()}, header)
    with pytest.raises(UserError, match="chains of ours: states are no longer finite after 25 Langevin steps"):
        run("--ebm wild.safetensors")
    arrays = run("--igebm wild.safetensors")
    assert (arrays["diverged_igebm"] == 25).all()
    assert np.isfinite(arrays["steady_igebm"]).all()
